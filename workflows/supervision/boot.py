"""Boot: every five minutes, is the Deacon alive, does it answer, else restart it, else tell the Mayor.

Where the Mayor does not work either, as after one bad upgrade, nobody else is left to tell people: Boot does.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from activities.temporal import TownActivities
    from models import names
    from models.errors import Level
    from models.mayor.escalations import Escalation, EscalationCleared
    from models.names import WorkflowType
    from models.settings import RecoverySettings
    from models.supervision.messages import (
        BootAnnouncement,
        BootReport,
        BootStep,
        DeaconLook,
        Probe,
        ProbeResult,
        RestartWorkflow,
    )
    from policies.supervision.watchdog import may_boot_restart, within_window
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels, details

from workflows.supervision.boot_notifications import BETWEEN_LOOKS, condition, deaf_mayor, tell_people, tell_people_over

LOOKS = 3
"""before a Deacon that does not answer is restarted, and after it for the new one to answer"""
LOOK = timedelta(minutes=3)
"""a Deacon in a long cycle answers only at its end"""
RESTART_LIMIT = timedelta(minutes=1)
NOT_NEEDED = "not needed"
BACK = "the Deacon answers again"
TOLD = "the Mayor did not answer, so people were told directly"
ALIVE, ANSWERS, RESTART, ESCALATE = (
    "is the process alive",
    "does it answer",
    "restart",
    "tell the Mayor",
)


@workflow.defn(name=WorkflowType.BOOT)
class BootWorkflow:
    """One look at the Deacon, in the four steps of product.md section 5. Started by the Schedule `boot`."""

    def __init__(self) -> None:
        self._steps: list[BootStep] = []
        self._labels = Labels()

    @workflow.run
    async def run(self, last: BootReport | None = None) -> BootReport:
        """Look, and act where it is needed.

        Args:
            last: what Boot found before; default: the Schedule's last result.
        """
        last = last or workflow.get_last_completion_result(BootReport)
        restarts, escalation = (last.restarts, last.escalation) if last else ((), "")
        look = await self._look_patiently()
        if look is not None and look.probe.result is ProbeResult.ANSWERS:
            self._step(RESTART, ok=True, detail=NOT_NEEDED)
            healthy = True
        else:
            healthy, restarts = await self._restart(look, restarts, escalated=bool(escalation))
        escalation = await self._tell_mayor(healthy, look, escalation)
        announced = last.announced if last else BootAnnouncement()
        if healthy:
            announced = await tell_people_over(announced, BACK)
        elif look is not None:
            announced = await self._tell_people(look.probe, escalation, announced)
        self._labels.show(role="boot", state="well" if healthy else "failed")
        return BootReport(
            at=workflow.now(),
            healthy=healthy,
            steps=tuple(self._steps),
            restarts=restarts,
            escalation=escalation,
            announced=announced,
        )

    # --- the steps ----------------------------------------------------------------------------

    async def _look_patiently(self) -> DeaconLook | None:
        """Steps 1 and 2. One that is gone is gone; one that does not answer gets some time."""
        look = await self._look()
        for _ in range(LOOKS - 1):
            if look is not None and look.probe.result in {ProbeResult.ANSWERS, ProbeResult.ABSENT}:
                break
            await workflow.sleep(BETWEEN_LOOKS, summary="it may be busy")
            look = await self._look()
        if look is None:
            self._step(ALIVE, ok=False, detail="Temporal could not be asked")
            self._step(ANSWERS, ok=False)
            return None
        found = look.probe
        runs = found.result is not ProbeResult.ABSENT
        polls = f"{len(look.pollers)} workers poll" if look.pollers else "no worker polls"
        self._step(ALIVE, ok=runs and bool(look.pollers), detail=f"{polls}; the Deacon {condition(found)}")
        answers = found.result is ProbeResult.ANSWERS
        detail = "it was stopped by a person" if answers and found.stopped else found.detail if runs else ""
        self._step(ANSWERS, ok=answers, detail=detail)
        return look

    async def _look(self) -> DeaconLook | None:
        try:
            return await workflow.execute_activity_method(
                TownActivities.look_at_deacon, summary="does the Deacon answer?", **activity_options.pings(LOOK)
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the Deacon could not be looked at: %s", error.cause)
            return None

    async def _restart(
        self, look: DeaconLook | None, restarts: tuple[datetime, ...], *, escalated: bool
    ) -> tuple[bool, tuple[datetime, ...]]:
        """Step 3, under a budget. Returns: whether the Deacon answers now, and the restarts that count."""
        if look is None:
            self._step(RESTART, ok=False, detail="it is not known which run to end")
            return False, restarts
        settings = await self._settings()
        restarts = within_window(restarts, workflow.now(), settings)
        refusal = may_boot_restart(look.probe, restarts, escalated, workflow.now(), settings)
        if refusal:
            self._step(RESTART, ok=False, detail=f"not restarted: {refusal}")
            return False, restarts
        order = RestartWorkflow(
            workflow_id=names.DEACON_ID, run_id=look.probe.run_id, reason=f"Boot: {condition(look.probe)}"
        )
        problem = await self._carry_out(order)
        healthy = not problem and await self._answers_again()
        self._step(RESTART, ok=healthy, detail=problem or ("it answers again" if healthy else "it still fails"))
        return healthy, (*restarts, workflow.now())

    async def _carry_out(self, order: RestartWorkflow) -> str:
        """The restart itself; "" or what went wrong."""
        try:
            await workflow.execute_activity_method(
                TownActivities.restart,
                order,
                summary=f"restart the Deacon: {order.reason}",
                **activity_options.pings(RESTART_LIMIT),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return f"the restart failed: {error.cause}"
        return ""

    async def _answers_again(self) -> bool:
        for _ in range(LOOKS):
            look = await self._look()
            if look is not None and look.probe.result is ProbeResult.ANSWERS:
                return True
            await workflow.sleep(BETWEEN_LOOKS, summary="it is starting")
        return False

    async def _tell_mayor(self, healthy: bool, look: DeaconLook | None, escalation: str) -> str:
        """Step 4: once an episode, and that it is over. Returns: the id of the open escalation."""
        if healthy and escalation:
            over = EscalationCleared(id=escalation, reason=BACK)
            await workflow.execute_activity_method(
                TownActivities.clear_escalation, over, summary=BACK, **activity_options.control()
            )
            self._step(ESCALATE, ok=True, detail=f"{escalation} is over")
            return ""
        if healthy or look is None:
            self._step(ESCALATE, ok=healthy, detail=NOT_NEEDED if healthy else "nothing is known of the Deacon")
            return escalation
        if escalation:
            self._step(ESCALATE, ok=True, detail=f"told before: {escalation}")
            return escalation
        report = self._report(look.probe)
        await workflow.execute_activity_method(
            TownActivities.tell_mayor, report, summary="the Deacon is down", **activity_options.control()
        )
        self._step(ESCALATE, ok=True, detail=report.id)
        return report.id

    async def _tell_people(self, found: Probe, escalation: str, announced: BootAnnouncement) -> BootAnnouncement:
        """Directly, where the Mayor would not; once an episode, and until every channel has taken it."""
        if announced.escalation == escalation and not announced.refused:
            self._add(TOLD)
            return announced
        deaf = await deaf_mayor()
        if deaf is None:
            return announced
        refused = not await tell_people(escalation, self._report(found), deaf)
        self._add(TOLD)
        return BootAnnouncement(escalation=escalation, refused=refused)

    def _report(self, found: Probe) -> Escalation:
        now = workflow.now()
        return Escalation(
            id=f"deacon_down/{now:%Y%m%dT%H%M%SZ}",
            kind="deacon_down",
            level=Level.L3.value,
            severity="critical",
            source=workflow.info().workflow_id,
            message=f"the Deacon {condition(found)}, and Boot cannot restart it (gt deacon restart, gt deacon reset)",
            evidence=found.detail,
            tried="; ".join(f"{step.name}: {step.detail or step.ok}" for step in self._steps),
            opened_at=now,
        )

    async def _settings(self) -> RecoverySettings:
        """The town's; with the record unreadable the built-in ones, since Boot keeps no memory of others."""
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.town_facts, summary="settings of the town", **activity_options.ledger_ask()
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("the record is unreadable: %s", error.cause)
            return RecoverySettings()
        return facts.settings.recovery

    # --- what people see ----------------------------------------------------------------------

    def _step(self, name: str, *, ok: bool, detail: str = "") -> None:
        self._steps.append(BootStep(name=name, ok=ok, detail=detail))
        self._show()

    def _add(self, detail: str) -> None:
        """To the last step."""
        last = self._steps[-1]
        self._steps[-1] = last.model_copy(update={"detail": f"{last.detail}; {detail}"})
        self._show()

    def _show(self) -> None:
        rows: dict[str, str | int | None] = {
            f"{number}. {step.name}": f"{'yes' if step.ok else 'no'}{': ' if step.detail else ''}{step.detail}"
            for number, step in enumerate(self._steps, start=1)
        }
        workflow.set_current_details(details("Boot", rows, "gt deacon status"))
