"""Messages between the watchers: Witness, Deacon, Boot, and what they ask of Temporal and the town."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from models.base import Frozen
from models.errors import Level


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


class DeaconPong(Frozen):
    """The Deacon's answer (signal `deacon_pong` of the Witness)."""

    number: int


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


class RestartWorkflow(Frozen):
    """Terminate run `run_id` (only that one) and start afresh.

    `state` is the last carried state where it can be had; an empty one resets.
    """

    workflow_id: str
    run_id: str = ""
    reset: bool = False
    """start from an empty state instead of the last carried one"""
    reason: str = ""


class CheckResult(Frozen):
    """One town check: ledger, disk, hosts, queues, clock."""

    name: str
    """the alert type it raises: dolt_down, disk_full, host_lost, refinery_stalled, …"""
    subject: str = ""
    """what it is about where there are several: a host, a rig"""
    ok: bool
    level: Level = Level.L3
    detail: str = ""
    hint: str = ""
