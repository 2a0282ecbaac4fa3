"""A dispatcher that is held back: restarts that pause, hosts that are lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import DispatchStatus, ObservationKind, Restraint, VerdictKind
from models.ledger.records import JobState
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]
BRAKED = "the agents of 3 of 4 polecats died again"


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town of hosts of which only some have a worker: work for the others waits for ever."""

    @contextlib.asynccontextmanager
    async def start(
        world: JobWorld | None = None, alive: tuple[str, ...] = (HOST,), patience: int = 1000
    ) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(
            workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities, hosts=alive
        ):
            yield await Town.open(env, world, patience)

    return start


async def restrain(shop: Town, **how: object) -> None:
    await shop.dispatch.signal("restrain", Restraint.model_validate(how))


async def waits_for(shop: Town, bead: str, expected: str) -> None:
    async def so() -> bool:
        status: DispatchStatus = await shop.dispatch.query("status", result_type=DispatchStatus)
        return [job.waits_for for job in status.jobs if job.bead == bead] == [expected]

    await eventually(so, what=f"{bead} to wait for {expected!r}")


# --- the brake ------------------------------------------------------------------------------------


async def test_under_the_brake_no_session_is_started_but_those_that_are_tried_one_at_a_time(town: Open) -> None:
    async with town() as shop:
        await restrain(shop, braked=BRAKED)
        for number in range(1, 4):
            await shop.sling(f"sh-{number}")
        await waits_for(shop, "sh-3", "restarts, which are paused")
        await shop.env.sleep(timedelta(minutes=5))
        assert shop.world.started == []
        for _ in range(3):  # told again each interval: still one
            await restrain(shop, braked=BRAKED, probes=1)
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.env.sleep(timedelta(minutes=5))
        assert [start.bead for start in shop.world.started] == ["sh-1"]
        await restrain(shop)
        await shop.reach("sh-3", JobState.WORKING, 1)


async def test_starts_that_were_allowed_and_not_used_do_not_add_up(town: Open) -> None:
    async with town() as shop:
        for probes in range(1, 6):
            await restrain(shop, braked=BRAKED, probes=probes)
        for number in range(1, 4):
            await shop.sling(f"sh-{number}")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await waits_for(shop, "sh-2", "restarts, which are paused")
        assert len(shop.world.started) == 1


async def test_a_second_brake_begins_anew(town: Open) -> None:
    async with town() as shop:
        await restrain(shop, braked=BRAKED, probes=4)
        await restrain(shop)
        await restrain(shop, braked=BRAKED, probes=1)
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await restrain(shop, braked=BRAKED, probes=4)
        await shop.sling("sh-2")
        await shop.reach("sh-2", JobState.WORKING, 1)
        await restrain(shop, braked=BRAKED, probes=0)  # a brake whose release was not heard of
        await shop.sling("sh-3")
        await restrain(shop, braked=BRAKED, probes=1)
        await shop.reach("sh-3", JobState.WORKING, 1)


async def test_a_held_death_waits_until_the_brake_is_released(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await restrain(shop, braked=BRAKED)
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=1, hold=True)
        await waits_for(shop, "sh-1", "restarts, which are paused")
        await shop.env.sleep(timedelta(hours=1))
        assert len(shop.world.started) == 1
        await restrain(shop)
        await shop.reach("sh-1", JobState.WORKING, 2)


async def test_the_brake_is_kept_over_continue_as_new(town: Open) -> None:
    async with town(patience=3) as shop:
        first = (await shop.dispatch.describe()).run_id
        for _ in range(3):
            await restrain(shop, braked=BRAKED)

        async def handed_over() -> bool:
            return (await shop.dispatch.describe()).run_id != first

        await eventually(handed_over)
        await shop.sling("sh-1")
        await waits_for(shop, "sh-1", "restarts, which are paused")


# --- a lost host ----------------------------------------------------------------------------------


@pytest.mark.document("2: 网络分区")
async def test_jobs_on_a_lost_host_go_on_at_another_one(town: Open) -> None:
    world = JobWorld(hosts=(HOST, "h2"))
    async with town(world, alive=(HOST, "h2")) as shop:
        for bead in ("sh-1", "sh-2"):
            await shop.sling(bead)
            await shop.reach(bead, JobState.WORKING, 1)
        hosts = {bead: (await shop.status(bead)).host for bead in ("sh-1", "sh-2")}
        assert set(hosts.values()) == {HOST, "h2"}
        stranded = next(bead for bead, host in hosts.items() if host == HOST)
        await restrain(shop, lost_hosts=(HOST,))
        status = await shop.reach(stranded, JobState.WORKING, 2)
        assert status.host == "h2"
        other = ({"sh-1", "sh-2"} - {stranded}).pop()
        assert (await shop.status(other)).attempt == 1
        assert world.ended == [], "nothing is asked of a host that is lost"
        assert world.released == []
        await shop.recorded(stranded, "host_lost")
        await shop.sling("sh-3")
        assert (await shop.reach("sh-3", JobState.WORKING, 1)).host == "h2"
        await shop.submit_work(stranded, attempt=2)
        await shop.merge(stranded)


async def test_a_job_that_waits_for_a_step_on_the_lost_host_does_not_hang(town: Open) -> None:
    world = JobWorld(hosts=("h2", HOST))
    async with town(world, alive=(HOST,)) as shop:
        await shop.sling("sh-1")
        status = await shop.reach("sh-1", JobState.STARTING, 1)
        assert status.host == "h2", "where no worker takes the step"
        await restrain(shop, lost_hosts=("h2",))
        assert (await shop.reach("sh-1", JobState.WORKING, 2)).host == HOST


async def test_without_another_host_a_job_stays_and_goes_on_when_its_host_is_back(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await restrain(shop, lost_hosts=(HOST,))
        await shop.sling("sh-2")
        await shop.env.sleep(timedelta(minutes=5))
        assert (await shop.status("sh-1")).attempt == 1
        assert (await shop.status("sh-2")).state is JobState.WAITING
        await restrain(shop)
        await shop.submit_work("sh-1")
        await shop.reach("sh-2", JobState.WORKING, 1)


async def test_work_that_was_handed_in_before_its_host_was_lost_is_merged_or_reworked_elsewhere(town: Open) -> None:
    world = JobWorld(hosts=(HOST, "h2"))
    async with town(world, alive=(HOST, "h2")) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        host = (await shop.status("sh-1")).host
        await restrain(shop, lost_hosts=(host,))

        async def left() -> bool:
            return (await shop.status("sh-1")).host is None

        await eventually(left)
        assert (await shop.status("sh-1")).state is JobState.SUBMITTED
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        status = await shop.reach("sh-1", JobState.WORKING, 2)
        assert status.host not in {None, host}
        await shop.submit_work("sh-1", attempt=2)
        await shop.merge("sh-1")


async def test_a_job_given_up_while_its_host_is_lost_ends(town: Open) -> None:
    world = JobWorld(hosts=("h2", HOST))
    async with town(world, alive=(HOST,)) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.STARTING, 1)
        await shop.dispatch.execute_update("cancel", {"bead": "sh-1", "reason": "not now"})
        await restrain(shop, lost_hosts=("h2",))
        await shop.job("sh-1").result()
        assert world.writes[-1].state is JobState.ABANDONED
        assert "worktree_kept" in world.events("sh-1")
