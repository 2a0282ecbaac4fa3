"""Rows of the ledger as typed values: rigs, beads, jobs, their events, merge requests."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from models import names
from models.base import Frozen
from models.choices import BeadStatus as BeadStatus
from models.choices import BeadType as BeadType
from models.errors import ErrorCode, GtError
from models.mayor.mail import Message
from models.texts import storable_text

_ODD = re.compile(r"[\x00-\x1f\x7f*?\[\]!\\]|^[#-]")
"""what would be a pattern, an option or a comment to git"""
CLEARED_EVENT = "cleared"
"""of a job: a person cleared the merge queue of its change"""
MAX_TITLE = 1_000
"""characters"""
MAX_DESCRIPTION = 4_000_000
"""characters; four bytes each still fit a packet of the ledger's server"""


class JobState(StrEnum):
    """Where a job stands; the value of the search attribute GtState too."""

    WAITING = "waiting"
    """for a slot, a dependency or a delay"""
    STARTING = "starting"
    WORKING = "working"
    SUBMITTED = "submitted"
    BLOCKED = "blocked"
    MERGED = "merged"
    CLOSED = "closed"
    """done without a merge: its bead needs no code"""
    ABANDONED = "abandoned"

    @property
    def final(self) -> bool:
        return self in {JobState.MERGED, JobState.CLOSED, JobState.ABANDONED}


