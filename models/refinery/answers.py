"""Answers of the Refinery to people: status, history, why, stats."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from models.base import Frozen
from models.job.messages import RigFacts, VerdictKind
from models.ledger.records import MergeRequest
from models.refinery.messages import ForeignCommit, QueueItemState


class QueueFactsRequest(Frozen):
    rig: str
    beads: tuple[str, ...] = ()
    """those that wait to be merged"""
    queued: int = 0
    """how many waiting requests are asked for"""
    known: tuple[str, ...] = ()
    """ids of requests that are not asked for"""


class QueueFacts(RigFacts):
    """What a Refinery's cycle reads from the record."""

    open_dependencies: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """for each bead asked about: those of its dependencies that are not closed"""
    queued: tuple[MergeRequest, ...] = ()
    """requests that the record has as waiting to be merged, urgent ones first: their jobs are submitted under just that
    attempt"""


class RefineryStatus(Frozen):
    """Answer of the query `status`."""

    rig: str
    state: str
    """idle, waiting, merging, retrying, target_red, paused, draining or stopped"""
    why: str = ""
    target: str = ""
    ungated: bool = False
    waiting: int = 0
    held: int = 0
    merging: tuple[str, ...] = ()
    """beads"""
    merge: str | None = None
    """workflow id of the running merge"""
    merges: int = 0
    above_priority: int | None = None
    failure_rate: float = 0.0
    batch_size: int = 0
    runners: int = 1
    foreign: tuple[ForeignCommit, ...] = ()
    """what came to its targets past the queue, the latest last"""


class HistoryEntry(Frozen):
    """One change that left the queue."""

    id: str
    bead: str
    outcome: VerdictKind
    at: datetime | None
    waited_s: float
    merged_sha: str | None = None
    gate: str | None = None
    detail: str = ""
    """the first line of why it went back"""


class QueueHistory(Frozen):
    """Answer of the query `history`, the latest first."""

    rig: str
    items: tuple[HistoryEntry, ...] = ()


class QueueWhy(Frozen):
    """Answer of the query `why`. `known` is False where the queue has never heard of the item, or has forgotten it."""

    id: str
    known: bool = False
    bead: str = ""
    state: QueueItemState | VerdictKind | None = None
    position: int | None = None
    words: tuple[str, ...] = ()
    """sentences: what it waits for, or why it went back; of one that is not known, where else it may be"""
    log_path: str | None = None
    next_command: str = ""


class FlakyGate(Frozen):
    """One row of the ledger of flaky gates."""

    gate: str
    runs: int
    failures: int
    flaky_runs: int
    flakiness: float
    flaked_at: str = ""
    """the last commit at which it was red and green"""
    flaked_on: datetime | None = None
    log_path: str | None = None


class QueueStats(Frozen):
    """Answer of the query `stats`. Rates and waits are over the remembered merges and verdicts."""

    rig: str
    landed: int = 0
    sent_back: int = 0
    gate_runs: int = 0
    hours: float = 0.0
    """from the first remembered merge to now"""
    landed_per_hour: float | None = None
    runs_per_landed: float | None = None
    wait_p50_s: float | None = None
    wait_p95_s: float | None = None
    """from submission to landing"""
    failure_rate: float = 0.0
    gates: tuple[FlakyGate, ...] = ()


class ItemRef(Frozen):
    """An item of the queue by its id, or by its bead's."""

    id: str


class RetryItem(Frozen):
    id: str
    front: bool = False
    """before all others"""
