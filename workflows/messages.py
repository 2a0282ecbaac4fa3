"""How workflows speak to each other: signals that find nobody are an answer, not a crash."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

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
