"""Messages of the Dispatcher, a job (Polecat), the Witness and the Mayor."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.choices import DecisionKind as DecisionKind
from models.ledger.records import Bead, JobRow, JobState, MergeRequest, Rig
from models.mayor.mail import Message
from models.settings import Settings

# --- a rig's long-lived workflows ------------------------------------------------------------


class RigName(Frozen):
    """The least that a rig's long-lived workflow starts from; its state adds defaults."""

    rig: str


class RigFacts(Frozen):
    """What a rig's long-lived workflow reads from the record each cycle."""

    rig: Rig
    settings: Settings
    hosts: tuple[str, ...]


# --- slinging -------------------------------------------------------------------------------


class AttemptNote(Frozen):
    """What was said about an earlier attempt; goes into the next attempt's task file."""

    attempt: int
    kind: str
    """agent_died, agent_unresponsive, merge_failed, rework_request, work_refused, reassigned, told"""
    text: str


class SlingRequest(Frozen):
    bead: str
    rig: str
    agent: str | None = None


class SlingResult(Frozen):
    bead: str
    workflow_id: str
    state: JobState
    note: str = ""
    """why its workflow does not run yet, and what comes of it"""


class JobOrder(Frozen):
    """An order about a job, through the dispatcher: cancel, retry, reassign or rebuild."""

    bead: str
    reason: str = ""


class UnfinishedJob(Frozen):
    """What the record has of a job that is not over."""

    row: JobRow
    attempts_before: int = 0
    """the highest attempt of earlier jobs of the bead"""
    merge_request: MergeRequest | None = None
    """the newest that is queued"""
    notes: tuple[AttemptNote, ...] = ()
    """what was said about its attempts, one line each"""
    sent_back: tuple[Message, ...] = ()
    """the Refinery's letters about those of its attempts whose work was sent back, oldest first"""


class Admission(Frozen):
    """What the ledger says of a bead that shall be worked on."""

    bead: Bead
    rig: Rig
    agent: str
    settings: Settings
    highest_attempt: int
    highest_sequence: int = 0
    """the highest sequence that the record holds for `highest_attempt`"""
    open_dependencies: tuple[str, ...] = ()
    landed_before: str | None = None
    """the commit that landed an earlier job of this bead, which was opened anew since"""
    cleared: MergeRequest | None = None
    """handed in as it is, without an agent: its change was taken out of the merge queue by a person, or it lands an
    integration branch"""
    unfinished: UnfinishedJob | None = None
    """a job of the bead that the record knows and that may have no workflow any more: it goes on where it was"""
    waited_for_room: bool = False
    """it was slung before, when its Dispatcher had no room, and waits in the record"""

    @property
    def needs_slot_alone(self) -> bool:
        """A slot is all that its job waits for: it is a new one, with an agent, and its dependencies are closed."""
        return self.unfinished is None and self.cleared is None and not self.open_dependencies

    def homeless(self) -> Admission:
        """The same, where another job has the polecat of its unfinished one by now."""
        known = self.unfinished
        if known is None:
            return self
        row = known.row.model_copy(update={"polecat": None, "host": None})
        return self.model_copy(update={"unfinished": known.model_copy(update={"row": row})})


# --- slots (between the Dispatcher and jobs) --------------------------------------------------


class SlotRequest(Frozen):
    """A job asks for a living session. `polecat`/`host` are set when it keeps its worktree."""

    bead: str
    priority: int
    rework: bool
    polecat: str | None = None
    host: str | None = None
    avoid_polecat: str | None = None
    """after a reassignment: not this one again"""
    avoid_host: str | None = None
    """after a reassignment: another host if there is one"""
    attempt: int = 0
    """the attempt that shall be started; the grant repeats it, so that a late one is known as such"""
    rig_known: str = ""
    """where the job takes its rig to be (`Rig.whereabouts`): one that is wrong is told"""


class SlotGrant(Frozen):
    polecat: str
    host: str
    attempt: int = 0


