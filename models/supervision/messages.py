"""Messages between the watchers: Witness, Deacon, Boot, and what they ask of Temporal and the town."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.errors import Level
from models.job.health import HealthReport, Thresholds, Zombie
from models.job.messages import RigFacts
from models.mayor.alerts import AlarmSigns
from models.settings import Settings

TASK_TIMEOUT = timedelta(seconds=5)
"""Of a workflow task. One that a killed worker had begun is taken over after this, instead of the server's 10 s;
a worker that starts replays the histories of all workflows at once, each within this (docs/decisions/0022)."""


class WitnessPing(Frozen):
    """WITNESS_PING: one per patrol cycle, from a Witness to the Deacon (signal `witness_ping`)."""

    rig: str
    witness: str
    """workflow id that the Deacon answers"""
    number: int
    """counts up over the Witness's life"""
    patrolled_at: datetime | None = None
    """when a survey last ended; None: there is nothing to patrol"""
    has_work: bool = False
    hosts: tuple[str, ...] | None = None
    """that it watches; None: it is stopped"""


class LookAt(Frozen):
    """Signal `look_at` of a Witness: there is something of its rig on a host that it does not watch."""

    host: str


class DeaconPong(Frozen):
    """The Deacon's answer (its query `pong`): the last ping that it has heard of a rig's Witness."""

    number: int


class CheckIn(Frozen):
    """What a Witness does once a cycle beside its patrol."""

    ping: WitnessPing
    read: bool
    """the rig's facts are wanted as well"""


class CheckedIn(Frozen):
    """What came of a CheckIn."""

    pong: DeaconPong | None = None
    """None: the Deacon has not answered in time"""
    facts: RigFacts | None = None
    unread: str = ""
    """why the facts could not be read"""


class WitnessHealth(Frozen):
    """Answer of the Witness's query `health`: what each verdict was made from; `gt why` shows it."""

    rig: str
    thresholds: Thresholds
    """what holds now"""
    reports: dict[str, HealthReport] = Field(default_factory=dict)
    """by bead, of its newest attempt"""
    limits: dict[str, Thresholds] = Field(default_factory=dict)
    """by bead: what its report was judged by"""
    zombies: tuple[Zombie, ...] = ()

    def limits_of(self, bead: str) -> Thresholds:
        """What the bead's report was judged by; what holds now where none is known."""
        return self.limits.get(bead, self.thresholds)


class WitnessRecovered(Frozen):
    """Answer of the Witness's update `recover`: the four results of product.md section 5."""

    settings_read: bool
    """(1) False: the record cannot be read, and the last known settings hold"""
    verdicts: dict[str, int] = Field(default_factory=dict)
    """(2) how many polecats were found in which state of health"""
    unchecked: tuple[str, ...] = ()
    """(2) hosts that did not answer in time"""
    patrols: tuple[str, ...] = ()
    """(3) hosts whose patrol goes on; none where there is no work"""
    backlog: int = 0
    """(4) facts that were outstanding and have been told to their jobs again"""


class ProbeResult(StrEnum):
    """What a bounded ping of a long-lived workflow finds."""

    ANSWERS = "answers"
    ABSENT = "absent"
    """it does not run"""
    WEDGED = "wedged"
    """its workflow tasks fail: the code, not the worker"""
    SILENT = "silent"
    """no answer in time although a worker may be there"""


class Probe(Frozen):
    workflow_id: str
    result: ProbeResult
    run_id: str = ""
    """of the run that was asked: the fence for a restart"""
    detail: str = ""
    stopped: bool = False
    """by a person's word: it answers, and does nothing else"""


class RestartWorkflow(Frozen):
    """End run `run_id`, only that one, and go on from its last workflow task (services/temporal/restarts.py)."""

    workflow_id: str
    run_id: str = ""
    reset: bool = False
    """start from an empty state instead"""
    reason: str = ""


class Wedged(Frozen):
    """A job or a merge whose workflow tasks fail again and again, so that it stands still."""

    workflow_id: str
    run_id: str

    @property
    def role(self) -> str:
        """polecat or merge"""
        return self.workflow_id.partition("/")[0]

    @property
    def rig(self) -> str:
        return self.workflow_id.split("/")[1]

    @property
    def bead(self) -> str:
        """of a polecat's job"""
        return self.workflow_id.split("/")[2]


class RigWatch(Frozen):
    """What the record says of a rig to those who watch its workflows."""

    settings: Settings
    gates_s: int = 0
    """how long all of its gates together may run"""


