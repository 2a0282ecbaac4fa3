"""The Mayor: receives every escalation, decides what it can, asks people for the rest, carries decisions back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from models.errors import ErrorCode, Level
    from models.mayor.escalations import (
        OPEN_KEPT,
        Escalation,
        EscalationAck,
        EscalationCleared,
        EscalationRef,
        EscalationResolve,
        EscalationStatus,
        SourceReset,
    )
    from models.names import WorkflowType
    from workflows.mayor.cases import Case
    from workflows.mayor.state import MayorState
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels, details

from workflows.mayor.actions import Moves
from workflows.mayor.notifications import Herald
from workflows.shared.continue_as_new import Patience
from workflows.shared.timers import until

CATCH_UP = timedelta(minutes=1)
SETTLE = timedelta(seconds=5)
IDLE_REFRESH = timedelta(minutes=15)
"""how often settings are read while nothing is open; otherwise each `health.check_interval`"""
DRAINS = 8
"""records written at once"""


@workflow.defn(name=WorkflowType.MAYOR)
class MayorWorkflow:
    """One per town, for ever; reached by signal-with-start, so that a report finds it in any case.

    Handlers change the state; `run` makes the moves that are due; beside it the record is written,
    people are told, and settings are read. Nothing of that waits for anything else.
    """

    @workflow.init
    def __init__(self, state: MayorState | None = None) -> None:
        self._state = state or MayorState()
        self._moves = Moves(self._state)
        self._closing = False
        """this run hands over: nothing new is begun"""
        self._herald = Herald(self._state, lambda: self._closing)
        self._recording: set[str] = set()
        self._patience = Patience(self._state.patience)
        self._labels = Labels()
        self._changed = True

    @workflow.run
    async def run(self, state: MayorState | None = None) -> None:
        """Decide and remind until the run hands over."""
        beside = [asyncio.create_task(self._drain()) for _ in range(DRAINS)]  # kept: a task that nobody holds may go
        beside += [asyncio.create_task(self._refresh()), self._herald.start()]
        while not self._patience.exhausted:
            self._changed = False
            if self._state.remind(workflow.now()):
                self._herald.look()
            await self._moves.make_due()
            self._herald.look()
            self._show()
            await self._something_to_do()
        await self._let_the_record_catch_up()
        self._closing = True
        await self._quiet(lambda: all(task.done() for task in beside) and self._herald.idle and self._moves.idle)
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._state.shed(handing_over=True)
        # What is under way still is done again by the next run: doing it twice is one (decisions/0006).
        workflow.continue_as_new(self._state)

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="A fault that somebody must know of; telling it twice is one")
    def escalate(self, escalation: Escalation) -> None:
        self._count()
        case = self._state.open(escalation, workflow.now())
        if case is not None:
            ruling = self._state.judge(case, workflow.now())
            workflow.logger.info("%s: %s (%s)", escalation.id, ruling.move.value, ruling.rule)

    @workflow.signal(description="What was escalated is over by itself")
    def cleared(self, cleared: EscalationCleared) -> None:
        self._count()
        self._state.clear(cleared.id, workflow.now())

    @workflow.signal(description="A workflow starts from nothing: whatever it had told, it does not know any more")
    def source_reset(self, reset: SourceReset) -> None:
        self._count()
        self._state.forget_source(reset.source, workflow.now())

    @workflow.update(description="Somebody has seen it")
    async def acknowledge(self, ack: EscalationAck) -> EscalationStatus:
        self._count()
        case = await self._case(ack.id)
        self._state.acknowledge(case)
        return case.status

    @acknowledge.validator
    def _can_acknowledge(self, ack: EscalationAck) -> None:
        self._require_known(ack.id)

    @workflow.update(description="Decide; the decision goes to who waits for it")
    async def resolve(self, resolve: EscalationResolve) -> EscalationStatus:
        self._count()
        case = await self._case(resolve.id)
        _refuse_another(case, resolve)
        if not case.status.resolved:
            self._state.resolve(case, resolve.action.value, workflow.now(), resolve.by or None)
            await self._moves.carry(case, resolve.action, f"decided by {resolve.by or 'a person'}")
        return case.status

    @resolve.validator
    def _can_resolve(self, resolve: EscalationResolve) -> None:
        self._require_known(resolve.id)
        case = self._state.find(resolve.id)
        if case is not None:
            _refuse_another(case, resolve)

    @workflow.query(description="Open escalations, oldest first, then resolved ones, newest first")
    def escalations(self) -> list[EscalationStatus]:
        statuses = [case.status for case in self._state.cases.values()]
        is_open = [status for status in statuses if not status.resolved]
        return is_open + [status for status in reversed(statuses) if status.resolved]

    @workflow.query(description="All that a next run would go on from")
    def state(self) -> MayorState:
        return self._state

    def _count(self) -> None:
        self._patience.count()
        self._changed = True

    def _require_known(self, escalation: str) -> None:
        if self._state.find(escalation) is None and not self._state.forgotten:
            raise _unknown(escalation)

    async def _case(self, escalation: str) -> Case:
        """The case of this id; one that was forgotten in a flood is taken back from the record."""
        case = self._state.find(escalation)
        if case is not None:
            return case
        try:
            status = await workflow.execute_activity_method(
                LedgerActivities.recorded_escalation,
                EscalationRef(id=escalation),
                summary=f"what does the record say of {escalation}?",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            raise _cause(error, escalation) from error
        return self._state.find(escalation) or self._state.take_back(status)

    # --- settings -----------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Read settings each cycle; with the ledger unreadable the last ones hold."""
        while not self._closing:
            try:
                facts = await workflow.execute_activity_method(
                    LedgerActivities.town_facts, summary="settings and alert rules", **activity_options.ledger_ask()
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.warning("the settings cannot be read: %s", error.cause)
            else:
                self._changed = self._changed or facts.settings != self._state.settings
                self._state.settings, self._state.rigs = facts.settings, list(facts.rigs)
            await self._herald.refresh()
            await self._until_next_cycle()

    async def _until_next_cycle(self) -> None:
        cycle = timedelta(seconds=self._state.settings.health.check_interval)
        idle = not self._state.open_cases()
        try:
            await workflow.wait_condition(
                lambda: self._closing or (idle and bool(self._state.open_cases())),
                timeout=max(cycle, IDLE_REFRESH) if idle else cycle,
                timeout_summary="settings are read each cycle",
            )
        except TimeoutError:
            return

    # --- the record ---------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Write changes to the ledger, waiting out any outage of it."""
        while not self._closing:
            await workflow.wait_condition(lambda: self._closing or self._next_unrecorded() is not None)
            key = self._next_unrecorded()
            if key is not None and not self._closing:
                self._recording.add(key)
                try:
                    await self._record(key)
                finally:
                    self._recording.discard(key)

    def _next_unrecorded(self) -> str | None:
        return next((key for key in self._state.unrecorded if key not in self._recording), None)

    async def _record(self, key: str) -> None:
        status = self._state.cases[key].status
        try:
            await workflow.execute_activity_method(
                LedgerActivities.record_escalation,
                status,
                summary=f"record {status.kind} {key}"[:200],
                **activity_options.ledger_write(),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            # The ledger will never take this one; the Mayor still holds it.
            workflow.logger.error("escalation %s cannot be recorded: %s", key, error.cause)
        self._state.recorded(status)

    async def _let_the_record_catch_up(self) -> None:
        """Before handing over, give a flood of escalations a while to reach the record.

        What the next run gets must fit one payload (`MayorState.shed`). In a flood with the ledger down for
        longer the least urgent and oldest are given up, since no person reads thousands.
        """
        try:
            await workflow.wait_condition(
                lambda: len(self._state.unrecorded) <= OPEN_KEPT,
                timeout=CATCH_UP,
                timeout_summary="the record catches up before the run hands over",
            )
        except TimeoutError:
            count = len(self._state.unrecorded)
            workflow.logger.error("%s escalations are handed over unrecorded", count)

    async def _quiet(self, holds: Callable[[], bool]) -> None:
        """Give what is under way a moment to end."""
        try:
            await workflow.wait_condition(holds, timeout=SETTLE, timeout_summary="what is under way ends")
        except TimeoutError:
            return

    # --- what is next, and what people see ----------------------------------------------------

    async def _something_to_do(self) -> None:
        wake = self._next_wake()
        try:
            await workflow.wait_condition(
                lambda: self._changed or self._patience.exhausted,
                timeout=None if wake is None else until(wake),
                timeout_summary="a move, a reminder or a message is due",
            )
        except TimeoutError:
            return

    def _next_wake(self) -> datetime | None:
        reminders = [self._state.reminder_of(case) for case in self._state.open_cases()]
        moments = [*reminders, self._moves.next_due(), self._herald.next_due(workflow.now())]
        return min((moment for moment in moments if moment is not None), default=None)

    def _show(self) -> None:
        waiting = self._state.open_cases()
        rows: dict[str, str | int | None] = {
            "open": len(waiting),
            "not recorded yet": len(self._state.unrecorded),
            "channels behind": ", ".join(channel for channel, queue in self._state.queues.items() if not queue.empty),
        }
        for case in waiting[-10:]:
            rows[case.status.id] = f"{case.status.level} {case.status.kind}: {case.status.message}"
        asked = any(case.asked_at is not None and not case.status.acked for case in waiting)
        self._labels.show(role="mayor", state="waiting for a person" if asked else "deciding" if waiting else "idle")
        workflow.set_current_details(details("Mayor", rows, "gt inbox"))


def _refuse_another(case: Case, resolve: EscalationResolve) -> None:
    status = case.status
    if status.resolved and status.action != resolve.action.value:
        raise _refusal(ErrorCode.REFUSED, f"escalation {resolve.id} is resolved already: {status.action}")


def _unknown(escalation: str) -> ApplicationError:
    return _refusal(ErrorCode.NOT_FOUND, f"there is no escalation {escalation}")


def _refusal(code: ErrorCode, message: str) -> ApplicationError:
    return ApplicationError(message, Level.L1.value, "gt escalate list", type=code.value, non_retryable=True)


def _cause(error: ActivityError, escalation: str) -> ApplicationError:
    """Why an escalation cannot be had from the record."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == ErrorCode.NOT_FOUND.value:
        return _unknown(escalation)
    return ApplicationError(
        f"{escalation} is in the record alone, and the ledger does not answer",
        Level.L3.value,
        "gt status",
        type=ErrorCode.LEDGER_UNREACHABLE.value,
        non_retryable=True,
    )
