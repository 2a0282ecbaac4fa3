"""Cleaning up after polecats: sessions and worktrees go, what was made in them stays."""

from __future__ import annotations

from models.base import Frozen
from models.records import Rig


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
    session_ended: bool = False
    """a session was there, living or dead, and this very call ended it"""
    worktree_freed: bool = False
    """no worktree of the polecat holds anything of the bead any more (with `force`: of any bead)"""
    kept_reason: str = ""
    """why something was kept: a newer attempt works there, or the remote cannot be reached; ask again later"""
