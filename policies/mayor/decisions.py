"""What the Mayor decides alone, and what it asks a person.

The table is read from the top; the first row that fits decides. What the Mayor has done before for the same kind and
subject counts against it, so that nothing is tried for ever without a person hearing of it. A fault of level L3 or
L4 is told to people at once, whatever the Mayor does about it meanwhile (product.md section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from models.base import Frozen
from models.errors import Level
from models.mayor.alerts import AlertType, Priority
from models.settings import RecoverySettings

HELP = "help"
"""kind of an agent's or a person's question"""
FREE_TEXT = frozenset({HELP, AlertType.ESCALATION.value})
"""kinds that only a person can read"""
OF_A_RIG = frozenset({AlertType.WITNESS_DOWN.value, AlertType.REFINERY_STALLED.value, AlertType.GATE_BROKEN.value})
"""kinds that are one fault for a whole rig, whichever job notices it"""
OF_THE_TOWN = frozenset({AlertType.DEACON_DOWN.value, AlertType.DOLT_DOWN.value})
"""kinds of which a town has one, whoever notices it: each Witness, Boot, the Deacon, a person"""
TOWN = "town"
ANOTHER_POLECAT = "another polecat"
"""how a job's escalation says that it was reassigned before"""
ANOTHER_POLECAT_MAY_HELP = frozenset({AlertType.POLECAT_EXHAUSTED.value, AlertType.POLECAT_UNRESPONSIVE.value})
"""agents that die or hang again and again; work that was sent back too often is a person's (policies/job/runs.py)"""
DOLT = "dolt"
PATIENCE = timedelta(seconds=60)
"""what a transient fault without a job gets to end by itself, before a person hears of it"""


class Move(StrEnum):
    """What the Mayor does about an escalation."""

    ASK = "ask"
    """a person decides"""
    RETRY = "retry"
    """the job tries again, after a delay"""
    WAIT = "wait"
    """it is left to itself; a person is asked when it does not end"""
    REASSIGN = "reassign"
    """another polecat works on the bead"""
    RESTART_SERVICE = "restart_service"
    PAUSE_RIG = "pause_rig"
    """no new sessions there until the fault is over"""


class Report(Frozen):
    """What the decision is made from."""

    kind: str
    level: Level
    severity: Priority
    has_job: bool = False
    """a job waits for the decision"""
    tried: str = ""


class Past(Frozen):
    """How often the Mayor made each move for the same kind and subject, lately."""

    moves: dict[Move, int] = Field(default_factory=dict)

    def count(self, move: Move) -> int:
        return self.moves.get(move, 0)


class Ruling(Frozen):
    move: Move
    rule: str
    """name of the row"""
    after: timedelta = timedelta(0)
    """how long to wait before it is made"""
    tell: bool
    """people hear of it at once"""
    target: str = ""
    """the service to restart"""


class Row(NamedTuple):
    """One line of the table: `applies` to a report and its past; then `move`."""

    name: str
    applies: Callable[[Report, Past, RecoverySettings], bool]
    move: Move
    target: str = ""


TABLE: tuple[Row, ...] = (
    Row("disaster", lambda report, *_: report.level is Level.L4, Move.ASK),
    Row(
        "transient: the job tries again later",
        lambda report, past, settings: (
            report.level is Level.L1 and report.has_job and past.count(Move.RETRY) < settings.max_retries
        ),
        Move.RETRY,
    ),
    Row(
        "transient: it may end by itself",
        lambda report, past, _: report.level is Level.L1 and not report.has_job and not past.count(Move.WAIT),
        Move.WAIT,
    ),
    Row("words for a person", lambda report, *_: report.kind in FREE_TEXT, Move.ASK),
    Row(
        "an agent's fault: another polecat, once",
        lambda report, past, _: (
            report.level is Level.L2
            and report.has_job
            and report.kind in ANOTHER_POLECAT_MAY_HELP
            and ANOTHER_POLECAT not in report.tried
            and not past.count(Move.REASSIGN)
        ),
        Move.REASSIGN,
    ),
    Row(
        "the ledger's server is restarted, once",
        lambda report, past, _: report.kind == AlertType.DOLT_DOWN and not past.count(Move.RESTART_SERVICE),
        Move.RESTART_SERVICE,
        DOLT,
    ),
    Row(
        "no room for new sessions",
        lambda report, *_: report.kind == AlertType.DISK_FULL and report.severity is Priority.CRITICAL,
        Move.PAUSE_RIG,
    ),
    Row("anything else", lambda *_: True, Move.ASK),
)


def decide(report: Report, past: Past, settings: RecoverySettings) -> Ruling:
    """The first row of TABLE that fits."""
    row = next(row for row in TABLE if row.applies(report, past, settings))
    delays = {Move.RETRY: _retry_delay(past.count(Move.RETRY), settings), Move.WAIT: PATIENCE}
    system_fault = report.level in {Level.L3, Level.L4}
    return Ruling(
        move=row.move,
        rule=row.name,
        after=delays.get(row.move, timedelta(0)),
        # A rig that stands still is a person's to know of, whatever the level of what stopped it.
        tell=row.move in {Move.ASK, Move.PAUSE_RIG} or system_fault,
        target=row.target,
    )


def _retry_delay(earlier: int, settings: RecoverySettings) -> timedelta:
    return timedelta(seconds=min(settings.retry_delay * 2.0 ** min(earlier, 20), settings.max_delay))


def frees(kind: str) -> bool:
    """Whether the end of such a fault lets jobs go on that were stopped by a system fault meanwhile."""
    return kind in {AlertType.DOLT_DOWN, AlertType.DISK_FULL, AlertType.HOST_LOST}


def freed(report: Report) -> bool:
    """Whether a job goes on by itself once a system fault is cured (product.md section 3, L3)."""
    return report.level is Level.L3 and report.has_job and report.kind not in OF_A_RIG


def alert_type(kind: str) -> AlertType:
    """The type under which people are told of an escalation of this kind."""
    return AlertType(kind) if kind in set(AlertType) else AlertType.ESCALATION


def subject_of(identity: str, kind: str, subject: str, bead: str | None, rig: str | None, by_workflow: bool) -> str:
    """What an escalation is about. Two of one kind and subject are one fault, told twice.

    A person's words are never merged with others': their subject is the escalation itself.
    """
    if kind in FREE_TEXT and not by_workflow:
        return identity
    if kind in OF_THE_TOWN:
        return TOWN
    if kind in OF_A_RIG and rig:
        return subject or rig
    return subject or bead or rig or identity


def severity_floor(level: Level, severity: Priority) -> Priority:
    """A disaster is critical whatever its sender called it."""
    return Priority.CRITICAL if level is Level.L4 else severity
