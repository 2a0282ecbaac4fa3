"""What the Mayor does alone, and how decisions reach who waits for them."""

from __future__ import annotations

import asyncio
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.supervised import ServiceActivities
from models import names
from models.job.messages import Decision, DecisionKind
from models.refinery.messages import PauseRequest
from models.supervision.messages import ServiceName
from policies.mayor.decisions import Move
from workflows.mayor.cases import Case
from workflows.mayor.state import CLEARED, MayorState
from workflows.shared import activity_options
from workflows.shared.signals import tell


class Moves:
    """Carries out plans over the Mayor's state."""

    def __init__(self, state: MayorState) -> None:
        self._state = state
        self._restarting: dict[str, asyncio.Task[None]] = {}
        """by case; beside the loop, because it takes a while"""

    @property
    def idle(self) -> bool:
        """No service is being restarted."""
        return not self._restarting

    def next_due(self) -> datetime | None:
        """When the next planned move is due."""
        moments = [
            case.plan.at for case in self._state.open_cases() if case.plan and case.status.id not in self._restarting
        ]
        return min(moments, default=None)

    async def make_due(self) -> None:
        """Make every move whose time has come, and take back what ended faults had paused."""
        for case in self._state.open_cases():
            plan = case.plan
            if plan is not None and plan.at <= workflow.now() and case.status.id not in self._restarting:
                await self._make(case, plan.move, plan.target)
        await self._resume_rigs()

    async def _make(self, case: Case, move: Move, target: str) -> None:
        match move:
            case Move.RETRY:
                await self._decide(case, move, DecisionKind.RETRY)
            case Move.REASSIGN:
                await self._decide(case, move, DecisionKind.REASSIGN)
            case Move.PAUSE_RIG:
                await self._pause_rigs(case)
            case Move.RESTART_SERVICE:
                task = asyncio.create_task(self._restart_service(case, target))
                self._restarting[case.status.id] = task
            case _:
                self._state.made(case, Move.WAIT, workflow.now())
                self._state.ask(case, workflow.now())

    # --- decisions ------------------------------------------------------------------------------

    async def _decide(self, case: Case, move: Move, kind: DecisionKind) -> None:
        """The Mayor's own decision about a job; the case is over with it. A job that is gone needs none."""
        self._state.made(case, move, workflow.now())
        status = case.status
        told = await self.carry(case, kind, f"decided by the Mayor: {status.message}"[:300], by_person=False)
        if not case.status.resolved:
            self._state.resolve(case, kind.value if told else CLEARED, workflow.now(), names.MAYOR_ID)

    async def carry(self, case: Case, kind: DecisionKind, reason: str, *, by_person: bool = True) -> bool:
        """Tell a decision to everybody who waits for it; False: nobody does."""
        decision = Decision(
            kind=kind,
            reason=reason,
            tellings=tuple(case.ids),
            opened_at=case.status.opened_at,
            by_person=by_person,
        )
        told = [
            await tell(workflow_id, "decision", decision.model_copy(update={"escalation": known}))
            for workflow_id, known in case.waiting().items()
        ]
        return any(told)

    # --- rigs -----------------------------------------------------------------------------------

    async def _pause_rigs(self, case: Case) -> None:
        """No new sessions on the rig that the fault is about, or on any."""
        self._state.made(case, Move.PAUSE_RIG, workflow.now())
        rigs = [case.status.rig] if case.status.rig else list(self._state.rigs)
        case.paused = rigs
        request = PauseRequest(reason=case.status.message[:200], by=names.MAYOR_ID)
        for rig in rigs:
            await tell(names.dispatch_id(rig), "pause", request)
        self._state.tried(case, f"the Mayor paused {', '.join(rigs) or 'no rig: none is known'}")

    async def _resume_rigs(self) -> None:
        """Rigs go on that no open fault keeps paused any more."""
        kept = {rig for case in self._state.open_cases() for rig in case.paused}
        for case in [case for case in self._state.cases.values() if case.status.resolved and case.paused]:
            rigs, case.paused = case.paused, []
            for rig in rigs:
                if rig not in kept:
                    await tell(names.dispatch_id(rig), "resume", PauseRequest(by=names.MAYOR_ID))

    # --- services -------------------------------------------------------------------------------

    async def _restart_service(self, case: Case, service: str) -> None:
        try:
            done = await workflow.execute_activity_method(
                ServiceActivities.restart_service,
                ServiceName(name=service),
                summary=f"restart {service}",
                **activity_options.service_restart(),
            )
            what = f"the Mayor restarted {service}" if done else f"{service} was found well"
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            cause = error.cause
            why = cause.message if isinstance(cause, ApplicationError) else str(cause)
            what = f"{service} could not be restarted: {why}"
        self._restarting.pop(case.status.id, None)
        self._state.made(case, Move.RESTART_SERVICE, workflow.now())
        self._state.tried(case, what)
