"""How workflows speak to each other: signals that find nobody are an answer, not a crash; the Mayor is always found."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.town import TownActivities
from models.escalations import Escalation, EscalationCleared
from workflows import options

NOBODY = "ExternalWorkflowExecutionNotFound"
"""type of the failure when the addressed workflow does not run"""


async def tell(workflow_id: str, signal: str, message: Any) -> bool:
    """Signal another workflow by its id, whatever run it is in.

    Returns:
        False when no such workflow runs; the caller decides what that means.
    """
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(signal, message)
    except ApplicationError as error:
        if error.type != NOBODY:
            raise
        workflow.logger.warning("%s was not told %s: it does not run", workflow_id, signal)
        return False
    return True


async def tell_mayor(escalation: Escalation) -> None:
    """Escalate. The Mayor is started where it does not run; telling twice is one."""
    await workflow.execute_activity_method(
        TownActivities.tell_mayor,
        escalation,
        summary=f"tell the Mayor: {escalation.kind}",
        **options.control(),
    )


async def tell_mayor_cleared(escalation: str, reason: str) -> None:
    """What was escalated is over by itself."""
    await workflow.execute_activity_method(
        TownActivities.clear_escalation,
        EscalationCleared(id=escalation, reason=reason),
        summary=f"tell the Mayor: {escalation} is over"[:200],
        **options.control(),
    )
