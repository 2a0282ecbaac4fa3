"""What the Deacon tells people directly, while the Mayor does not work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.mayor.alerts import AlertType, Edge
from models.supervision.messages import ProbeResult
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from tests.workflows.supervision.deacon_world import DeaconTown, TownWorld, settings, town_with
from workflows.supervision.deacon import DeaconWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[DeaconTown]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    def start(world: TownWorld, patience: int = 1000) -> contextlib.AbstractAsyncContextManager[DeaconTown]:
        return town_with(env, workers, world, patience)

    return start


def without_mayor() -> TownWorld:
    return TownWorld(heals=False, found={names.MAYOR_ID: ProbeResult.WEDGED})


async def test_while_the_mayor_does_not_work_people_are_told_directly_and_that_it_is_over_too(town: Open) -> None:
    world = TownWorld(heals=False, found={names.MAYOR_ID: ProbeResult.WEDGED})
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        (deaf,) = world.announced
        assert (deaf.type, deaf.priority, deaf.edge) == ("escalation", "critical", "start")
        assert deaf.title.startswith("mayor: its code fails")
        world.readable = False
        await here.pass_time(timedelta(minutes=10))
        assert [notice.type for notice in world.announced] == ["escalation", "dolt_down"]
        assert len(world.letters) == 2, "the Mayor's post has them as well"
        world.found.clear()
        world.readable = True
        await here.pass_time(timedelta(minutes=5))
        assert sorted(notice.condition for notice in world.announced if notice.edge == "end") == sorted(
            notice.condition for notice in world.announced if notice.edge == "start"
        )
        world.readable = False
        await here.pass_time(timedelta(minutes=10))
        assert len(world.announced) == 4, "a Mayor that works tells people himself"


async def test_while_the_mayor_works_people_hear_of_nothing_from_the_deacon(town: Open) -> None:
    world = TownWorld(readable=False)
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=10))
        assert len(world.letters) == 1
        assert world.announced == []


async def test_one_channel_that_refuses_keeps_back_neither_letters_nor_other_announcements(town: Open) -> None:
    world = without_mayor()
    world.channel_refuses = True
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        assert {notice.type for notice in world.refused} == {AlertType.ESCALATION}
        world.readable, world.disk_percent = False, 99.0
        await here.pass_time(timedelta(minutes=5))
        kinds = {AlertType.ESCALATION, AlertType.DOLT_DOWN, AlertType.DISK_FULL}
        assert {letter.kind for letter in world.letters} == kinds
        assert {notice.type for notice in world.refused} == kinds
        world.channel_refuses = False
        await here.pass_time(timedelta(minutes=5))
        starts = [notice.condition for notice in world.announced]
        assert len(starts) == len(set(starts)) == len(world.letters), "tried again until all have it, each once"


async def test_while_a_channel_hangs_the_deacon_looks_on_and_what_is_new_goes_before_what_was_refused(
    town: Open,
) -> None:
    world = without_mayor()
    world.channel_refuses = True
    world.settings = settings(check_interval=2)
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=1))
        world.readable = False
        await here.pass_time(timedelta(minutes=1))
        assert {notice.type for notice in world.refused} == {AlertType.ESCALATION, AlertType.DOLT_DOWN}
        world.channel_may_answer, seen = asyncio.Event(), len(world.refused)

        async def hangs() -> bool:
            return len(world.refused) > seen

        # No time is skipped while an activity is under way, so the cycles are of two real seconds from here on.
        await eventually(hangs)
        world.found[names.dispatch_id("shop")] = ProbeResult.ABSENT
        world.disk_percent = 90

        async def noticed() -> bool:
            return names.dispatch_id("shop") in world.restarted() and "disk_full" in {
                each.kind for each in world.letters
            }

        await eventually(noticed)
        assert len(world.refused) == seen + 1, "one round at a time"
        world.channel_may_answer.set()
        await here.pass_time(timedelta(minutes=1))
        assert world.refused[seen + 1].type is AlertType.DISK_FULL


async def test_an_announcement_that_was_refused_is_tried_again_by_the_run_that_follows(town: Open) -> None:
    world = without_mayor()
    world.channel_refuses = True
    async with town(world, patience=12) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        first = await runs_of(here.deacon)
        await here.pass_time(timedelta(minutes=20))
        here.deacon = here.env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)
        assert await runs_of(here.deacon) != first
        assert world.announced == []
        world.channel_refuses = False
        await here.pass_time(timedelta(minutes=20))
        assert [notice.edge for notice in world.announced] == [Edge.START]


async def test_a_channel_that_comes_back_when_a_fault_is_over_hears_of_its_beginning_and_its_end(town: Open) -> None:
    world = without_mayor()
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        world.channel_refuses, world.readable = True, False
        await here.pass_time(timedelta(minutes=5))
        world.readable = True
        await here.pass_time(timedelta(minutes=5))
        assert {(notice.type, notice.edge) for notice in world.refused} == {
            (AlertType.DOLT_DOWN, Edge.START),
            (AlertType.DOLT_DOWN, Edge.END),
        }
        world.channel_refuses = False
        await here.pass_time(timedelta(minutes=5))
        assert [notice.edge for notice in world.announced if notice.type is AlertType.DOLT_DOWN] == [
            Edge.START,
            Edge.END,
        ]
        assert (await here.deacon.query(DeaconWorkflow.state)).announcements == ()


async def test_what_began_before_the_mayor_was_given_up_is_announced_with_him(town: Open) -> None:
    world = TownWorld(heals=False)
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=3))
        world.found[names.MAYOR_ID] = ProbeResult.WEDGED
        world.found[names.refinery_id("shop")] = ProbeResult.ABSENT
        world.readable = False
        await here.pass_time(timedelta(minutes=30))
        assert {notice.condition for notice in world.announced} == {f"deacon:{letter.id}" for letter in world.letters}
        assert {notice.type for notice in world.announced} >= {AlertType.DOLT_DOWN, AlertType.REFINERY_STALLED}
        assert len(world.announced) == len(world.letters), "each of them once"


async def test_what_was_announced_by_an_earlier_run_is_announced_to_be_over(town: Open) -> None:
    world = without_mayor()
    async with town(world, patience=12) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        assert [notice.edge for notice in world.announced] == [Edge.START]
        first = await runs_of(here.deacon)
        await here.pass_time(timedelta(minutes=20))
        here.deacon = here.env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)
        assert await runs_of(here.deacon) != first
        assert [notice.edge for notice in world.announced] == [Edge.START]
        world.found.clear()
        await here.pass_time(timedelta(minutes=10))
        assert [notice.edge for notice in world.announced] == [Edge.START, Edge.END]
        assert world.announced[0].condition == world.announced[1].condition
