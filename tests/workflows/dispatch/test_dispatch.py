"""The dispatcher: one job a bead, never more sessions than allowed, dependencies first, rework before new work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models.errors import ErrorCode
from models.job.messages import DispatchStatus, JobOrder, SlingRequest, SlingResult, VerdictKind
from models.ledger.records import JobState, JobWrites
from models.refinery.messages import PauseRequest
from tests.workflows.conftest import WorkerBuilder, workers_of
from tests.workflows.job.job_world import JobWorld, PostBox, Town, rig
from tests.workflows.probes import eventually, runs_of
from workflows.dispatch.state import DispatchState
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None, patience: int = 1000) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            yield await Town.open(env, world, patience)

    return start


async def dispatched(shop: Town) -> DispatchStatus:
    status: DispatchStatus = await shop.dispatch.query("status", result_type=DispatchStatus)
    return status


async def waits_for(shop: Town, bead: str) -> str:
    return next(job.waits_for for job in (await dispatched(shop)).jobs if job.bead == bead)


async def test_the_same_bead_twice_is_one_job(town: Open) -> None:
    async with town() as shop:
        first = await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        second = await shop.sling("sh-1")
        assert first.workflow_id == second.workflow_id == "polecat/shop/sh-1"
        assert [job.bead for job in (await dispatched(shop)).jobs] == ["sh-1"]
        assert len(shop.world.started) == 1


async def test_no_more_sessions_live_than_the_rig_allows_and_urgent_work_goes_first(town: Open) -> None:
    world = JobWorld(rig=rig(max_polecats=1), priorities={"sh-2": 3, "sh-3": 0})
    async with town(world) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.sling("sh-2")
        await shop.sling("sh-3")
        await shop.submit_work("sh-1")
        await shop.reach("sh-3", JobState.WORKING, 1)
        assert (await shop.status("sh-2")).state is JobState.WAITING
        assert await waits_for(shop, "sh-2") == "a slot"
        assert [request.bead for request in world.started] == ["sh-1", "sh-3"]


async def test_rework_goes_before_new_work_and_keeps_its_polecat(town: Open) -> None:
    world = JobWorld(rig=rig(max_polecats=1), priorities={"sh-3": 0})
    async with town(world) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.sling("sh-2")
        await shop.reach("sh-2", JobState.WORKING, 1)
        await shop.sling("sh-3")
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.reach("sh-1", JobState.WAITING)
        await shop.submit_work("sh-2")
        await shop.reach("sh-1", JobState.WORKING, 2)
        assert [request.bead for request in world.started] == ["sh-1", "sh-2", "sh-1"]
        assert world.started[2].polecat == world.started[0].polecat


async def test_a_bead_waits_for_its_dependency_and_starts_when_that_is_merged(town: Open) -> None:
    async with town(JobWorld(dependencies={"sh-2": ("sh-1",)})) as shop:
        await shop.sling("sh-1")
        await shop.sling("sh-2")
        await shop.submit_work("sh-1")
        assert await waits_for(shop, "sh-2") == "dependencies: sh-1"
        assert [request.bead for request in shop.world.started] == ["sh-1"]
        await shop.merge("sh-1")
        await shop.reach("sh-2", JobState.WORKING, 1)


async def test_a_dependency_closed_by_hand_frees_the_bead_within_a_cycle(town: Open) -> None:
    world = JobWorld(dependencies={"sh-2": ("sh-1",)})
    async with town(world) as shop:
        await shop.sling("sh-2")
        await shop.env.sleep(timedelta(minutes=3))
        assert world.started == []
        world.dependencies.clear()
        await shop.env.sleep(timedelta(minutes=2))
        await shop.reach("sh-2", JobState.WORKING, 1)


async def test_a_cancelled_job_ends_and_its_slot_goes_to_the_next(town: Open) -> None:
    async with town(JobWorld(rig=rig(max_polecats=1))) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.sling("sh-2")
        await shop.dispatch.execute_update("cancel", JobOrder(bead="sh-1", reason="not now"))
        await shop.job("sh-1").result()
        await shop.reach("sh-2", JobState.WORKING, 1)


@pytest.mark.parametrize(
    ("update", "message", "code"),
    [
        ("sling", SlingRequest(bead="sh-404", rig="shop"), ErrorCode.NOT_FOUND),
        ("cancel", JobOrder(bead="sh-9"), ErrorCode.NOT_FOUND),
        ("retry", JobOrder(bead="sh-9"), ErrorCode.NOT_FOUND),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_code_and_leaves_nothing(
    town: Open, update: str, message: object, code: ErrorCode
) -> None:
    async with town() as shop:
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await shop.dispatch.execute_update(update, message)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == code.value
        assert (await dispatched(shop)).jobs == ()


async def test_with_the_ledger_down_a_sling_is_refused_as_unreachable(town: Open) -> None:
    async with town(JobWorld(ledger_down=True)) as shop:
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await shop.sling("sh-1")
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == ErrorCode.LEDGER_UNREACHABLE.value


async def test_slots_and_jobs_are_kept_over_two_continue_as_new(town: Open) -> None:
    async with town(JobWorld(rig=rig(max_polecats=2)), patience=4) as shop:
        runs = {await runs_of(shop.dispatch)}

        async def later_run() -> bool:
            return await runs_of(shop.dispatch) not in runs

        for number in range(1, 4):
            await sling_patiently(shop, f"sh-{number}")
            if number < 3:
                await shop.reach(f"sh-{number}", JobState.WORKING, 1)
                for _ in range(4):
                    await shop.dispatch.signal("wake")
                await eventually(later_run, what="the next run")
                runs.add(await runs_of(shop.dispatch))
        assert len(runs) >= 3
        assert (await shop.status("sh-3")).state is JobState.WAITING
        living = [job.bead for job in (await dispatched(shop)).jobs if job.holds_slot]
        assert sorted(living) == ["sh-1", "sh-2"]
        await shop.submit_work("sh-1")
        await shop.reach("sh-3", JobState.WORKING, 1)
        assert len({request.polecat for request in shop.world.started}) == 3


async def sling_patiently(shop: Town, bead: str) -> SlingResult:
    """A sling just while a run hands over may be lost by this test server; a person would repeat it."""

    async def slung() -> SlingResult | None:
        try:
            return await shop.sling(bead)
        except WorkflowUpdateFailedError:
            return None

    result: SlingResult = await eventually(slung, what=f"{bead} to be slung")
    return result


def test_a_pause_that_an_earlier_version_carried_is_kept() -> None:
    carried = {"rig": "shop", "paused": True, "pause_reason": "lunch", "paused_by": "ada"}
    assert DispatchState.model_validate(carried).pauses == {"ada": "lunch"}
    assert not DispatchState.model_validate(carried | {"paused": False}).paused


@pytest.mark.parametrize("workflow", ["deacon", "mayor"])
async def test_a_workflow_takes_back_its_own_pause_and_never_a_person_s(town: Open, workflow: str) -> None:
    async with town() as shop:
        own, ada = PauseRequest(by=workflow, reason="97 % of /"), PauseRequest(by="ada", reason="lunch")
        await shop.dispatch.signal("pause", own)
        assert (await dispatched(shop)).paused
        await shop.dispatch.signal("resume", own)
        assert not (await dispatched(shop)).paused
        for first, second in ((ada, own), (own, ada)):
            await shop.dispatch.signal("pause", first)
            await shop.dispatch.signal("pause", second)
            assert set((await dispatched(shop)).pause_reason.split("; ")) == {"97 % of /", "lunch"}
            await shop.dispatch.signal("resume", own)
            assert ((await dispatched(shop)).paused, (await dispatched(shop)).pause_reason) == (True, "lunch")
        await shop.dispatch.signal("resume", ada)
        assert not (await dispatched(shop)).paused


class SlowRecord(JobWorld):
    """The record answers questions, and takes no job's writes while `slow`."""

    slow = True

    @activity.defn
    async def record_job(self, writes: JobWrites) -> None:
        while self.slow:
            await asyncio.sleep(0.05)
        await super().record_job(writes)


