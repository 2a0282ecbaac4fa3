"""Sending an update to a workflow whose worker may just have been killed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

from temporalio.client import WorkflowHandle, WorkflowUpdateHandle, WorkflowUpdateStage
from temporalio.service import RPCError, RPCStatusCode

AGAIN_S: Final = 0.5


async def accepted(
    handle: WorkflowHandle[Any, Any], update: str, arguments: Sequence[Any], answer: type[Any]
) -> WorkflowUpdateHandle[Any]:
    """The update, once a worker has accepted it; before that it is not durable.

    Tries for as long as its caller waits, always with one id, so that it is one update however often it was sent.

    Raises:
        RPCError: for every refusal but the one that passes by itself.
    """
    update_id = str(uuid.uuid4())
    while True:
        try:
            return await handle.start_update(
                update,
                args=arguments,
                id=update_id,
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                result_type=answer,
            )
        except RPCError as error:
            # The tasks of a worker that was killed count as failed until another one has taken them over.
            if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise
            await asyncio.sleep(AGAIN_S)
