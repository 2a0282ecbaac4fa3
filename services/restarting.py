"""Restarting a long-lived workflow without losing what it knows or was told.

A restart is terminate and start from the last carried state, which the query `state` gives, of a
closed run too. One whose code fails answers no query: Temporal resets it to the beginning of its
run, with the state that it was started from and every message that it has been sent since.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.escalations import SourceReset
from models.names import WorkflowType
from models.supervision import RestartWorkflow
from services.long_lived import Handle, describe, kind_of, start

log = logging.getLogger(__name__)

STATE_S = 10.0
"""A closed run's state is replayed from its whole history."""
_TASK_ENDS = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


async def restart(client: Client, order: RestartWorkflow) -> None:
    """Carry out a restart; a second time, or beside another restarter, changes nothing more.

    Only the run that the order names is ended. Messages that arrive meanwhile reach the new run.

    Raises:
        RPCError, TimeoutError: Temporal does not answer; trying again helps.
    """
    described = await describe(client, order.workflow_id, STATE_S)
    if described is None:
        await start(client, order.workflow_id)
        return
    runs = described.status is WorkflowExecutionStatus.RUNNING
    if runs and order.run_id and described.run_id != order.run_id:
        return
    handle = client.get_workflow_handle(order.workflow_id, run_id=described.run_id)
    state = None if order.reset else await _carried(handle)
    begun = None if order.reset or state is not None else await _first_task_end(handle)
    if not order.reset and state is None and begun is None:
        await start(client, handle.id)  # not even its first task was tried: there is nothing to restart
        return
    if runs and not await _terminate(handle, order.reason):
        return
    if order.reset:
        await _tell_mayor_of_reset(client, handle.id)
    if begun is not None:
        await _reset_to_beginning(client, handle, begun, order.reason)
        return
    if state is not None:
        state = await _carried(handle) or state
    await _start_in_place(client, handle, state, ended_by_us=runs)


async def _tell_mayor_of_reset(client: Client, workflow_id: str) -> None:
    """Before its successor tells anything: what it had told would stay open for ever. No Mayor, nothing told."""
    try:
        await client.get_workflow_handle(names.MAYOR_ID).signal("source_reset", SourceReset(source=workflow_id))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def _carried(handle: Handle) -> Any:
    """The state that a fresh run would go on from; None when it cannot be had."""
    try:
        return await asyncio.wait_for(handle.query("state", result_type=dict[str, Any]), STATE_S)
    except (TimeoutError, RPCError, WorkflowQueryFailedError) as error:
        log.warning("%s does not tell its state: %s", handle.id, error)
        return None


async def _terminate(handle: Handle, reason: str) -> bool:
    """End this very run; False: it had ended, so another restarter is at it."""
    try:
        await handle.terminate(reason or "restarted")
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _start_in_place(client: Client, ended: Handle, state: Any, *, ended_by_us: bool) -> None:
    """Start the successor of a run that has ended, and hand on what that one has not taken any more."""
    late = await _untaken(ended) if state is not None else []
    try:
        await start(client, ended.id, state, WorkflowIDConflictPolicy.FAIL)
    except WorkflowAlreadyStartedError as error:
        if not ended_by_us:
            return
        # A message that starts whom it does not find came first; its run knows nothing else.
        usurper = client.get_workflow_handle(ended.id, run_id=error.run_id)
        await start(client, ended.id, state, WorkflowIDConflictPolicy.TERMINATE_EXISTING)
        late += [event async for event in usurper.fetch_history_events()]
    for event in late:
        await _signal_again(client, ended.id, event)


async def _untaken(ended: Handle) -> list[HistoryEvent]:
    """What a run was sent after its last finished workflow task."""
    events = [event async for event in ended.fetch_history_events()]
    finished = [event.event_id for event in events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    return [event for event in events if not finished or event.event_id > finished[-1]]


async def _signal_again(client: Client, workflow_id: str, event: HistoryEvent) -> None:
    if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
        return
    sent = event.workflow_execution_signaled_event_attributes
    await client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            signal_name=sent.signal_name,
            input=sent.input,
            header=sent.header,
            request_id=str(uuid.uuid4()),
        )
    )


async def _reset_to_beginning(client: Client, ended: Handle, first_task_end: int, reason: str) -> None:
    """Let Temporal run it again from what it was started from, with all messages since.

    Updates are left out where they are orders that have been carried out: a dispatcher's `sling` of a job that
    has ended would start another, and the Mayor's `resolve` would decide again about a bead that has another job.
    """
    assert ended.run_id is not None
    carried_out = kind_of(ended.id).type in {WorkflowType.DISPATCH, WorkflowType.MAYOR}
    left_out = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE] if carried_out else []
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=ended.id, run_id=ended.run_id),
            reason=reason or "restarted",
            workflow_task_finish_event_id=first_task_end,
            # The server knows a repeated request by its id.
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, ended.run_id)),
            reset_reapply_exclude_types=left_out,
        )
    )


async def _first_task_end(handle: Handle) -> int | None:
    """The event that a reset to the beginning names; None: no workflow task was tried yet."""
    async for event in handle.fetch_history_events():
        if event.event_type in _TASK_ENDS:
            return event.event_id
    return None
