"""Cleaning up after polecats: sessions and worktrees go, what was made in them stays."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.job.messages import JobStatus
from models.ledger.records import Rig


class CleanUp(Frozen):
    """Save evidence, park what has not landed, then end the session and free the worktree.

    Without `force` only what belongs to `attempt` of `bead`, or to an older one, is touched: a
    newer attempt on this polecat keeps session and worktree. With `force` everything of the polecat
    goes, whatever it was started for; then `bead` may be "".
    """

    rig: Rig
    polecat: str
    bead: str = ""
    attempt: int = 0
    cause: str = ""
    """for the session folder and for people"""
    force: bool = False


class CleanedUp(Frozen):
    """What became of it. Asking again changes nothing, and finishes what was left."""

    evidence_path: str | None = None
    """folder on the host with the pane's text and the state of the worktree; None where there was nothing to see"""
    parked_ref: str | None = None
    """under which work was saved; None where all has landed or nothing was done"""
    kept_folder: str | None = None
    """on the host, with the files that must not leave it; None: there were none"""
    session_ended: bool = False
    """a session was there, living or dead, and this very call ended it"""
    worktree_freed: bool = False
    """no worktree of the polecat holds anything of the bead any more (with `force`: of any bead)"""
    kept_reason: str = ""
    """why something was kept: a newer attempt works there, or the remote cannot be reached; ask again later"""


# --- looking first ----------------------------------------------------------------------------


class AttemptRef(Frozen):
    bead: str
    attempt: int


class PolecatFound(Frozen):
    """What one polecat has on one host."""

    polecat: str
    host: str
    session: AttemptRef | None = None
    """what its tmux session was started for; the bead is "" where nobody knows"""
    session_lives: bool = False
    attempts: tuple[AttemptRef, ...] = ()
    """begun and not ended"""
    worktree: AttemptRef | None = None
    """whose work stands in its worktree"""


class PolecatsFound(Frozen):
    polecats: tuple[PolecatFound, ...] = ()


class InspectPolecats(Frozen):
    rig: str
    host: str


class JobStandings(Frozen):
    """By bead: how the jobs stand that run; one that does not run is not named."""

    jobs: dict[str, JobStatus] = Field(default_factory=dict)


class JobsAsked(Frozen):
    rig: str
    beads: tuple[str, ...]


# --- a person's order -------------------------------------------------------------------------


class CleanupKind(StrEnum):
    ZOMBIES = "zombies"
    """sessions and worktrees whose job is over or goes on elsewhere"""
    STUCK = "stuck"
    """polecats that the Witness calls stuck: their jobs go on with others"""
    POLECAT = "polecat"
    """one polecat"""


class CleanupOrder(Frozen):
    rig: Rig
    kind: CleanupKind
    hosts: tuple[str, ...]
    polecat: str | None = None
    force: bool = False
    """of one polecat: also what is being worked on; its job goes on with another"""
    dry_run: bool = False
    cause: str = ""


class CleanupAction(StrEnum):
    CLEAN = "clean"
    REASSIGN = "reassign"
    """its job lets go of it by itself: session ended, work parked, worktree freed"""
    KEEP = "keep"


class CleanupStep(Frozen):
    """What is decided about one piece."""

    polecat: str
    host: str
    bead: str = ""
    attempt: int = 0
    action: CleanupAction
    why: str
    force: bool = False


class CleanupItem(CleanupStep, CleanedUp):
    """A step and what became of it."""


class CleanupReport(Frozen):
    items: tuple[CleanupItem, ...] = ()
    unreached: tuple[str, ...] = ()
    """hosts that did not answer"""
