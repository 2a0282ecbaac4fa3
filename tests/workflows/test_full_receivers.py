"""Who is told something by a workflow and takes nothing any more: a run of it has all the signals that it may have.

Tests lower that limit of the server; the town's is 10,000, which a wedged workflow reaches overnight.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode
from models.job.messages import Decision, DecisionKind, JobOrder, SlingResult
from models.ledger.records import JobState
from services.temporal.client import wake_dispatchers
from tests.workflows.conftest import real_time, workers_of
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from tests.workflows.supervision.witness_world import Watchtower, died, posted, started
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow
from workflows.supervision.witness import WitnessWorkflow

SIGNALS = 12
SIGNALED: Final = "workflow_execution_signaled_event_attributes"


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    """A real server whose runs take no more than `SIGNALS` signals."""
    async with real_time(f"history.maximumSignalsPerExecution={SIGNALS}") as environment:
        yield environment


async def full(env: WorkflowEnvironment, workflow_id: str) -> WorkflowHandle[Any, Any]:
    """A workflow that nobody works on and that has every signal it may have."""
    deaf = await env.client.start_workflow("Deaf", id=workflow_id, task_queue="nobody")
    while await took(deaf):
        pass
    return deaf


async def took(handle: WorkflowHandle[Any, Any]) -> bool:
    try:
        await handle.signal("anything")
    except RPCError as error:
        if error.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        return False
    return True


async def runs(handle: WorkflowHandle[Any, Any]) -> bool:
    return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_a_job_goes_on_though_neither_witness_nor_refinery_takes_anything(
    env: WorkflowEnvironment,
) -> None:
    world = JobWorld()
    async with workers_of(env)(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
        await full(env, names.witness_id("shop"))
        deaf = await full(env, names.refinery_id("shop"))
        town = await Town.open(env, world, post_boxes=False)
        await town.sling("sh-1")
        await town.submit_work("sh-1")
        await town.escalated("refinery_stalled")
        assert world.letters[0].message == "the Refinery of shop takes no messages: sh-1 waits to be merged"
        await deaf.terminate()
        await town.merge("sh-1")
        assert (await town.job("sh-1").describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_a_job_is_not_cancelled_behind_the_back_of_a_refinery_that_takes_nothing(
    env: WorkflowEnvironment,
) -> None:
    """It may merge the change yet; without any Refinery nothing could."""
    world = JobWorld()
    async with workers_of(env)(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
        town = await Town.open(env, world)
        await town.sling("sh-1")
        await town.submit_work("sh-1")
        await env.client.get_workflow_handle(names.refinery_id("shop")).terminate()
        deaf = await full(env, names.refinery_id("shop"))
        await town.decide("sh-1", Decision(kind=DecisionKind.ABANDON))

        async def asked() -> bool:
            return "withdrawing" in world.events("sh-1")

        await eventually(asked, what="the cancellation to be taken up")
        await town.reach("sh-1", JobState.SUBMITTED)
        assert await runs(town.job("sh-1"))
        await deaf.terminate()
        await town.decide("sh-1", Decision(kind=DecisionKind.ABANDON))
        await town.job("sh-1").result()
        assert world.events("sh-1")[-1] == "abandoned"


async def test_a_job_waits_for_a_dispatcher_that_takes_nothing_and_ends_beside_it(env: WorkflowEnvironment) -> None:
    world = JobWorld()
    async with workers_of(env)(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
        town = await Town.open(env, world)
        await town.sling("sh-1")
        await town.submit_work("sh-1")
        await town.dispatch.terminate()
        await full(env, names.dispatch_id("shop"))
        await town.merge("sh-1")
        assert (await town.job("sh-1").describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_an_order_to_a_job_that_takes_nothing_is_refused_and_the_job_stays_known(
    env: WorkflowEnvironment,
) -> None:
    world = JobWorld()
    async with workers_of(env)(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
        town = await Town.open(env, world)
        await town.sling("sh-1")
        await town.reach("sh-1", JobState.WORKING)
        await town.job("sh-1").terminate()
        await full(env, names.polecat_id("shop", "sh-1"))
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await town.dispatch.execute_update("retry", JobOrder(bead="sh-1"), result_type=SlingResult)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.REFUSED
        status = await town.dispatch.query(DispatchWorkflow.status)
        assert [job.bead for job in status.jobs if job.holds_slot] == ["sh-1"], "its agent may live"


async def test_a_witness_patrols_on_and_keeps_the_work_of_a_job_that_takes_nothing(env: WorkflowEnvironment) -> None:
    tower = Watchtower(seen={"h1": [died("sh-1")]})
    async with posted(env, workers_of(env), tower, interval=1) as town:
        await full(env, names.polecat_id("shop", "sh-1"))
        await town.start(started("sh-1"))
        await town.watched(rounds=3)
        assert await runs(town.witness)
        assert list((await town.witness.query(WitnessWorkflow.state)).work) == ["sh-1"]


async def test_a_worker_that_starts_passes_a_dispatcher_by_that_takes_nothing(env: WorkflowEnvironment) -> None:
    """Otherwise it would never come to the rigs after that one."""
    await full(env, names.dispatch_id("shop"))
    other = await env.client.start_workflow("Deaf", id=names.dispatch_id("yard"), task_queue="nobody")
    await wake_dispatchers(env.client, ["shop", "yard"])
    signals = [event async for event in other.fetch_history_events() if event.HasField(SIGNALED)]
    assert len(signals) == 1
