"""What a job carries from run to run."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from models import names
from models.job.messages import Admission, AttemptNote, Decision, JobStatus, Observation, SlotGrant, Verdict
from models.ledger.records import JobState, JobWrite, MergeRequest, Rig, TargetBase
from policies.job.restarts import RestartBudget
from policies.job.runs import Spent

NOTES_KEPT = 10
SETTLED_KEPT = 100
"""escalations that are known to be over"""
BASES_KEPT = 10
NOTE_LENGTH = 4000
"""characters of what was said about one attempt; more is in the evidence and the logs on disk"""


class PolecatState(BaseModel):
    """Everything that a PolecatWorkflow knows. Given `admission` alone it is a new job.

    Unlike what crosses a boundary it is changed in place: its workflow is its only holder, and so
    the type checker sees every change.
    """

    model_config = ConfigDict(extra="ignore")

    admission: Admission
    state: JobState = JobState.WAITING
    waits_for: str = ""
    started_at: datetime | None = None
    """None: nothing has been recorded yet"""
    rebuilt_from: JobState | None = None
    """set while a job that was rebuilt from the record has not taken up its work again"""
    adopts: bool = False
    """the attempt began before this workflow did: it is found on its host, or another one is begun"""

    attempt: int | None = None
    """the running or last attempt; None: none of this job yet"""
    sequence: int | None = None
    """of the last write under this attempt"""
    working_since: datetime | None = None
    polecat: str | None = None
    host: str | None = None
    holds_slot: bool = False
    avoid_polecat: str | None = None
    avoid_host: str | None = None
    start_not_before: datetime | None = None
    """a restart's delay"""
    limit_over: datetime | None = None
    """when a usage limit was, or is to be, over: a delay until just then waits it out"""
    limits_in_row: int = 0
    """ends at a limit in a row"""

    budget: RestartBudget = RestartBudget()
    restarts: int = 0
    reworks: int = 0
    reworks_forgiven: int = 0
    """those before a person last asked for another try"""
    reassigned: bool = False
    """the one reassignment that needs no person has been used"""
    unchanged_runs: int = 0
    """runs in a row that ended well without a change"""
    agent_ran: bool = False
    """the running or last attempt has started its agent"""

    stale_since: datetime | None = None
    """None: the running attempt is not marked stale"""
    host_lost: bool = False
    """the host was given up; the job moves on without it"""
    faults: dict[str, str] = Field(default_factory=dict)
    """escalations that end when their cause does: ids by kind"""
    settled: list[str] = Field(default_factory=list)
    """escalations that were decided or are over: what is decided about them comes late"""
    faults_raised: dict[str, int] = Field(default_factory=dict)
    """how often each kind was raised in this attempt"""

    notes: list[AttemptNote] = Field(default_factory=list)
    failure_log: str | None = None
    last_failure: str = ""
    refusal: str = ""
    """why this attempt's work was not taken, until it is"""
    heard: list[str] = Field(default_factory=list)
    """intents of this attempt that were dealt with; each has an identity of its own"""
    session_lives: bool = False
    """a session of this attempt may exist"""
    worktree_held: bool = False
    """the polecat's worktree may hold work of this job"""

    base_sha: str | None = None
    """where this job's work began: nothing of it landed before that commit"""
    rig_before: Rig | None = None
    """the rig as the job has known it, where it is elsewhere since; None once the job has followed"""
    target_gone: bool = False
    """blocked because its rig's branch is not on the remote: it goes on once the rig has another"""
    bases: list[TargetBase] = Field(default_factory=list)
    """where its attempts began, the latest last"""
    head_sha: str | None = None
    publications: int = 0
    """how often this accepted head was published again, because its branch was gone"""
    unpublished: bool = False
    """accepted work waits for a person because its branch is gone: a retry publishes it, and starts no agent"""
    rejected_sha: str | None = None
    """the head that the Refinery sent back last"""
    merged_sha: str | None = None
    already_there: bool = False
    """`merged_sha` is not this job's own commit: the target held the content before"""
    merge_request: MergeRequest | None = None
    offer_due: datetime | None = None
    """when the Refinery is told again what is wanted of it; None: now"""
    doubts: int = 0
    """verdicts in a row that the remote does not bear out"""
    withdrawing: str | None = None
    """the reason, once a submitted job was cancelled and waits for the Refinery's answer"""

    grant: SlotGrant | None = None
    observations: list[Observation] = Field(default_factory=list)
    verdicts: list[Verdict] = Field(default_factory=list)
    decisions: list[Decision] = Field(default_factory=list)
    outbox: list[JobWrite] = Field(default_factory=list)

    patience: int = 1000
    """messages after which a run hands over"""

    @property
    def delay_in_words(self) -> str:
        """What it waits for while it has a `start_not_before`."""
        due = f"{self.start_not_before:%Y-%m-%d %H:%M:%S} UTC"
        if self.limit_over == self.start_not_before:
            return f"the end of a usage limit, {due}"
        return f"its restart at {due}"

    @property
    def bead(self) -> str:
        return self.admission.bead.id

    @property
    def rig(self) -> str:
        return self.admission.rig.name

    @property
    def branch(self) -> str:
        """On the remote, as far as it is known."""
        return self.merge_request.branch if self.merge_request is not None else names.job_branch(self.bead)

    @property
    def project(self) -> Rig:
        """The rig, with the branch that this job's work lands on."""
        return self.admission.rig.landing_on(self.admission.bead.target)

    @property
    def current_attempt(self) -> int:
        """The attempt that writes are made under: before the first one, the highest of earlier jobs."""
        return self.admission.highest_attempt if self.attempt is None else self.attempt

    @property
    def spent(self) -> Spent:
        """What its runs have used up since a person last decided."""
        return Spent(
            budget=self.budget,
            reworks=self.reworks - self.reworks_forgiven,
            reassigned=self.reassigned,
            unchanged=self.unchanged_runs,
        )

    def spend(self, spent: Spent) -> None:
        """Keep what a run has used up."""
        self.budget, self.reassigned, self.unchanged_runs = spent.budget, spent.reassigned, spent.unchanged
        self.reworks = self.reworks_forgiven + spent.reworks

    def forgive(self) -> None:
        """A person has decided: its runs are counted anew."""
        self.reworks_forgiven = self.reworks
        self.budget, self.reassigned, self.unchanged_runs = RestartBudget(), False, 0

    def next_sequence(self) -> int:
        """The next number under the current attempt; never used before in the bead's life."""
        last = self.admission.highest_sequence if self.sequence is None else self.sequence
        self.sequence = last + 1
        return self.sequence

    def begin_attempt(self) -> int:
        """Number the next attempt; what was known of the last one's session is over."""
        self.attempt = self.current_attempt + 1
        self.adopts = False
        self.sequence = 0
        self.refusal = ""
        self.heard = []
        self.observations = []
        self.faults_raised = {}
        self.stale_since = None
        self.working_since = None
        self.agent_ran = False
        self.unpublished = False
        self.start_not_before = None
        self.target_gone = False
        self.session_lives = self.worktree_held = True
        return self.attempt

    def follow_rig(self, rig: Rig) -> None:
        """The rig as it is from now on; steps under way go on with what they were given."""
        known = self.admission.rig
        self.admission = self.admission.model_copy(update={"rig": rig})
        if self.rig_left(known):
            self.rig_before = self.rig_before or known

    def rig_left(self, known: Rig) -> bool:
        """Whether the rig is elsewhere than it was known to be."""
        rig = self.admission.rig
        return known.whereabouts != rig.whereabouts

    def began_at(self, sha: str) -> None:
        """An attempt begins on this commit of the target."""
        self.base_sha = self.base_sha or sha
        base = TargetBase(target=self.project.branch, sha=sha)
        self.bases = [*(each for each in self.bases if each != base), base][-BASES_KEPT:]

    def note(self, kind: str, text: str) -> None:
        """Remember what was said about the current attempt, for the next one's task file."""
        self.last_failure = text.strip().splitlines()[0] if text.strip() else kind
        self.notes.append(AttemptNote(attempt=self.current_attempt, kind=kind, text=clipped(text)))
        del self.notes[:-NOTES_KEPT]

    def number_fault(self, kind: str) -> str:
        """What tells this fault from earlier ones of its kind in this attempt: "", 2, 3, …"""
        self.faults_raised[kind] = self.faults_raised.get(kind, 0) + 1
        return str(self.faults_raised[kind]) if self.faults_raised[kind] > 1 else ""

    def settle(self, *escalations: str) -> None:
        """These are over for this job."""
        self.settled += [escalation for escalation in escalations if escalation not in self.settled]
        del self.settled[:-SETTLED_KEPT]

    def is_late(self, decision: Decision) -> bool:
        """It answers nothing that is open: it was told twice, or is about the bead's earlier life."""
        if decision.escalation is None:
            return False
        return not any(self._is_open(each, decision) for each in (decision.escalation, *decision.tellings))

    def _is_open(self, escalation: str, decision: Decision) -> bool:
        if escalation in self.settled:
            return False
        if escalation in self.faults.values():
            return True
        if escalation.startswith(f"{self.bead}."):
            # An agent's question, or what this job told before it was rebuilt: attempts of earlier jobs count lower.
            attempt = escalation.removeprefix(f"{self.bead}.").partition(".")[0]
            return attempt.isdecimal() and int(attempt) > self.admission.highest_attempt
        # Somebody else's report about the bead.
        begun, opened = self.started_at, decision.opened_at
        return escalation == decision.escalation and (begun is None or opened is None or opened >= begun)

    def forget_host(self) -> None:
        """What was on the host is out of reach; polecat and worktree there are no longer this job's."""
        self.avoid_host = self.host
        self.polecat = self.host = None
        self.session_lives = self.worktree_held = self.host_lost = False

    @property
    def health(self) -> str:
        """`stale` or `stuck` while the running attempt is; else ""."""
        if self.state is not JobState.WORKING:
            return ""
        if "polecat_stuck" in self.faults:
            return "stuck"
        return "stale" if self.stale_since else ""

    def accepts(self, seen: Observation) -> bool:
        """Only a starting or working attempt can be observed; all else is late news of an older one."""
        return self.state in {JobState.STARTING, JobState.WORKING} and seen.attempt == self.attempt

    def awaits(self, verdict: Verdict) -> bool:
        """The verdict is about the merge request that this job waits for, as it was handed in last."""
        request = self.merge_request
        if self.state is not JobState.SUBMITTED or request is None or verdict.merge_request != request.id:
            return False
        return verdict.submitted_at is None or verdict.submitted_at >= request.submitted_at

    def wants(self, grant: SlotGrant) -> bool:
        """The grant answers the current request, not an earlier one."""
        current = self.state is JobState.WAITING and grant.attempt == self.current_attempt + 1
        return current and grant.polecat != self.avoid_polecat

    def status(self) -> JobStatus:
        """Answer of the query `status`."""
        return JobStatus(
            bead=self.bead,
            rig=self.rig,
            state=self.state,
            attempt=self.current_attempt,
            polecat=self.polecat,
            host=self.host,
            branch=self.branch,
            head_sha=self.head_sha,
            merged_sha=self.merged_sha,
            restarts=self.restarts,
            reworks=self.reworks,
            waits_for=self.waits_for,
            unrecorded=len(self.outbox),
            health=self.health,
        )


def clipped(text: str) -> str:
    """A note's text, without its beginning where it is long: the end of a log tells most."""
    return text if len(text) <= NOTE_LENGTH else "…" + text[-NOTE_LENGTH:]
