"""Jobs and merges whose code fails, on a real Temporal server: found, and set going again."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.temporal import TownActivities
from models import names
from models.errors import ErrorCode
from models.job.messages import JobOrder, SlingResult
from models.ledger.records import JobState
from models.names import WorkflowType
from models.supervision.messages import Wedged
from services.temporal import failing_workflows
from services.worker.polling import patient
from tests.services.conftest import eventually
from tests.temporal_server import client_of

ANSWERS = {"sh-closed": ErrorCode.REFUSED, "sh-unread": ErrorCode.LEDGER_UNREACHABLE}
"""beads whose job the dispatcher does not begin again, and why"""


@workflow.defn(name=WorkflowType.POLECAT)
class Job:
    @workflow.run
    async def run(self, sound: bool) -> None:
        if not sound:
            raise RuntimeError("a bug")
        await workflow.wait_condition(lambda: False)


@workflow.defn(name=WorkflowType.MERGE)
class Merge:
    @workflow.run
    async def run(self, sound: bool) -> None:
        await Job().run(sound)


@workflow.defn(name=WorkflowType.DISPATCH)
class Dispatcher:
    def __init__(self) -> None:
        self._rebuilt: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def rebuild(self, order: JobOrder) -> SlingResult:
        if order.bead in ANSWERS:
            raise ApplicationError("no", type=ANSWERS[order.bead].value, non_retryable=True)
        self._rebuilt.append(order.bead)
        return SlingResult(bead=order.bead, workflow_id="", state=JobState.WAITING)

    @workflow.query
    def rebuilt(self) -> list[str]:
        return self._rebuilt


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    opened = await client_of(port)
    async with patient(
        Worker(
            opened,
            task_queue=names.TOWN_QUEUE,
            workflows=[Job, Merge, Dispatcher],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
    ):
        yield opened


@pytest.fixture
async def rig(client: Client) -> AsyncIterator[str]:
    """A rig that no other test has, with a dispatcher."""
    name = f"rig-{uuid.uuid4().hex[:8]}"
    dispatcher = await client.start_workflow(
        WorkflowType.DISPATCH, id=names.dispatch_id(name), task_queue=names.TOWN_QUEUE
    )
    yield name
    await dispatcher.terminate()


async def begin(client: Client, workflow_id: str, kind: WorkflowType, *, sound: bool) -> Wedged:
    handle = await client.start_workflow(
        kind, sound, id=workflow_id, task_queue=names.TOWN_QUEUE, task_timeout=timedelta(seconds=3)
    )
    return Wedged(workflow_id=workflow_id, run_id=handle.first_execution_run_id or "")


async def is_found(client: Client, *wanted: Wedged) -> bool:
    with contextlib.suppress(RPCError):  # a busy machine's server may be late
        return set(wanted) <= set(await failing_workflows.find(client) or ())
    return False


async def status_of(client: Client, one: Wedged) -> WorkflowExecutionStatus | None:
    return (await client.get_workflow_handle(one.workflow_id).describe()).status


async def rebuilt(client: Client, rig: str) -> list[str]:
    return list(await client.get_workflow_handle(names.dispatch_id(rig)).query(Dispatcher.rebuilt))


async def test_a_job_and_a_merge_whose_code_fails_are_found_ended_and_the_job_begun_again(
    client: Client, rig: str
) -> None:
    job = await begin(client, names.polecat_id(rig, "sh-1"), WorkflowType.POLECAT, sound=False)
    merge = await begin(client, names.merge_id(rig, 7), WorkflowType.MERGE, sound=False)
    well = await begin(client, names.polecat_id(rig, "sh-2"), WorkflowType.POLECAT, sound=True)
    await eventually("both to be found", lambda: is_found(client, job, merge))
    assert not await is_found(client, well)

    ended = [await failing_workflows.rescue(client, one, "its code fails") for one in (job, merge, well)]
    assert ended == [True, True, False]
    assert await status_of(client, job) is WorkflowExecutionStatus.TERMINATED
    assert await status_of(client, merge) is WorkflowExecutionStatus.TERMINATED
    assert await status_of(client, well) is WorkflowExecutionStatus.RUNNING
    assert await rebuilt(client, rig) == ["sh-1"], "a merge is its Refinery's to begin again"


async def test_one_that_was_ended_is_begun_again_by_who_comes_later_and_one_that_runs_anew_is_left_alone(
    client: Client, rig: str
) -> None:
    """The first rescuer was killed between the two."""
    job = await begin(client, names.polecat_id(rig, "sh-1"), WorkflowType.POLECAT, sound=True)
    await client.get_workflow_handle(job.workflow_id).terminate()
    await failing_workflows.rescue(client, job, "its code fails")
    assert await rebuilt(client, rig) == ["sh-1"]
    again = await begin(client, job.workflow_id, WorkflowType.POLECAT, sound=True)
    await failing_workflows.rescue(client, job, "its code fails")
    assert await status_of(client, again) is WorkflowExecutionStatus.RUNNING
    assert await rebuilt(client, rig) == ["sh-1"]


async def test_without_a_dispatcher_it_is_an_error_that_a_retry_may_mend(client: Client) -> None:
    job = await begin(client, names.polecat_id("nobody", "sh-1"), WorkflowType.POLECAT, sound=True)
    await client.get_workflow_handle(job.workflow_id).terminate()
    with pytest.raises(RPCError, match="not found"):
        await failing_workflows.rescue(client, job, "its code fails")


async def test_a_job_of_a_closed_bead_is_over_and_one_that_cannot_be_read_now_stays_owed(
    client: Client, rig: str
) -> None:
    for bead in ANSWERS:
        await begin(client, names.polecat_id(rig, bead), WorkflowType.POLECAT, sound=True)
        await client.get_workflow_handle(names.polecat_id(rig, bead)).terminate()
    activities = TownActivities(client)
    assert await activities.rescue(Wedged(workflow_id=names.polecat_id(rig, "sh-closed"), run_id="r1"))
    with pytest.raises(WorkflowUpdateFailedError):
        await activities.rescue(Wedged(workflow_id=names.polecat_id(rig, "sh-unread"), run_id="r1"))
