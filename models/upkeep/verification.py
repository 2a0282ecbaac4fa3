"""Dolt, git and Temporal side by side: what each says, and where they disagree."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.ledger.records import BeadStatus, JobRow, MergeRequestRow, PolecatRow


class ProblemKind(StrEnum):
    """A way in which the record and the world can disagree."""

    CLOSED_NOT_LANDED = "closed_not_landed"
    """closed as merged, but its commit is not on the target"""
    LANDED_BUT_OPEN = "landed_but_open"
    """its commit is on the target, but the bead is open and no job knows of it"""
    LANDED_UNKNOWN = "landed_unknown"
    """a landing on the target of which the ledger knows nothing: it is older than what landed"""
    SUBMITTED_NOT_QUEUED = "submitted_not_queued"
    """its job waits for a merge that no Refinery has"""
    HOOKED_WITHOUT_JOB = "hooked_without_job"
    """the record has an unfinished job, but none runs"""
    CLOSED_WITH_JOB = "closed_with_job"
    """closed, but a job works on it"""
    TWO_JOBS = "two_jobs"
    """two jobs run for one bead"""
    POLECAT_WITHOUT_JOB = "polecat_without_job"
    """a polecat is busy with a bead that no job works on"""
    REQUEST_WITHOUT_JOB = "request_without_job"
    """a merge request waits, but its job is over"""
    DEPENDENCY_ON_NOTHING = "dependency_on_nothing"
    """a bead waits for one that is not there"""
    SCHEMA_DRIFT = "schema_drift"
    """a table or column is not as this program expects"""
    UNREADABLE_ROW = "unreadable_row"
    """a row holds what none of its kind may hold"""
    UNCOMMITTED_CHANGE = "uncommitted_change"
    """tables were changed by hand and not committed"""
    DAMAGED_FILE = "damaged_file"
    """the embedded ledger's file fails its own check"""


SAFE = frozenset(
    {
        ProblemKind.LANDED_BUT_OPEN,
        ProblemKind.SUBMITTED_NOT_QUEUED,
        ProblemKind.POLECAT_WITHOUT_JOB,
        ProblemKind.REQUEST_WITHOUT_JOB,
        ProblemKind.DEPENDENCY_ON_NOTHING,
        ProblemKind.SCHEMA_DRIFT,
        ProblemKind.UNCOMMITTED_CHANGE,
    }
)
"""What `bd verify --fix` mends: nothing of it can lose work, and Dolt's history keeps what was."""


OF_GIT = frozenset(
    {ProblemKind.CLOSED_NOT_LANDED, ProblemKind.LANDED_BUT_OPEN, ProblemKind.LANDED_UNKNOWN},
)
"""what a look at the rig's remote tells"""
OF_TEMPORAL = frozenset(
    {
        ProblemKind.SUBMITTED_NOT_QUEUED,
        ProblemKind.HOOKED_WITHOUT_JOB,
        ProblemKind.CLOSED_WITH_JOB,
        ProblemKind.TWO_JOBS,
        ProblemKind.POLECAT_WITHOUT_JOB,
    }
)
"""what a look at Temporal tells"""


class Problem(Frozen):
    """One disagreement, and the command that mends it."""

    kind: ProblemKind
    rig: str = ""
    """whose remote was looked at; "": it is about no remote"""
    subject: str
    """what it is about: a bead, `<rig>/<polecat>`, a merge request, a table"""
    message: str
    command: str
    detail: dict[str, str] = Field(default_factory=dict)
    """what mending needs to know"""

    @property
    def safe(self) -> bool:
        return self.kind in SAFE

    @property
    def key(self) -> str:
        """What tells it from others, also of another look."""
        return f"{self.kind}/{self.subject}"


MOST_SHOWN = 200
"""problems of one look that travel through Temporal"""


class VerifyReport(Frozen):
    """Answer of `bd verify`."""

    ok: bool
    problems: tuple[Problem, ...] = ()
    fixed: tuple[Problem, ...] = ()
    unchecked: tuple[str, ...] = ()
    """what could not be asked, and why"""


class TownLook(Frozen):
    """One comparison by the town itself."""

    problems: tuple[Problem, ...] = ()
    """the first MOST_SHOWN"""
    more: int = 0
    """further ones"""
    unread_rigs: tuple[str, ...] = ()
    """whose remote could not be asked"""
    temporal_unread: bool = False
    ledger_unread: bool = False
    """it is damaged, or not as this program expects: only that was looked at"""


class ToldProblem(Frozen):
    """A disagreement that people were told of and that was still there at the last look."""

    escalation: str
    kind: ProblemKind | None = None
    """None: it stands for all that is not told one by one"""
    rig: str = ""


class VerifyMemory(Frozen):
    """What one look by the Schedule hands on to the next."""

    told: dict[str, ToldProblem] = Field(default_factory=dict)
    """by key"""
    problems: int = 0
    """at the last look"""
    unread: tuple[str, ...] = ()
    """what could not be asked at the last look"""


# --- what each side says ----------------------------------------------------------------------


class BeadFact(Frozen):
    rig: str
    status: BeadStatus
    close_reason: str | None
    merged_sha: str | None
    target: str | None = None
    """where its work lands; None: on its rig's branch"""


class RigFact(Frozen):
    name: str
    prefix: str
    created_at: datetime


class RecordFacts(Frozen):
    """What Dolt says."""

    rigs: tuple[RigFact, ...] = ()
    beads: dict[str, BeadFact]
    jobs: dict[str, JobRow]
    landings: dict[str, frozenset[str]]
    """by bead: commits that were recorded as its landing, once or now"""
    polecats: tuple[PolecatRow, ...]
    queued: tuple[MergeRequestRow, ...]
    """merge requests that wait"""
    dangling: tuple[tuple[str, str], ...]
    """(bead, needs) where one of them is not there"""


class StoreFacts(Frozen):
    """What the ledger says of itself."""

    drift: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str, str], ...] = ()
    """(table, key, why)"""
    uncommitted: tuple[str, ...] = ()
    """tables"""
    damage: str = ""


class LandingFact(Frozen):
    change: str
    """the submitted commit that its trailer names"""
    at: datetime


class BranchFacts(Frozen):
    """What git says of one branch."""

    target: str
    shas: frozenset[str]
    """of the commits that were asked about, those in its history; and all landings"""
    landed: dict[str, tuple[str, ...]]
    """by bead: commits that carry its trailer, newest first"""
    landings: dict[str, LandingFact] = Field(default_factory=dict)
    """the same by commit"""


class RemoteFacts(BranchFacts):
    """What git says of a rig's own branch, and of others that beads name as their target."""

    others: dict[str, BranchFacts] = Field(default_factory=dict)
    """by name; one that the remote lacks is not there"""

    def of(self, target: str | None) -> BranchFacts:
        """The branch that work for `target` lands on; nothing is on a branch that is gone."""
        if target in (None, self.target):
            return self
        assert target is not None
        return self.others.get(target, BranchFacts(target=target, shas=frozenset(), landed={}))


class TemporalFacts(Frozen):
    """What Temporal says."""

    jobs: frozenset[tuple[str, str]]
    """(rig, bead) of every job that runs"""
    queues: dict[str, tuple[str, ...]]
    """by rig: merge requests that its Refinery has; a rig whose Refinery does not answer is not there"""
