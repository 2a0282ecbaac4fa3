"""What Dolt's own log and diffs tell."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from models.base import Frozen

Change = tuple[Any, Any]
"""(old, new)"""


class LogEntry(Frozen):
    """One commit of the ledger."""

    at: datetime
    commit: str
    by: str = ""
    """who: a person, or the workflow that wrote it"""
    message: str


class HistoryEntry(LogEntry):
    """One commit of the ledger that changed a bead."""

    changes: dict[str, Change]
    """field: (old, new)"""


class DifferenceKind(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class BeadDifference(Frozen):
    """How a bead differs between two moments."""

    bead: str
    title: str
    kind: DifferenceKind
    changes: dict[str, Change]
    """field: (old, new); of what a bead has several of, what went and what came"""


class Difference(Frozen):
    """How the beads differ between two commits."""

    older: LogEntry
    newer: LogEntry
    beads: tuple[BeadDifference, ...]
