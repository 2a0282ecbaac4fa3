"""How workflows signal each other: one that nobody takes is an answer, not a crash; the Mayor is always found."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.temporal import TownActivities
from models.mayor.escalations import Escalation, EscalationCleared
from workflows.shared import activity_options


class Receipt(StrEnum):
    """What became of a signal. Those but the first are named as the SDK names the failure."""

    TAKEN = "Taken"
    ABSENT = "ExternalWorkflowExecutionNotFound"
    """No such workflow runs."""
    FULL = "SignalCountLimitExceeded"
    """It runs, and has taken nothing for so long that its run may have no more signals (10,000; docs/temporal.md)."""


async def tell(workflow_id: str, signal: str, message: Any) -> bool:
    """Signal another workflow by its id, whatever run it is in.

    Returns:
        False when nobody takes it; the caller decides what that means.
    """
    return await deliver(workflow_id, signal, message) is Receipt.TAKEN


async def deliver(workflow_id: str, signal: str, message: Any) -> Receipt:
    """As `tell`, for who concludes something from the other's absence."""
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(signal, message)
    except ApplicationError as error:
        if error.type not in {Receipt.ABSENT, Receipt.FULL}:
            raise
        workflow.logger.warning("%s was not told %s: %s", workflow_id, signal, error.type)
        return Receipt(error.type)
    return Receipt.TAKEN


async def tell_mayor(escalation: Escalation) -> None:
    """Escalate. The Mayor is started where it does not run; telling twice is one."""
    await workflow.execute_activity_method(
        TownActivities.tell_mayor,
        escalation,
        summary=f"tell the Mayor: {escalation.kind}",
        **activity_options.control(),
    )


async def tell_mayor_cleared(escalation: str, reason: str) -> None:
    """What was escalated is over by itself."""
    await workflow.execute_activity_method(
        TownActivities.clear_escalation,
        EscalationCleared(id=escalation, reason=reason),
        summary=f"tell the Mayor: {escalation} is over"[:200],
        **activity_options.control(),
    )
