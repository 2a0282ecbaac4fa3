"""Parameters that several commands share, and the words they take.

The words repeat enumerations of `models`, because importing those would load pydantic before
`--help` is printed; a test compares them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


def directory(text: str) -> Path:
    """A directory's name; an empty one, as an unset variable gives it, would mean the current directory."""
    if not text:
        raise typer.BadParameter("the directory's name is empty")
    return Path(text)


class BeadState(StrEnum):
    OPEN = "open"
    HOOKED = "hooked"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    SUBMITTED = "submitted"
    CLOSED = "closed"
    DEFERRED = "deferred"


class BeadKind(StrEnum):
    TASK = "task"
    BUG = "bug"
    FEATURE = "feature"
    EPIC = "epic"
    CHORE = "chore"


class Action(StrEnum):
    RETRY = "retry"
    REASSIGN = "reassign"
    ABANDON = "abandon"
    IGNORE = "ignore"


class AlertKind(StrEnum):
    POLECAT_STUCK = "polecat_stuck"
    POLECAT_UNRESPONSIVE = "polecat_unresponsive"
    POLECAT_EXHAUSTED = "polecat_exhausted"
    POLECAT_ZOMBIE = "polecat_zombie"
    WITNESS_DOWN = "witness_down"
    DEACON_DOWN = "deacon_down"
    REFINERY_STALLED = "refinery_stalled"
    MERGE_FAILED = "merge_failed"
    GATE_BROKEN = "gate_broken"
    FOREIGN_COMMIT = "foreign_commit"
    TARGET_REWOUND = "target_rewound"
    TARGET_RENAMED = "target_renamed"
    DOLT_DOWN = "dolt_down"
    DISK_FULL = "disk_full"
    HOST_LOST = "host_lost"
    DISAGREEMENT = "disagreement"
    BACKUP_FAILED = "backup_failed"
    ESCALATION = "escalation"


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


BeadArgument = Annotated[str, typer.Argument(metavar="ID", help="A bead's id, like sh-1a2.")]
RigOption = Annotated[str, typer.Option("--rig", metavar="R", help="The rig.")]
OptionalRigOption = Annotated[str | None, typer.Option("--rig", metavar="R", help="Only this rig.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the job's history.")]
