"""Saving unfinished work at an interval."""

from __future__ import annotations

from models.base import Frozen
from models.ledger.records import Rig
from models.settings import CheckpointSettings


class CheckpointOrder(Frozen):
    """What a Witness tells the watchers of a host with each round: how this rig's unfinished work is saved."""

    rig: Rig
    interval_s: float
    max_bytes: int
    """larger files stay on the host"""
    remote: bool
    """False: under the same ref, but on the host alone"""

    @classmethod
    def of(cls, rig: Rig, settings: CheckpointSettings) -> CheckpointOrder:
        return cls(rig=rig, interval_s=float(settings.interval), max_bytes=settings.max_bytes, remote=settings.remote)


class StayedHere(Frozen):
    """Something that is not saved outside of the host."""

    what: str
    """a file's path, or what else it is; printable"""
    why: str


class Checkpoint(Frozen):
    """What the session folder says of the last look at an attempt's work (`checkpoint.json`)."""

    fingerprint: str | None = None
    """of the worktree; only compared"""
    parent: str = ""
    """the commit that is known to be fit for the remote, with its history"""
    content: str = ""
    """what the save holds: names of parents and tree"""
    sha: str = ""
    """of the save; "" where there is nothing to save"""
    pushed: bool = False
    stayed_here: tuple[StayedHere, ...] = ()
