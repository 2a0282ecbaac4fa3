"""What the Mayor carries from run to run, and how it changes. Nothing here waits or asks the world."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from models.errors import Level
from models.mayor.alerts import Alerting, Edge, Notice, Priority
from models.mayor.escalations import (
    EVIDENCE_BYTES,
    LONG_MESSAGE_BYTES,
    MESSAGE_BYTES,
    OPEN_KEPT,
    Escalation,
    EscalationStatus,
)
from models.settings import Settings
from policies.mayor.decisions import FREE_TEXT, Move, Past, Ruling, decide, freed, frees, severity_floor, subject_of
from policies.mayor.notification_rules import ChannelQueue, Condition, channels_for, put
from workflows.mayor.cases import (
    TRIED_BYTES,
    Case,
    MadeMove,
    Plan,
    clipped,
)

RESOLVED_KEPT = 100
CASES_BYTES = 1_450_000
"""of all cases together, as they are handed over; with what else is carried it stays below Temporal's 2 MB"""
LONG_TOTAL_BYTES = 60_000
"""of messages that are longer than others are kept"""
SLACK = 100
"""cases beyond these two before any is forgotten within a run"""
SUBJECTS_KEPT = 300
CLEARED = "cleared"


class MayorState(BaseModel):
    """All that the Mayor carries. Changed in place: its workflow is its only holder."""

    model_config = ConfigDict(extra="ignore")

    cases: dict[str, Case] = Field(default_factory=dict)
    """by id: open ones in the order they came, resolved ones in the order they were resolved"""
    unrecorded: dict[str, None] = Field(default_factory=dict)
    """ids whose last change the ledger has not taken yet"""
    forgotten: int = 0
    """open ones that only the record has any more"""
    moves: dict[str, list[MadeMove]] = Field(default_factory=dict)
    """by kind and subject: what the Mayor did alone, lately"""
    told: dict[str, Condition] = Field(default_factory=dict)
    """what people know to hold"""
    queues: dict[str, ChannelQueue] = Field(default_factory=dict)
    """by channel: what it has not been sent yet"""
    alerting: Alerting = Alerting()
    settings: Settings = Settings()
    """of the town, as last read"""
    rigs: list[str] = Field(default_factory=list)
    patience: int = 1000
    """messages after which a run hands over"""

    _open: dict[str, str] = PrivateAttr(default_factory=dict)
    """kind and subject of each open case: its id"""
    _homes: dict[str, str] = PrivateAttr(default_factory=dict)
    """id of each telling: that of the case which took it in"""

    def model_post_init(self, _context: object) -> None:
        for case in self.cases.values():
            self._index(case)

    def _index(self, case: Case) -> None:
        identity = case.status.id
        self._homes |= dict.fromkeys([identity, *case.ids], identity)
        if not case.status.resolved:
            self._open[case.key] = identity

    def _unindex(self, case: Case) -> None:
        for told in [case.status.id, *case.ids]:
            self._homes.pop(told, None)
        if self._open.get(case.key) == case.status.id:
            del self._open[case.key]

    # --- what is reported -----------------------------------------------------------------------

    def open(self, told: Escalation, now: datetime) -> Case | None:
        """Take a report. Returns the case whose course is to be decided; None where nothing new is to decide."""
        key = self._key(told)
        same = self.cases.get(self._open.get(key, ""))
        known = self.find(told.id) or same
        if known is not None and known.status.resolved and _is_late(told, known):
            return None
        if known is not None and not known.status.resolved and not _stands_alone(told, known):
            self._told_again(known, told, now)
            return None
        if same is not None:
            key = f"{key}#{told.id}"  # people are told of each open case under a key of its own
        level = Level(told.level) if told.level in set(Level) else Level.L3
        said = Priority(told.severity) if told.severity in set(Priority) else Priority.HIGH
        severity = severity_floor(level, said)
        status = EscalationStatus(
            id=told.id,
            severity=severity.value,
            kind=told.kind,
            source=told.source,
            bead=told.bead,
            opened_at=told.opened_at,
            acked=False,
            message=clipped(told.message, LONG_MESSAGE_BYTES),
            level=level.value,
            rig=told.rig,
            evidence=clipped(told.evidence, EVIDENCE_BYTES),
            tried=clipped(told.tried, TRIED_BYTES),
        )
        case = Case(status=status, key=key, severity=severity, ids=[told.id], announced=told.announced)
        case.note_asker(told)
        before = self.cases.pop(told.id, None)  # it comes back: behind all that are open already
        if before is not None:
            self._unindex(before)
        self._changed(case)
        self._index(case)
        if len(status.message.encode()) > MESSAGE_BYTES:
            self._shorten()
        return case

    def _shorten(self) -> None:
        """Keep the long messages of the newest cases alone, so that the state fits; the record has them all."""
        room = LONG_TOTAL_BYTES
        for case in reversed(self.cases.values()):
            size = len(case.status.message.encode())
            if size > MESSAGE_BYTES:
                room -= size
                if room < 0:
                    case.amend(message=clipped(case.status.message, MESSAGE_BYTES))
            elif room < 0:
                return  # what came before was shortened before

    def find(self, escalation: str) -> Case | None:
        """The case of this id, or the one that took a telling of this id in."""
        return self.cases.get(self._homes.get(escalation, ""))

    def open_cases(self) -> list[Case]:
        return [case for case in self.cases.values() if not case.status.resolved]

    def _key(self, told: Escalation) -> str:
        by_workflow = "/" in told.source
        about = subject_of(told.id, told.kind, told.subject, told.bead, told.rig, by_workflow)
        return f"{told.kind}:{about}"

    def take_back(self, status: EscalationStatus) -> Case:
        """Remember what only the record had; people are not told of it again."""
        case = Case(
            status=status, key=f"{status.kind}:{status.id}", severity=Priority(status.severity), ids=[status.id]
        )
        self.cases[status.id] = case
        self._index(case)
        self.forgotten = max(self.forgotten - (not status.resolved), 0)
        return case

    def _told_again(self, case: Case, told: Escalation, now: datetime) -> None:
        """The same fault: more urgent perhaps, or another question."""
        status = case.status
        case.note_asker(told)
        if told.id not in case.ids:
            self._unindex(case)
            case.note_telling(told)
            self._index(case)
            if told.kind in FREE_TEXT:
                case.tellings += 1
                earlier = clipped(f"asked before: {status.message}\n{status.evidence}", EVIDENCE_BYTES)
                case.amend(message=clipped(told.message, LONG_MESSAGE_BYTES), evidence=earlier)
                self._shorten()
                self._changed(case)
        said = Priority(told.severity) if told.severity in set(Priority) else Priority.HIGH
        steps = said.rank - Priority(status.severity).rank
        if steps > 0:
            case.raises += steps
            case.amend(severity=said.value, message=clipped(told.message, LONG_MESSAGE_BYTES))
            self._shorten()
            if case.asked_at is not None:
                case.asked_at = now
            self._changed(case)

    def clear(self, escalation: str, now: datetime) -> Case | None:
        """One telling is over by itself. Returns the case when its fault is over with it."""
        case = self.find(escalation)
        if case is None or case.status.resolved:
            return None
        remaining = [one for one in case.ids if one != escalation]
        if not remaining:
            self.resolve(case, CLEARED, now)
            return case
        self._unindex(case)
        case.ids = remaining
        case.askers = {asker: known for asker, known in case.askers.items() if known != escalation}
        self._index(case)
        return None

    def forget_source(self, source: str, now: datetime) -> None:
        """A workflow was reset: nobody else would ever say that what it had told is over."""
        for case in self.open_cases():
            told_by_it = case.askers.get(source)
            if told_by_it is not None:
                self.clear(told_by_it, now)

    # --- what is decided ------------------------------------------------------------------------

    def judge(self, case: Case, now: datetime) -> Ruling:
        """Decide what is done about a case, and plan it."""
        ruling = decide(case.report(), self._past(case.key, now), self.settings.recovery)
        if ruling.tell:
            self.ask(case, now)
        if ruling.move is not Move.ASK:
            case.plan = Plan(move=ruling.move, at=now + ruling.after, target=ruling.target)
        return ruling

    def ask(self, case: Case, now: datetime) -> None:
        """From now on people know of it and somebody has to answer."""
        if case.asked_at is None:
            case.asked_at = now
            if case.announced:
                self.told[case.key] = case.condition()

    def made(self, case: Case, move: Move, now: datetime) -> None:
        """Remember a move, for the next time that the same happens."""
        case.plan = None
        self.moves[case.key] = [*self._recent(case.key, now), MadeMove(move=move, at=now)]
        while len(self.moves) > SUBJECTS_KEPT:
            del self.moves[next(iter(self.moves))]

    def tried(self, case: Case, what: str) -> None:
        """Add to what was tried."""
        case.amend(tried=clipped(f"{what}; {case.status.tried}".rstrip("; "), TRIED_BYTES))
        self._changed(case)

    def acknowledge(self, case: Case) -> None:
        if not case.status.acked:
            case.amend(acked=True)
            self._changed(case)

    def resolve(self, case: Case, action: str, now: datetime, by: str | None = None) -> None:
        """It is over, by somebody's action or by itself."""
        if case.status.resolved:
            return
        self._unindex(case)
        by_somebody = {} if action == CLEARED else {"acked": True}
        case.amend(resolved=True, action=action, resolved_at=now, resolved_by=by, **by_somebody)
        case.plan = None
        if case.announced:
            self.told.pop(case.key, None)
        self.cases.pop(case.status.id, None)  # behind all that were resolved before
        self._changed(case)
        self._index(case)
        if frees(case.status.kind):
            self._free_jobs(case.status.opened_at, now)

    def _free_jobs(self, since: datetime, now: datetime) -> None:
        """A system fault is cured: jobs that were stopped meanwhile and that nobody has taken up go on."""
        for case in self.open_cases():
            if case.status.opened_at >= since and not case.status.acked and freed(case.report()):
                case.plan = Plan(move=Move.RETRY, at=now)

    def remind(self, now: datetime) -> list[Case]:
        """Raise the severity of what nobody answered in time; returns those cases."""
        settings = self.settings.escalation
        raised = []
        for case in self.open_cases():
            due = self.reminder_of(case)
            if due is not None and due <= now:
                case.raises += 1
                case.asked_at = now
                severity = Priority(case.status.severity).raised()
                case.amend(repeats=min(case.status.repeats + 1, settings.max_repeats), severity=severity.value)
                self._changed(case)
                raised.append(case)
        return raised

    def reminder_of(self, case: Case) -> datetime | None:
        """When a case that nobody answers is told again; None: never."""
        settings = self.settings.escalation
        if case.status.resolved or case.status.acked or case.asked_at is None:
            return None
        if case.status.repeats >= settings.max_repeats:
            return None
        return case.asked_at + timedelta(seconds=settings.ack_timeout)

    def _past(self, key: str, now: datetime) -> Past:
        moves: dict[Move, int] = {}
        for made in self._recent(key, now):
            moves[made.move] = moves.get(made.move, 0) + 1
        return Past(moves=moves)

    def _recent(self, key: str, now: datetime) -> list[MadeMove]:
        window = timedelta(seconds=self.settings.recovery.window)
        return [made for made in self.moves.get(key, []) if now - made.at < window]

    # --- what people are told -------------------------------------------------------------------

    def holding(self) -> dict[str, Condition]:
        """What people ought to know to hold."""
        return {case.key: case.condition() for case in self.open_cases() if case.asked_at is not None}

    def announce(self, notices: Iterable[Notice], holding: dict[str, Condition], alerting: Alerting) -> None:
        """Notices are written down: remember that people know, and put them before each channel."""
        self.alerting = alerting
        for notice in notices:
            if notice.edge is Edge.END:
                self.told.pop(notice.condition, None)
            else:
                self.told[notice.condition] = holding[notice.condition]
            for channel in channels_for(notice.type, alerting.rules, alerting.channels):
                self.queues[channel] = put(self.queues.get(channel, ChannelQueue()), notice)

    # --- what is kept ---------------------------------------------------------------------------

    def _changed(self, case: Case) -> None:
        self.cases[case.status.id] = case
        self.unrecorded[case.status.id] = None

    def recorded(self, status: EscalationStatus) -> None:
        """The ledger has taken, or for good refused, this standing."""
        case = self.cases.get(status.id)
        if case is None or case.status == status:
            self.unrecorded.pop(status.id, None)
            if case is not None and status.resolved:
                case.amend(evidence="")  # the record has it
        self.shed()

    def shed(self, *, handing_over: bool = False) -> None:
        """Forget the least urgent and oldest past what is kept, once the record holds them: there they remain.

        Args:
            handing_over: down to what is kept, and then to what fits one payload, unrecorded ones last.
        """
        kept = OPEN_KEPT + RESOLVED_KEPT + SLACK
        if not handing_over and (len(self.cases) <= kept or len(self.cases) - len(self.unrecorded) < SLACK):
            return
        for resolved, limit in ((True, RESOLVED_KEPT), (False, OPEN_KEPT)):
            keys = [key for key, case in self.cases.items() if case.status.resolved is resolved]
            surplus = max(len(keys) - limit, 0)
            keys.sort(key=lambda key: (handing_over and key in self.unrecorded, self._worth(key)))
            for key in keys[:surplus]:
                if key not in self.unrecorded:
                    self._forget(key)
        if handing_over:
            self._fit()

    def _fit(self) -> None:
        """Give up what does not fit one payload: a Mayor that cannot hand over hears nothing any more."""
        sizes = {key: len(case.model_dump_json().encode()) for key, case in self.cases.items()}
        excess = sum(sizes.values()) - CASES_BYTES
        for key in sorted(sizes, key=lambda key: (key in self.unrecorded, self._worth(key))):
            if excess <= 0:
                return
            excess -= sizes[key]
            self._forget(key)

    def _worth(self, key: str) -> tuple[bool, bool, int]:
        """What is dearer is forgotten later; of equals the oldest first."""
        case = self.cases[key]
        return not case.status.resolved, bool(case.paused), Priority(case.status.severity).rank

    def _forget(self, key: str) -> None:
        case = self.cases.pop(key)
        self._unindex(case)
        self.unrecorded.pop(key, None)
        if not case.status.resolved:
            self.forgotten += 1
            self.told.pop(case.key, None)


def _is_late(told: Escalation, known: Case) -> bool:
    """It tells of what is over, not of the same fault come back."""
    return known.status.resolved_at is not None and told.opened_at <= known.status.resolved_at


def _stands_alone(told: Escalation, known: Case) -> bool:
    """Another question behind one that was seen already: nobody would be reminded of it."""
    return known.status.acked and told.kind in FREE_TEXT and told.id not in known.ids
