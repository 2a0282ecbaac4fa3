"""The long-lived workflows of a town: how each is started, and a bounded ping that tells how it is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.job.messages import RigName
from models.mayor.escalations import Escalation, EscalationCleared, SourceReset
from models.names import WorkflowType
from models.supervision.messages import TASK_TIMEOUT, DeaconLook, Probe, ProbeResult

ANSWER_S = 3.0
"""Bound of a ping. `rpc_timeout` is no hard limit (docs/temporal.md), so asyncio keeps the time."""
ACCEPT_S = 10.0
LOOP_S = 120.0
"""A cycle of the Deacon is over by then, whatever it waits for: its activities are bounded."""
UNREADABLE = (ValueError, TypeError, KeyError)
"""what the data converter raises for an answer that is none of the expected"""
_METADATA = "__temporal_workflow_metadata"

Handle = WorkflowHandle[Any, Any]


class Kind(NamedTuple):
    """What there is to know of a long-lived workflow before it runs."""

    type: WorkflowType
    role: str
    rig: str | None

    @property
    def summary(self) -> str:
        return f"{self.role.capitalize()} of {self.rig}" if self.rig else self.role.capitalize()

    @property
    def empty(self) -> RigName | None:
        """The input of one that starts afresh."""
        return RigName(rig=self.rig) if self.rig else None


_OF_TOWN = {
    names.MAYOR_ID: Kind(WorkflowType.MAYOR, "mayor", None),
    names.DEACON_ID: Kind(WorkflowType.DEACON, "deacon", None),
}
_OF_RIG = {
    "dispatch": (WorkflowType.DISPATCH, "dispatcher"),
    "refinery": (WorkflowType.REFINERY, "refinery"),
    "witness": (WorkflowType.WITNESS, "witness"),
}
_TELLS_IF_STOPPED = frozenset({WorkflowType.DEACON, WorkflowType.WITNESS})
"""their query `status` says whether a person stopped them; the others answer the SDK's own query"""


def kind_of(workflow_id: str) -> Kind:
    """The kind of the long-lived workflow with this id; KeyError for any other id."""
    role, slash, rig = workflow_id.partition("/")
    return Kind(*_OF_RIG[role], names.valid_rig(rig)) if slash else _OF_TOWN[workflow_id]


async def start(
    client: Client,
    workflow_id: str,
    state: Any = None,
    policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
    signal: str | None = None,
    message: Any = None,
) -> Handle:
    """Start a long-lived workflow, from `state` or afresh; one that runs is left alone.

    Args:
        client: of the town.
        workflow_id: which.
        state: what it goes on from; None: it starts afresh.
        policy: what becomes of one that runs.
        signal: sent to whichever runs then, in the same step.
        message: of the signal.

    Raises:
        RPCError: Temporal does not answer.
        WorkflowAlreadyStartedError: it runs, and the policy is FAIL.
    """
    kind = kind_of(workflow_id)
    given = kind.empty if state is None else state
    labels = {"GtRole": kind.role, **({"GtRig": kind.rig} if kind.rig else {})}
    pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in labels.items()]
    return await client.start_workflow(
        kind.type.value,
        args=[] if given is None else [given],
        id=workflow_id,
        task_queue=names.TOWN_QUEUE,
        id_conflict_policy=policy,
        task_timeout=TASK_TIMEOUT,
        static_summary=kind.summary,
        search_attributes=TypedSearchAttributes(pairs),
        start_signal=signal,
        start_signal_args=[] if signal is None else [message],
    )


async def tell_mayor(client: Client, message: Escalation | EscalationCleared | SourceReset) -> None:
    """Signal the Mayor, who is started where he does not run. Telling twice is one.

    Raises:
        RPCError: Temporal does not answer; retrying helps.
    """
    signals = {Escalation: "escalate", EscalationCleared: "cleared", SourceReset: "source_reset"}
    await start(client, names.MAYOR_ID, signal=signals[type(message)], message=message)