class StartJob(Frozen):
    """A bead shall be worked on, and what its Dispatcher knows of that (activity `start_job`)."""

    sling: SlingRequest
    key: str
    """the same in every repeat of this start, one after a reset of the Dispatcher included, and in no other"""
    slot: SlotGrant | None = None
    """with which the job begins where it needs nothing else; its attempt is not known yet"""
    room: int | None = None
    """bytes that the Dispatcher can carry of it; None: it is started at any rate"""
    ending: bool = False
    """its last job has said that it ends: it is waited for"""
    goes_on: bool | None = None
    """a job that the record knows as unfinished goes on: with its polecat, or without; None: only tell of it"""


class JobBegin(Frozen):
    """What a job's workflow is started with; the rest of its state is at the defaults."""

    admission: Admission
    grant: SlotGrant | None = None


class JobStarted(Frozen):
    """The answer of `start_job`."""

    admission: Admission
    runs: bool = False
    """the job's workflow; False: there is no room, or an unfinished job is known"""
    new: bool = False
    """it was started by this, or by an earlier try of it; False: it ran already"""
    slot: SlotGrant | None = None
    """what a new one began with: of an earlier try perhaps another than this one's"""


class Restraint(Frozen):
    """What a Witness holds its rig's dispatcher to (signal `restrain`).

    Always the whole of it, so that a lost, late or doubled one cannot matter for long.
    """

    braked: str = ""
    """why no session may be started; "": they may"""
    probes: int = 0
    """sessions that may be started all the same, counted from when the brake was pulled"""
    lost_hosts: tuple[str, ...] = ()
    """nothing is placed there, and jobs there move to another host where there is one"""


class HostLost(Frozen):
    """Signal `host_lost` of a job: its host is gone and there is another one to go on at."""

    host: str


class RigChanged(Frozen):
    """Signal `rig_changed` of a job: its rig's URL or branch is another one from now on."""

    rig: Rig


class SlotReleased(Frozen):
    """A job's session is over for now."""

    bead: str
    attempt: int
    state: JobState
    polecat_kept: bool = True
    """False: its host was lost, so that name and worktree there are no longer the job's"""


class JobEnded(Frozen):
    bead: str
    state: JobState


class DispatchFacts(RigFacts):
    """What a dispatcher's cycle reads from the record."""

    open_dependencies: dict[str, tuple[str, ...]]
    """for each bead asked about: those of its dependencies that are not closed"""
    waiting: tuple[str, ...] = ()
    """beads that were slung when there was no room, urgent ones first; no more than were asked for"""
    jobs: tuple[JobRow, ...] = ()
    """that are not over, where they were asked for"""


class DispatchFactsRequest(Frozen):
    rig: str
    beads: tuple[str, ...]
    waiting: int = 0
    """how many of those that wait for room are asked for"""
    jobs: bool = False
    """tell of the rig's jobs that are not over: a Dispatcher may have been reset to before it knew of them"""


class DispatchJob(Frozen):
    """One job as its dispatcher sees it."""

    bead: str
    polecat: str | None = None
    host: str | None = None
    holds_slot: bool = False
    waits_for: str = ""


class DispatchStatus(Frozen):
    """Answer of the Dispatcher's query `status`."""

    rig: str
    paused: bool
    pause_reason: str = ""
    braked: str = ""
    """why restarts are paused; "": they are not"""
    max_polecats: int
    jobs: tuple[DispatchJob, ...] = ()


class WorkflowIds(Frozen):
    """A question (which of these run?) and its answer (these)."""

    ids: tuple[str, ...] = ()


# --- a job ------------------------------------------------------------------------------------


class ObservationKind(StrEnum):
    DIED = "died"
    """pane, session or tmux server gone"""
    DONE = "done"
    """`gt done` was run"""
    HELP = "help"
    """`gt escalate` was run in the session"""
    STALE = "stale"
    """heartbeat too old: marked, nothing else yet"""
    RECOVERED = "recovered"
    """was stale or stuck and works again"""
    UNRESPONSIVE = "unresponsive"
    """stale beyond the grace, or too long a session: to be restarted"""
    STUCK = "stuck"
    """no progress, or waiting for input: HELP for a person"""


class DoneStatus(StrEnum):
    COMPLETED = "completed"
    BLOCKED = "blocked"
    DEFERRED = "deferred"
    NOTHING_TO_DO = "nothing-to-do"
    """the bead needs no code; `detail` says why"""