class GateSpec(Frozen):
    """One gate of a rig: a command that must exit 0 at the candidate commit."""

    name: str
    command: str = Field(min_length=1)
    timeout_s: int = Field(1800, ge=1, le=86400)
    parallel: bool = False
    """at the same time as the parallel gates that stand next to it"""
    retry: int = Field(0, ge=0, le=9)
    """further tries at the same commit after a red one; passing then is recorded as a flake"""
    only: tuple[str, ...] = ()
    """runs only for changes that touch a file matching one of these: see policies.refinery.path_filter"""
    cache: tuple[str, ...] = ()
    """folders of the work tree that are kept from run to run, and a cache folder for pip, npm and their like"""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return names.valid_gate(value)

    @field_validator("only")
    @classmethod
    def _only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not pattern or "\x00" in pattern or pattern.startswith("/"):
                raise GtError(ErrorCode.INVALID_VALUE, f"{pattern!r} is not a pattern of paths from the top", "docs/**")
        return value

    @field_validator("cache")
    @classmethod
    def _cache(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for folder in value:
            parts = folder.split("/")
            if not all(parts) or any(part in {".", "..", ".git"} or _ODD.search(part) for part in parts):
                raise GtError(ErrorCode.INVALID_VALUE, f"{folder!r} is not a folder below the top", "node_modules")
        return value


class Rig(Frozen):
    """A project: a git remote, its target branch, gates and a bead prefix."""

    name: str
    url: str
    prefix: str
    branch: str
    gates: tuple[GateSpec, ...] = ()
    max_polecats: int = Field(10, ge=1, le=1000)
    agent: str | None = None
    created_at: datetime

    @property
    def whereabouts(self) -> str:
        """What has to be known of the rig to find it."""
        return f"{self.branch} of {self.url}"

    def landing_on(self, target: str | None) -> Rig:
        """The rig as a job sees it whose work lands on `target`; None: on the rig's own branch."""
        return self if target is None else self.model_copy(update={"branch": target})


class BranchRenamed(Frozen):
    """A rig's branch has another name on the remote by now."""

    rig: str
    before: str
    branch: str


class Bead(Frozen):
    """One unit of work."""

    id: str
    rig: str
    title: str
    description: str = ""
    status: BeadStatus = BeadStatus.OPEN
    priority: int = Field(2, ge=0, le=4)
    type: BeadType = BeadType.TASK
    assignee: str | None = None
    dependencies: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str | None = None
    """the branch that its work lands on; None: its rig's"""
    integrates: str | None = None
    """the integration branch that it lands as one: its job hands that in before any agent works"""
    integrates_sha: str | None = None
    """where that branch stood"""
    close_reason: str | None = None
    merged_sha: str | None = None
    origin: str | None = None
    """the id that an imported bead had where it came from"""
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None


def _titled(value: Any) -> Any:
    storable_text("title", value)
    if isinstance(value, str) and not (value.strip() and len(value) <= MAX_TITLE):
        raise GtError(ErrorCode.INVALID_VALUE, f"a title has 1 to {MAX_TITLE} characters and is not blank")
    return value


def _described(value: Any) -> Any:
    storable_text("description", value)
    if isinstance(value, str) and len(value) > MAX_DESCRIPTION:
        raise GtError(ErrorCode.INVALID_VALUE, f"a description has at most {MAX_DESCRIPTION} characters")
    return value


def _landing(value: Any) -> Any:
    return names.valid_target(value) if value else value


class NewBead(Frozen):
    """What a person says of a unit of work; the ledger adds id, status and times."""

    rig: str
    title: str
    description: str = ""
    priority: int = Field(2, ge=0, le=4)
    type: BeadType = BeadType.TASK
    assignee: str | None = Field(None, max_length=200)
    dependencies: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str | None = None
    """the branch that its work lands on; None: its rig's"""
    integrates: str | None = None
    integrates_sha: str | None = None

    _title = field_validator("title", mode="before")(_titled)
    _description = field_validator("description", mode="before")(_described)
    _target = field_validator("target", "integrates")(_landing)


class BeadChanges(Frozen):
    """What a person changes of a bead. None leaves the stored value; an empty `assignee` or `target` clears it."""

    title: str | None = None
    description: str | None = None
    priority: int | None = Field(None, ge=0, le=4)
    type: BeadType | None = None
    status: BeadStatus | None = None
    assignee: str | None = Field(None, max_length=200)
    target: str | None = None

    _title = field_validator("title", mode="before")(_titled)
    _description = field_validator("description", mode="before")(_described)
    _target = field_validator("target")(_landing)


class JobRow(Frozen):
    """The current state of a bead's job."""

    bead: str
    rig: str
    workflow_id: str
    state: JobState
    attempt: int
    sequence: int
    polecat: str | None = None
    host: str | None = None
    branch: str | None = None
    head_sha: str | None = None
    merged_sha: str | None = None
    restarts: int = 0
    reworks: int = 0
    agent: str | None = None
    """its command line; None where an older program wrote the row"""
    started_at: datetime
    updated_at: datetime

    @property
    def waits_for_room(self) -> bool:
        """It was slung when its rig's Dispatcher had no room, and has no workflow yet."""
        return self.workflow_id == names.dispatch_id(self.rig)


class JobEvent(Frozen):
    """One line of a job's story."""

    bead: str
    attempt: int
    sequence: int
    at: datetime
    event: str
    detail: str = ""


class MergeRequestState(StrEnum):
    QUEUED = "queued"
    MERGED = "merged"
    RETURNED = "returned"
    WITHDRAWN = "withdrawn"


class TargetBase(Frozen):
    """A commit that a target held when an attempt began there."""

    target: str
    sha: str


class MergeRequest(Frozen):
    """One change handed to the Refinery. Its id is one per taken attempt."""

    id: str
    rig: str
    bead: str
    title: str
    polecat: str
    attempt: int
    branch: str
    head_sha: str
    target: str
    priority: int = 2
    submitted_at: datetime
    whole: str | None = None
    """the tip of an integration branch that it lands as one: those commits land as they are"""
    pinned: bool = False
    """its bead names the target itself; else it lands on its rig's branch, whatever that is by then"""
    bases: tuple[TargetBase, ...] = ()
    """where the job's attempts began: what the target has lost since is not the change's own work"""


class MergeRequestRow(MergeRequest):
    """A merge request as the record has it."""

    state: MergeRequestState
    updated_at: datetime


class PolecatRow(Frozen):
    """A polecat as the record has it: `idle`, or the state of the job it works on."""

    rig: str
    name: str
    host: str
    state: str
    bead: str | None
    since: datetime


class JobWrite(Frozen):
    """One transition of a job for the record; guarded by (attempt, sequence), so repeating it changes nothing.

    Fields that are None leave the stored value as it is.
    """

    bead: str
    rig: str
    workflow_id: str
    attempt: int
    sequence: int
    at: datetime
    event: str
    detail: str = ""
    state: JobState
    bead_status: BeadStatus
    polecat: str | None = None
    host: str | None = None
    branch: str | None = None
    head_sha: str | None = None
    merged_sha: str | None = None
    restarts: int = 0
    reworks: int = 0
    agent: str | None = None
    close_reason: str | None = None
    merge_request: MergeRequest | None = None
    merge_request_state: MergeRequestState | None = None
    mail: tuple[Message, ...] = ()
    """what this transition tells others; recorded with it"""


class JobWrites(Frozen):
    """Writes of one job, in order."""

    writes: tuple[JobWrite, ...]


class BeadRef(Frozen):
    bead: str


class BeadStatusReply(Frozen):
    """What the record says of a bead now."""

    status: BeadStatus
    merged_sha: str | None = None
    close_reason: str | None = None


class Host(Frozen):
    """A machine with a worker."""

    name: str
    cores: int
    registered_at: datetime