async def probe(client: Client, workflow_id: str, limit_s: float = ANSWER_S) -> Probe:
    """Ping a long-lived workflow; takes at most about three times `limit_s`.

    Raises:
        RPCError, TimeoutError: Temporal itself does not answer, which says nothing of the workflow.
    """
    described = await describe(client, workflow_id, limit_s)
    if described is None:
        return Probe(workflow_id=workflow_id, result=ProbeResult.ABSENT, detail="it was never started")
    run_id = described.run_id or ""
    if described.status is not WorkflowExecutionStatus.RUNNING:
        ended = described.status.name.lower() if described.status else "ended"
        return Probe(workflow_id=workflow_id, result=ProbeResult.ABSENT, run_id=run_id, detail=f"it was {ended}")
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    result, detail, stopped = ProbeResult.ANSWERS, "", False
    try:
        stopped = await asyncio.wait_for(_ask(handle, kind_of(workflow_id).type), limit_s)
    except TimeoutError:
        result, detail = await _silence(client, workflow_id, limit_s)
    except WorkflowQueryFailedError as error:
        result, detail = ProbeResult.WEDGED, error.message
    except RPCError as error:
        result, detail = _refusal(error)
    except UNREADABLE as error:
        result, detail = ProbeResult.WEDGED, f"its answer cannot be read: {error}"
    return Probe(workflow_id=workflow_id, result=result, run_id=run_id, detail=detail, stopped=stopped)


async def describe(client: Client, workflow_id: str, limit_s: float) -> WorkflowExecutionDescription | None:
    """What Temporal knows of the newest run; None: there never was one."""
    try:
        return await asyncio.wait_for(client.get_workflow_handle(workflow_id).describe(), limit_s)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _ask(handle: Handle, kind: WorkflowType) -> bool:
    """Whether a person stopped it; what counts is that it answers."""
    if kind not in _TELLS_IF_STOPPED:
        await handle.query(_METADATA, result_type=WorkflowMetadata)
        return False
    status = await handle.query("status", result_type=dict[str, Any])
    return bool(status.get("stopped"))


async def _silence(client: Client, workflow_id: str, limit_s: float) -> tuple[ProbeResult, str]:
    """Tell one whose tasks fail from one that nobody works on."""
    described = await describe(client, workflow_id, limit_s)
    if described is None or described.status is not WorkflowExecutionStatus.RUNNING:
        return ProbeResult.ABSENT, "it ended meanwhile"
    tries = described.raw_description.pending_workflow_task.attempt
    if tries >= 2:
        return ProbeResult.WEDGED, f"its workflow task is being tried for the {tries}th time"
    return ProbeResult.SILENT, f"no answer within {limit_s:g} s"


def _refusal(error: RPCError) -> tuple[ProbeResult, str]:
    if error.status is RPCStatusCode.FAILED_PRECONDITION:
        return ProbeResult.WEDGED, error.message
    if error.status is RPCStatusCode.NOT_FOUND:
        return ProbeResult.ABSENT, "it ended meanwhile"
    return ProbeResult.SILENT, error.message


async def look_at_deacon(client: Client) -> DeaconLook:
    """Who takes the town's work, and whether the Deacon's loop answers; takes at most about two minutes.

    Raises:
        RPCError, TimeoutError: Temporal itself does not answer.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=names.TOWN_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    queue = await client.workflow_service.describe_task_queue(request, timeout=timedelta(seconds=5))
    found = await probe(client, names.DEACON_ID)
    if found.result is ProbeResult.ANSWERS:
        found = await _ping_loop(client, found)
    return DeaconLook(pollers=tuple(sorted(poller.identity for poller in queue.pollers)), probe=found)


async def _ping_loop(client: Client, found: Probe) -> Probe:
    """A Deacon that answers queries may still be stuck in its loop: the update `ping` waits for that."""
    handle = client.get_workflow_handle(found.workflow_id, run_id=found.run_id)
    try:
        async with asyncio.timeout(ACCEPT_S):
            accepted = await handle.start_update("ping", wait_for_stage=WorkflowUpdateStage.ACCEPTED)
        async with asyncio.timeout(LOOP_S):
            await accepted.result()
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        return found.model_copy(update={"result": ProbeResult.SILENT, "detail": "its loop does not answer"})
    except RPCError as error:
        result, detail = _refusal(error)
        return found.model_copy(update={"result": result, "detail": detail})
    return found
