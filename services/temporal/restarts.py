"""Restarting a long-lived workflow without losing what it knows or was told.

A restart is Temporal's reset of its run to its last workflow task: history up to there is kept, everything that it
was sent since is applied again, and activities under way are begun anew. Nothing is asked of the workflow or of a
worker. One that cannot replay its history is reset to the beginning of its run (docs/decisions/0010).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ParentClosePolicy, ResetReapplyExcludeType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.mayor.escalations import SourceReset
from models.names import WorkflowType
from models.supervision.messages import RestartWorkflow
from services.temporal.long_lived import Handle, describe, kind_of, start

ASK_S = 10.0
LOCK = "Restart"
LOCKED = timedelta(seconds=30)
_TASK_ENDS = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)
_NOT_ITS_CODE = frozenset(
    {
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
    }
)


class ResetPoint(NamedTuple):
    task_end: int
    """the event that ends a workflow task: the task is done again"""
    beginning: bool = False
    """it is the first of its run"""


async def restart(client: Client, order: RestartWorkflow) -> None:
    """Carry out a restart; a second time, or beside another restarter, changes nothing more.

    Only the run that the order names is ended. Messages that arrive meanwhile reach the new run.

    Raises:
        RPCError, TimeoutError: Temporal does not answer; trying again helps.
    """
    async with _lock(client, order.workflow_id) as alone:
        if alone:
            await _restart(client, order)


@contextlib.asynccontextmanager
async def _lock(client: Client, workflow_id: str) -> AsyncIterator[bool]:
    """Whether nobody else restarts it: a run that two reset at once would lose what it is sent in between.

    The lock is an execution that no worker ever takes; Temporal ends that of a restarter who died.
    """
    try:
        lock = await client.start_workflow(
            LOCK, id=f"restart/{workflow_id}", task_queue=LOCK, execution_timeout=LOCKED, static_summary="a lock"
        )
    except WorkflowAlreadyStartedError:
        yield False
        return
    try:
        async with asyncio.timeout(LOCKED.total_seconds() / 2):
            yield True
    finally:
        with contextlib.suppress(RPCError):
            await lock.terminate("done")


async def _restart(client: Client, order: RestartWorkflow) -> None:
    described = await describe(client, order.workflow_id, ASK_S)
    if described is None:
        await start(client, order.workflow_id)
        return
    runs = described.status is WorkflowExecutionStatus.RUNNING
    if runs and order.run_id and described.run_id != order.run_id:
        return
    handle = client.get_workflow_handle(order.workflow_id, run_id=described.run_id)
    if order.reset:
        if not runs or await _terminate(handle, order.reason):
            await _tell_mayor_of_reset(client, handle.id)
            await start(client, handle.id)
        return
    events = [event async for event in handle.fetch_history_events()]
    point = reset_point(events, runs=runs)
    if point is not None:
        await _reset(client, handle, point, order.reason)
    elif not runs:
        await _begin_again(client, handle.id, events)


def reset_point(events: Sequence[HistoryEvent], *, runs: bool) -> ResetPoint | None:
    """Where a run goes on.

    Its last completed workflow task. Where replaying it fails, or it has failed once more after a reset: the first one.

    Args:
        events: its whole history.
        runs: it is not closed. The children of a closed run ended with it, and a new run does not hear of that: it
            goes back to before they were started.

    Returns:
        None: not even its first task was tried.
    """
    ends = [event for event in events if event.event_type in _TASK_ENDS]
    if not ends:
        return None
    completed = [event.event_id for event in ends if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    last = completed[-1] if completed else ends[0].event_id
    causes = [
        event.workflow_task_failed_event_attributes.cause
        for event in ends
        if event.event_id > last and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]
    unfit = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR in causes
    was_reset = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW in causes
    if unfit or (was_reset and causes[-1] not in _NOT_ITS_CODE):
        return ResetPoint(ends[0].event_id, beginning=True)
    return ResetPoint(last if runs else min([last, *_children_of(events)]))


def _children_of(events: Sequence[HistoryEvent]) -> list[int]:
    """The ends of the tasks that started children which have not told their end and go down with their parent."""
    begun: dict[int, int] = {}
    for event in events:
        initiated = event.start_child_workflow_execution_initiated_event_attributes
        if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            if initiated.parent_close_policy != ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
                begun[event.event_id] = initiated.workflow_task_completed_event_id
            continue
        for ended in (
            event.start_child_workflow_execution_failed_event_attributes,
            event.child_workflow_execution_completed_event_attributes,
            event.child_workflow_execution_failed_event_attributes,
            event.child_workflow_execution_canceled_event_attributes,
            event.child_workflow_execution_timed_out_event_attributes,
            event.child_workflow_execution_terminated_event_attributes,
        ):
            begun.pop(ended.initiated_event_id, None)
    return list(begun.values())


async def _reset(client: Client, handle: Handle, point: ResetPoint, reason: str) -> None:
    """Let Temporal end the run and run it again from there, in one step; what it was sent since is applied again.

    From the beginning, updates are left out where they are orders that have been carried out: a dispatcher's `sling`
    of a job that has ended would start another, and the Mayor's `resolve` would decide again about a bead that has
    another job.
    """
    assert handle.run_id is not None
    carried_out = point.beginning and kind_of(handle.id).type in {WorkflowType.DISPATCH, WorkflowType.MAYOR}
    left_out = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE] if carried_out else []
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id),
            reason=reason or "restarted",
            workflow_task_finish_event_id=point.task_end,
            # The server knows a request that its sender repeats by its id.
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, handle.run_id)),
            reset_reapply_exclude_types=left_out,
        )
    )


async def _begin_again(client: Client, workflow_id: str, events: Sequence[HistoryEvent]) -> None:
    """Start a closed run over that never came to a task, with its input and its messages."""
    given = events[0].workflow_execution_started_event_attributes.input.payloads
    decoded: list[Any] = await client.data_converter.decode(given, [dict[str, Any]] * len(given))
    await start(client, workflow_id, *decoded)
    for event in events:
        await _signal_again(client, workflow_id, event)


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


async def _tell_mayor_of_reset(client: Client, workflow_id: str) -> None:
    """Before its successor tells anything: what it had told would stay open for ever. No Mayor, nothing told."""
    try:
        await client.get_workflow_handle(names.MAYOR_ID).signal("source_reset", SourceReset(source=workflow_id))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def _terminate(handle: Handle, reason: str) -> bool:
    """End this very run; False: it had ended, so another restarter is at it."""
    try:
        await handle.terminate(reason or "reset")
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