async def test_a_bead_slung_anew_while_its_job_is_ending_starts_one_also_after_a_hand_over(town: Open) -> None:
    """The last job has said that it ends; its workflow runs until the record has all of it."""
    world = SlowRecord()
    async with town(world, patience=30) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        ending = (await shop.job("sh-1").describe()).run_id
        await shop.judge("sh-1", VerdictKind.MERGED, merged_sha="c" * 40)

        async def over() -> bool:
            return not (await dispatched(shop)).jobs

        await eventually(over, what="the job to say that it ends")
        before = await runs_of(shop.dispatch)
        for _ in range(40):
            await shop.dispatch.signal("wake")

        async def handed_over() -> bool:
            return await runs_of(shop.dispatch) != before

        await eventually(handed_over, what="the dispatcher's next run")
        slinging = asyncio.create_task(shop.sling("sh-1"))
        world.slow = False
        await slinging

        async def begun() -> bool:
            return (await shop.job("sh-1").describe()).run_id != ending

        await eventually(begun, what="the next job of the bead")
        assert [job.bead for job in (await dispatched(shop)).jobs] == ["sh-1"]


async def test_a_second_sling_answers_once_the_job_that_the_first_one_starts_runs(
    real_env: WorkflowEnvironment,
) -> None:
    world = SlowRecord()
    workflows = [DispatchWorkflow, PolecatWorkflow, PostBox]
    async with workers_of(real_env)(workflows=workflows, activities=world.activities):
        shop = await Town.open(real_env, world)
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        ending = (await shop.job("sh-1").describe()).run_id
        await shop.judge("sh-1", VerdictKind.MERGED, merged_sha="c" * 40)

        async def known() -> bool:
            return bool((await dispatched(shop)).jobs)

        await eventually(lambda: not_yet(known), what="the job to say that it ends")
        slinging = [asyncio.create_task(shop.sling("sh-1"))]
        await eventually(known, what="the first sling to be under way")
        slinging.append(asyncio.create_task(shop.sling("sh-1")))
        cancelling = asyncio.create_task(shop.dispatch.execute_update("cancel", JobOrder(bead="sh-1")))
        await eventually(lambda: accepted(shop, 4), what="all orders to be accepted")
        answered = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED
        assert await events(shop, answered) == 1, "none is answered while the last job is ending"
        world.slow = False
        for answer in await asyncio.gather(*slinging):
            assert answer.state is JobState.STARTING
        assert (await shop.job("sh-1").describe()).run_id != ending
        await cancelling
        await shop.reach("sh-1", JobState.ABANDONED)


