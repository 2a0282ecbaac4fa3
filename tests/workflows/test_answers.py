"""A queue whose gates broke, and the Mayor between it and the person who answers, both of them real."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.temporal import TownActivities
from models import names
from models.job.messages import DecisionKind
from models.mayor.alerts import Edge
from models.settings import MergeQueueSettings, Settings
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.mayor.mayor_world import Hall, MayorWorld, start_mayor
from tests.workflows.probes import JobProbe, MayorsPost, Record
from tests.workflows.refinery.merge_world import KILLED, PASSED, MergeWorld, change, rig
from tests.workflows.refinery.refinery_yard import Yard
from workflows.mayor.workflow import MayorWorkflow
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.state import RefineryState
from workflows.refinery.workflow import RefineryWorkflow

Open = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Yard, Hall]]]


@pytest.fixture
def broken(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A paused queue with one change in it, and the Mayor who has heard why."""

    @contextlib.asynccontextmanager
    async def start() -> AsyncIterator[tuple[Yard, Hall]]:
        world, mayors, town = MergeWorld(gates=lambda held, run: KILLED), MayorWorld(), TownActivities(env.client)
        record = Record(rig=rig(), settings=Settings(merge_queue=MergeQueueSettings(retry_count=0, confirm_runs="0")))
        ours = [record.queue_facts, town.tell_mayor, town.clear_escalation]
        async with workers(
            workflows=[RefineryWorkflow, MergeWorkflow, MayorWorkflow, JobProbe],
            activities=[*world.activities, *mayors.activities, *ours],
        ):
            hall = Hall(env, mayors, await start_mayor(env))
            refinery = await env.client.start_workflow(
                RefineryWorkflow.run,
                RefineryState(rig="shop"),
                id=names.refinery_id("shop"),
                task_queue=names.TOWN_QUEUE,
            )
            yard = Yard(env, world, record, MayorsPost(), refinery)
            await yard.submit(change("sh-1"))
            await hall.until(lambda: mayors.log, "people to be called")
            assert (await yard.queue()).paused
            world.gates = lambda held, run: PASSED
            yield yard, hall

    return start


async def test_the_answer_to_broken_gates_reaches_the_queue_which_goes_on(broken: Open) -> None:
    async with broken() as (yard, hall):
        [asked] = await hall.listed()
        assert asked.answer == f"gt escalate resolve {asked.id} --action retry"
        await hall.resolve(asked.id, DecisionKind.RETRY)
        await yard.settled()
        assert yard.world.landed == ("sh-1",)
        [status] = await hall.listed()
        assert (status.action, status.resolved_by) == ("retry", "ada")


async def test_a_queue_that_is_resumed_by_command_needs_no_answer_any_more(broken: Open) -> None:
    async with broken() as (yard, hall):
        await yard.resume()
        await yard.settled()
        await hall.until(lambda: [edge for edge, _ in hall.world.told()] == [Edge.START, Edge.END], "the all-clear")
        [status] = await hall.listed()
        assert (status.resolved, status.action) == (True, "cleared")


async def test_an_answer_that_asks_for_nothing_leaves_the_queue_to_a_later_command(broken: Open) -> None:
    async with broken() as (yard, hall):
        [asked] = await hall.listed()
        await hall.resolve(asked.id, DecisionKind.IGNORE)
        await yard.env.sleep(timedelta(hours=1))
        assert (await yard.queue()).paused
        await yard.resume()
        await yard.settled()
        assert [edge for edge, _ in hall.world.told()] == [Edge.START, Edge.END]
