"""The Mayor: keeps every escalation until it is resolved, and carries decisions to the jobs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from models import names
    from models.base import Frozen
    from models.errors import ErrorCode, Level
    from models.escalations import Escalation, EscalationAck, EscalationResolve, EscalationStatus
    from models.jobs import Decision, DecisionKind
    from models.names import WorkflowType
    from workflows import options
    from workflows.labels import Labels, details

from workflows.messages import tell
from workflows.patience import Patience

RESOLVED_KEPT = 200
OPEN_KEPT = 1000
"""with these texts and RESOLVED_KEPT the carried state stays below Temporal's 2 MB"""
TEXT_KEPT = 300
"""characters of a message"""
CATCH_UP = timedelta(minutes=1)
DRAINS = 8
"""records written at once"""


class Case(Frozen):
    """One escalation as the Mayor remembers it."""

    status: EscalationStatus
    rig: str | None = None
    level: str = Level.L3.value


class MayorState(Frozen):
    """All that the Mayor carries from run to run."""

    cases: tuple[Case, ...] = ()
    """open and resolved, oldest first"""
    unrecorded: tuple[str, ...] = ()
    """ids whose last change the ledger has not taken yet"""
    patience: int = 1000
    """messages after which a run hands over"""


@workflow.defn(name=WorkflowType.MAYOR)
class MayorWorkflow:
    """One per town, for ever; reached by signal-with-start, so that a report finds it in any case."""

    @workflow.init
    def __init__(self, state: MayorState | None = None) -> None:
        state = state or MayorState()
        self._cases = {case.status.id: case for case in state.cases}
        self._unrecorded = dict.fromkeys(state.unrecorded)
        self._recording: set[str] = set()
        self._limit = state.patience
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._shown = ""

    @workflow.run
    async def run(self, state: MayorState | None = None) -> None:
        """Record changes in the background until the run hands over."""
        drains = [asyncio.create_task(self._drain()) for _ in range(DRAINS)]  # kept: a task that nobody holds may go
        while not self._patience.exhausted:
            self._show()
            await workflow.wait_condition(lambda: self._patience.exhausted or self._summary() != self._shown)
        await self._let_the_record_catch_up()
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._shed(also_unrecorded=True)
        # A record that is under way now is written again by the next run: writing it twice is one.
        # Its activity is left alone, since cancelling one that has just ended fails the whole task.
        assert drains
        workflow.continue_as_new(self.state())

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="A fault that somebody must know of; telling it twice is one")
    def escalate(self, escalation: Escalation) -> None:
        self._patience.count()
        if escalation.id in self._cases:
            return
        status = EscalationStatus(
            id=escalation.id,
            severity=escalation.severity,
            kind=escalation.kind,
            source=escalation.source,
            bead=escalation.bead,
            opened_at=escalation.opened_at,
            acked=False,
            message=escalation.message[:TEXT_KEPT],
        )
        self._keep(Case(status=status, rig=escalation.rig, level=escalation.level))

    @workflow.update(description="Somebody has seen it")
    def acknowledge(self, ack: EscalationAck) -> EscalationStatus:
        self._patience.count()
        return self._change(ack.id, acked=True)

    @acknowledge.validator
    def _can_acknowledge(self, ack: EscalationAck) -> None:
        self._known(ack.id)

    @workflow.update(description="Decide; the decision goes to the job where there is one")
    async def resolve(self, resolve: EscalationResolve) -> EscalationStatus:
        self._patience.count()
        status = self._change(resolve.id, acked=True, resolved=True, action=resolve.action.value)
        case = self._cases[resolve.id]
        if case.rig and status.bead:
            reason = f"decided by {resolve.by}" if resolve.by else "decided by a person"
            decision = Decision(kind=DecisionKind(resolve.action), reason=reason, escalation=resolve.id)
            await tell(names.polecat_id(case.rig, status.bead), "decision", decision)
        return status

    @resolve.validator
    def _can_resolve(self, resolve: EscalationResolve) -> None:
        status = self._known(resolve.id)
        if status.resolved and status.action != resolve.action:
            raise _refusal(ErrorCode.REFUSED, f"escalation {resolve.id} is resolved already: {status.action}")

    @workflow.query(description="Open escalations, oldest first, then resolved ones, newest first")
    def escalations(self) -> list[EscalationStatus]:
        statuses = [case.status for case in self._cases.values()]
        is_open = [status for status in statuses if not status.resolved]
        return is_open + [status for status in reversed(statuses) if status.resolved]

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> MayorState:
        return MayorState(cases=tuple(self._cases.values()), unrecorded=tuple(self._unrecorded), patience=self._limit)

    def _known(self, escalation: str) -> EscalationStatus:
        case = self._cases.get(escalation)
        if case is None:
            raise _refusal(ErrorCode.NOT_FOUND, f"there is no escalation {escalation}")
        return case.status

    # --- cases and their record ---------------------------------------------------------------

    def _change(self, escalation: str, **changes: object) -> EscalationStatus:
        case = self._cases[escalation]
        status = case.status.model_copy(update=changes)
        if status != case.status:
            if status.resolved and not case.status.resolved:
                del self._cases[escalation]  # moves it behind all that were resolved before
            self._keep(case.model_copy(update={"status": status}))
        return status

    def _keep(self, case: Case) -> None:
        self._cases[case.status.id] = case
        self._unrecorded[case.status.id] = None

    def _shed(self, *, also_unrecorded: bool = False) -> None:
        """Forget the oldest past what is kept, once the record holds them: there they remain as they are."""
        for resolved, limit in ((True, RESOLVED_KEPT), (False, OPEN_KEPT)):
            keys = [key for key, case in self._cases.items() if case.status.resolved is resolved]
            surplus = max(len(keys) - limit, 0)
            for key in sorted(keys, key=lambda key: key in self._unrecorded)[:surplus]:
                if also_unrecorded or key not in self._unrecorded:
                    del self._cases[key]
                    self._unrecorded.pop(key, None)

    async def _let_the_record_catch_up(self) -> None:
        """Before handing over, give a flood of escalations a while to reach the record.

        What the next run gets must fit one payload. In a flood with the ledger down for longer
        the oldest are given up, since no person reads thousands and a Mayor that cannot hand
        over hears nothing any more.
        """
        try:
            await workflow.wait_condition(
                lambda: len(self._unrecorded) <= OPEN_KEPT,
                timeout=CATCH_UP,
                timeout_summary="the record catches up before the run hands over",
            )
        except TimeoutError:
            workflow.logger.error("%s escalations are not recorded; the oldest are given up", len(self._unrecorded))

    def _next_unrecorded(self) -> str | None:
        return next((key for key in self._unrecorded if key not in self._recording), None)

    async def _drain(self) -> None:
        """Write changes to the ledger, waiting out any outage of it."""
        while True:
            await workflow.wait_condition(lambda: self._next_unrecorded() is not None)
            key = self._next_unrecorded()
            if key is not None:
                self._recording.add(key)
                try:
                    await self._record(key)
                finally:
                    self._recording.discard(key)

    async def _record(self, key: str) -> None:
        status = self._cases[key].status
        try:
            await workflow.execute_activity_method(
                LedgerActivities.record_escalation,
                status,
                summary=f"record {status.kind} {key}"[:200],
                **options.ledger_write(),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            # The ledger will never take this one; the Mayor still holds it.
            workflow.logger.error("escalation %s cannot be recorded: %s", key, error.cause)
        now = self._cases.get(key)
        if now is None or now.status == status:
            self._unrecorded.pop(key, None)
        self._shed()

    # --- what people see ----------------------------------------------------------------------

    def _summary(self) -> str:
        waiting = [case for case in self._cases.values() if not case.status.resolved]
        rows: dict[str, str | int | None] = {"open": len(waiting), "not recorded yet": len(self._unrecorded)}
        rows |= {case.status.id: f"{case.level} {case.status.kind}: {case.status.message}" for case in waiting[-10:]}
        return details("Mayor", rows, "gt escalate list")

    def _show(self) -> None:
        self._shown = self._summary()
        has_open = any(not case.status.resolved for case in self._cases.values())
        self._labels.show(role="mayor", state="waiting for a person" if has_open else "idle")
        workflow.set_current_details(self._shown)


def _refusal(code: ErrorCode, message: str) -> ApplicationError:
    return ApplicationError(message, Level.L1.value, "gt escalate list", type=code.value, non_retryable=True)