async def not_yet(known: Callable[[], Awaitable[bool]]) -> bool:
    return not await known()


async def accepted(shop: Town, count: int) -> bool:
    """Whether the dispatcher has taken so many updates."""
    return await events(shop, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED) == count


async def events(shop: Town, kind: EventType.ValueType) -> int:
    """How many events of this kind are in the dispatcher's history."""
    return len([None async for event in shop.dispatch.fetch_history_events() if event.event_type == kind])


async def asked(shop: Town, bead: str) -> int:
    """How often the bead's job has asked for a slot."""
    attributes = [
        event.signal_external_workflow_execution_initiated_event_attributes.signal_name
        async for event in shop.job(bead).fetch_history_events()
    ]
    return attributes.count("slot_wanted")


async def test_a_bead_for_which_a_slot_is_free_starts_with_it_and_asks_for_none(town: Open) -> None:
    async with town(JobWorld(rig=rig(max_polecats=1))) as shop:
        assert (await shop.sling("sh-1")).state is JobState.STARTING
        assert (await shop.sling("sh-2")).state is JobState.WAITING
        await shop.reach("sh-1", JobState.WORKING, 1)
        assert await waits_for(shop, "sh-2") == "a slot"
        assert (await asked(shop, "sh-1"), await asked(shop, "sh-2")) == (0, 1)


async def test_a_job_that_runs_already_takes_no_slot_of_which_it_never_hears(town: Open) -> None:
    async with town(JobWorld(rig=rig(max_polecats=1))) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await shop.dispatch.terminate()
        fresh = await Town.open(shop.env, shop.world, post_boxes=False)
        assert (await fresh.sling("sh-1")).state is JobState.WAITING
        await fresh.sling("sh-2")
        await fresh.reach("sh-2", JobState.WORKING, 1)