class Observation(Frozen):
    """One fact about one attempt, as seen on its host. Older attempts' facts are dropped."""

    bead: str
    polecat: str
    host: str
    attempt: int
    kind: ObservationKind
    detail: str = ""
    """died: last lines of the pane; help: what was asked"""
    exit_code: int | None = None
    done_status: DoneStatus | None = None
    head_sha: str | None = None
    intent: str = ""
    """help: the name of the intent file, so that it can be removed once taken"""
    shared_cause: bool = False
    """died: not alone, but with everything of its host, as when the tmux server ends or the host reboots"""
    setup_failed: bool = False
    """died: no agent was started, because worktree.setup failed; the detail's first line says how"""
    limited: str = ""
    """died: the words with which its program told of a usage limit"""
    limited_until: datetime | None = None
    """when that is over, where it was named"""
    hold: bool = False
    """died, unresponsive: restarts are paused, so the slot is given back and asked for again"""
    episode: str = ""
    """stale, recovered, unresponsive, stuck: which accusation; a verdict that recurs has another"""


class VerdictKind(StrEnum):
    MERGED = "merged"
    FAILED = "failed"
    """a gate blames the change: MERGE_FAILED"""
    CONFLICT = "conflict"
    """the change does not apply: REWORK_REQUEST"""
    RETURNED = "returned"
    """the queue was cleared, or the branch is gone"""


class Verdict(Frozen):
    """What became of a merge request."""

    merge_request: str
    bead: str
    attempt: int
    kind: VerdictKind
    merged_sha: str | None = None
    base_sha: str | None = None
    gate: str | None = None
    files: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    """conflict: the beads that changed those files on the target"""
    detail: str = ""
    """last lines of the log, or git's words"""
    log_path: str | None = None
    cleared: bool = False
    """returned: a person cleared the queue; nothing is wrong with the change"""
    gone: bool = False
    """returned: the branch, or the submitted commit, is not on the remote any more"""
    already_there: bool = False
    """merged: the target held the content before; `merged_sha` is the commit of the target that has it"""
    submitted_at: datetime | None = None
    """returned: which handing in of the request this answers; None: any"""
    host: str | None = None
    """merged: a host that has the commit; who checks the verdict asks there where no other host is nearer"""


class Decision(Frozen):
    """A decision of the Mayor or of a person about a job."""

    kind: DecisionKind
    reason: str = ""
    escalation: str | None = None
    """what it answers; None: nothing was asked, somebody gave an order"""
    tellings: tuple[str, ...] = ()
    """under which further ids the same fault was told"""
    opened_at: datetime | None = None
    """when the escalation was; None: not known"""
    by_person: bool = True
    """False: the Mayor's own, which gives no agent more runs than it has left"""


class JobStatus(Frozen):
    """Answer of the query `status` of a job."""

    bead: str
    rig: str
    state: JobState
    attempt: int
    polecat: str | None
    host: str | None
    branch: str
    head_sha: str | None
    merged_sha: str | None
    restarts: int
    reworks: int
    waits_for: str
    unrecorded: int
    """writes that the ledger has not taken yet"""
    health: str = ""
    """`stale` or `stuck` while the running attempt is"""


class JobResult(Frozen):
    bead: str
    state: JobState
    merged_sha: str | None = None
    attempt: int = 0


# --- the Witness ------------------------------------------------------------------------------


class WorkStarted(Frozen):
    bead: str
    polecat: str
    host: str
    attempt: int
    session: bool = True
    """False: the session is about to be started"""


class WorkEnded(Frozen):
    bead: str
    attempt: int


class WitnessStatus(Frozen):
    """Answer of the Witness's query `status`. Ages are by bead, in seconds, as of `surveyed_at`."""

    rig: str
    hosts: tuple[str, ...] = ()
    living: tuple[str, ...] = ()
    heartbeat_age_s: dict[str, float] = Field(default_factory=dict)
    progress_age_s: dict[str, float] = Field(default_factory=dict)
    surveyed_at: datetime | None = None
    health: dict[str, str] = Field(default_factory=dict)
    """by bead: the last verdict, a HealthKind"""
    stopped: bool = False
    """by a person's word; nothing is watched"""
    braked: str = ""
    """why restarts are paused; "": they are not"""
    lost_hosts: tuple[str, ...] = ()
    deacon_silent_s: float = 0.0
    """how long the Deacon has left pings unanswered, counted while this Witness ran"""