class TownFacts(Frozen):
    """What the town's long-lived workflows read from the record each cycle."""

    settings: Settings
    """the town's own"""
    rigs: dict[str, RigWatch] = Field(default_factory=dict)
    """by name"""
    hosts: tuple[str, ...] = ()


class ServiceName(Frozen):
    """A service that `gt up` supervises."""

    name: str


class HostSigns(Frozen):
    """What a host says of itself, by an activity on its watch queue."""

    host: str
    disk_percent: float
    """of the file system that the town is on, as `df` counts it"""
    disk_free_bytes: int = 0
    at: datetime
    """its wall clock"""
    steady_s: float
    """a clock that nobody sets; it counts sleep where the system has such a one"""
    steady_since: str
    """two values of that clock can be compared only where this is the same"""
    rigs: tuple[str, ...] = ()
    """of which there are sessions, or attempts that nobody has ended"""
    alarm: AlarmSigns | None = None
    """of the alarm beside it; None: none watches there"""


class QueueSigns(Frozen):
    """Whether a rig's merge queue gets further."""

    rig: str
    waiting: int = 0
    """changes that may be merged now and are not"""
    merging: int = 0
    paused: bool = False
    mark: str = ""
    """differs whenever the queue, or the merge under way, has got further"""


class LookAround(Frozen):
    """What the Deacon asks once a cycle."""

    ids: tuple[str, ...]
    """workflows to ping"""
    rigs: tuple[str, ...] = ()
    """whose merge queues are looked at"""


class LookedAround(Frozen):
    """What came of a LookAround."""

    facts: TownFacts | None = None
    unread: str = ""
    """why the record could not be read"""
    probes: tuple[Probe, ...] | None = None
    """None: nobody could be asked"""
    queues: tuple[QueueSigns, ...] = ()
    """of those that could be asked"""
    wedged: tuple[Wedged, ...] | None = None
    """None: Temporal could not say"""


class CheckResult(Frozen):
    """One town check: ledger, disk, hosts, queues, clock, wedged jobs and merges."""

    name: str
    """the alert type it raises: dolt_down, disk_full, host_lost, refinery_stalled; `clock`, `wedged`"""
    subject: str = ""
    """what it is about where there are several: a host, a rig, a workflow"""
    ok: bool
    level: Level = Level.L3
    severity: str = "high"
    detail: str = ""
    hint: str = ""
    announced: bool = False
    """people are told of its beginning and end by the alarm of a host"""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.subject}" if self.subject else self.name


class WatchedStatus(Frozen):
    """How one long-lived workflow stands in the Deacon's eyes. Ages count only while the Deacon watched."""

    workflow_id: str
    condition: str
    """well, doubted, down, stopped"""
    reason: str = ""
    ping_age_s: float | None = None
    """None: it has never pinged, or need not"""
    patrol_age_s: float | None = None
    """since its patrol was last seen to get further"""
    has_work: bool = False
    restarts: int = 0


class DeaconStatus(Frozen):
    """Answer of the Deacon's query `status`."""

    stopped: bool = False
    """by a person's word; pings are answered, nobody is judged"""
    stop_reason: str = ""
    cycles: int = 0
    cycle_at: datetime | None = None
    watched_s: float = 0.0
    """how long it has watched, in all of its runs"""
    watched: tuple[WatchedStatus, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    """of the town, as they came out last"""


class DeaconLook(Frozen):
    """What Boot sees of the Deacon."""

    pollers: tuple[str, ...] = ()
    """identities of the workers that take the town's work"""
    probe: Probe


class BootStep(Frozen):
    """One of Boot's four steps (product.md section 5) and what came of it."""

    name: str
    ok: bool
    detail: str = ""


class BootAnnouncement(Frozen):
    """What Boot told people directly, since the Mayor did not work either."""

    escalation: str = ""
    """id of the `deacon_down` that it was about; "": nothing is announced"""
    refused: bool = False
    """a channel has not taken it yet"""


class BootReport(Frozen):
    """Result of a BootWorkflow; the Schedule hands the last one to the next."""

    at: datetime
    healthy: bool
    steps: tuple[BootStep, ...]
    restarts: tuple[datetime, ...] = ()
    """of the Deacon by Boot, within the budget's window"""
    escalation: str = ""
    """id of the open `deacon_down`; "": there is none"""
    announced: BootAnnouncement = BootAnnouncement()
