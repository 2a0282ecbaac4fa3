"""Words that people and programs choose from.

Standard library only: options of commands offer them before pydantic is loaded.
"""

from __future__ import annotations

from enum import StrEnum


class BeadStatus(StrEnum):
    OPEN = "open"
    HOOKED = "hooked"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    SUBMITTED = "submitted"
    CLOSED = "closed"
    DEFERRED = "deferred"


class BeadType(StrEnum):
    TASK = "task"
    BUG = "bug"
    FEATURE = "feature"
    EPIC = "epic"
    CHORE = "chore"


class DecisionKind(StrEnum):
    RETRY = "retry"
    REASSIGN = "reassign"
    ABANDON = "abandon"
    IGNORE = "ignore"


class AlertType(StrEnum):
    """What an alert is about; an escalation of another kind (`help`, a person's word) is `escalation`."""

    POLECAT_STUCK = "polecat_stuck"
    POLECAT_UNRESPONSIVE = "polecat_unresponsive"
    POLECAT_EXHAUSTED = "polecat_exhausted"
    POLECAT_ZOMBIE = "polecat_zombie"
    WITNESS_DOWN = "witness_down"
    DEACON_DOWN = "deacon_down"
    REFINERY_STALLED = "refinery_stalled"
    MERGE_FAILED = "merge_failed"
    GATE_BROKEN = "gate_broken"
    DOLT_DOWN = "dolt_down"
    DISK_FULL = "disk_full"
    HOST_LOST = "host_lost"
    FOREIGN_COMMIT = "foreign_commit"
    TARGET_REWOUND = "target_rewound"
    TARGET_RENAMED = "target_renamed"
    DISAGREEMENT = "disagreement"
    BACKUP_FAILED = "backup_failed"
    ESCALATION = "escalation"


class Priority(StrEnum):
    """How urgent an alert is; also the severity of an escalation."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least urgent."""
        return _RANKS[self]

    def raised(self) -> Priority:
        """The next higher one; the highest stays."""
        steps = list(Priority)
        return steps[min(self.rank + 1, len(steps) - 1)]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}
