"""Sessions whose job is over: cleaned up beside the patrol, never those that somebody works in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.refinery.messages import PauseRequest
from models.supervision.messages import LookAt
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually
from tests.workflows.supervision.witness_world import Post, Watchtower, posted, seen_as, started, strict, zombie
from workflows.supervision.witness import WitnessWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    return lambda *tower, **how: posted(env, workers, *tower, settings=strict(86400), **how)


async def cleaned(town: Post, count: int = 1) -> None:
    async def so() -> bool:
        return len(town.tower.cleaned) >= count

    await eventually(so, what=f"{count} cleanups")


@pytest.mark.document("3: Zombie")
async def test_a_zombie_is_cleaned_up_once_and_nobody_is_called(post: Open) -> None:
    async with post(Watchtower(zombies={"h1": (zombie("sh-7", attempt=3),)})) as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=2))
        await cleaned(town)
        await town.wait(timedelta(minutes=5))
        (request,) = town.tower.cleaned
        assert (request.rig.name, request.polecat, request.bead, request.attempt) == ("shop", "toast", "sh-7", 3)
        assert not request.force
        assert town.desk.letters == []


async def test_an_end_that_is_just_under_way_is_left_alone(post: Open) -> None:
    async with post(Watchtower(zombies={"h1": (zombie("sh-7", age_s=5),)})) as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=2))
        assert town.tower.cleaned == []


async def test_a_zombie_that_cannot_be_cleaned_up_is_told_once_and_again_when_it_is_gone(post: Open) -> None:
    tower = Watchtower(zombies={"h1": (zombie("sh-7"),)}, kept_reason="the remote cannot be reached")
    async with post(tower) as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=10))
        await town.raised("polecat_zombie")
        (letter,) = town.desk.letters
        assert "the remote cannot be reached" in letter.message
        assert len(tower.cleaned) >= 3
        tower.kept_reason = ""
        await town.wait(timedelta(minutes=2))
        await town.raised()


async def test_what_an_ended_attempt_left_is_named_as_superseded_and_the_host_watched_until_it_is_gone(
    post: Open,
) -> None:
    async with post() as town:
        await town.start(started("sh-1", attempt=4))
        town.tower.health["h1"] = {"sh-1": seen_as(attempt=4)}
        await town.wait(timedelta(minutes=1))
        await town.end("sh-1", attempt=4)
        await town.wait(timedelta(minutes=1))
        assert town.tower.asked[-1].superseded == {"sh-1": 4}
        town.tower.health["h1"] = {}
        town.tower.zombies["h1"] = (zombie("sh-1", attempt=4),)
        await town.wait(timedelta(minutes=1))
        await cleaned(town)
        await town.wait(timedelta(minutes=2))
        rounds = town.tower.rounds["h1"]
        await town.wait(timedelta(minutes=10))
        assert town.tower.rounds["h1"] == rounds


async def test_what_is_left_on_a_host_without_work_is_found_when_the_deacon_names_it(post: Open) -> None:
    async with post() as town:
        await town.wait(timedelta(minutes=2))
        assert town.tower.rounds == {}
        town.tower.zombies["h1"] = (zombie("sh-7", attempt=3),)
        await town.witness.signal(WitnessWorkflow.look_at, LookAt(host="h1"))
        await cleaned(town)
        await town.wait(timedelta(minutes=5))
        assert [(one.bead, one.attempt) for one in town.tower.cleaned] == [("sh-7", 3)]
        rounds = town.tower.rounds["h1"]
        await town.wait(timedelta(minutes=10))
        assert town.tower.rounds["h1"] == rounds, "nothing is there any more"


async def test_a_host_that_the_deacon_names_is_left_once_nothing_is_seen_there_or_never_looked_at_while_stopped(
    post: Open,
) -> None:
    async with post() as town:
        await town.witness.signal(WitnessWorkflow.look_at, LookAt(host="h1"))
        await town.wait(timedelta(minutes=10))
        assert 1 <= town.tower.rounds["h1"] <= 3
        await town.witness.execute_update("stop", PauseRequest())
        rounds = town.tower.rounds["h1"]
        await town.witness.signal(WitnessWorkflow.look_at, LookAt(host="h1"))
        await town.wait(timedelta(minutes=10))
        assert town.tower.rounds["h1"] == rounds


async def test_older_attempts_of_a_bead_that_is_worked_on_are_superseded_on_every_host(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1", attempt=5))
        await town.start(started("sh-2", host="h2"))
        await town.wait(timedelta(minutes=1))
        asked = [request.superseded for request in town.tower.asked if request.host == "h2"]
        assert asked[-1] == {"sh-1": 4}


async def test_a_session_of_which_no_job_speaks_is_left_alone_while_its_job_runs(post: Open) -> None:
    tower = Watchtower(health={"h1": {"sh-7": seen_as(attempt=2)}})
    async with post(tower) as town:
        town.desk.running = {names.polecat_id("shop", "sh-7")}
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=40))
        assert all("sh-7" not in request.superseded for request in tower.asked)
        town.desk.running = set()
        await town.wait(timedelta(minutes=40))
        assert tower.asked[-1].superseded["sh-7"] == 2


async def test_work_that_no_survey_sees_any_more_is_forgotten(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=20))
        assert (await town.status()).hosts == ("h1",)
        town.tower.living["h1"] = ()
        await town.wait(timedelta(minutes=20))
        assert (await town.status()).hosts == ()


async def test_work_that_no_survey_sees_is_watched_for_as_long_as_its_job_speaks_of_it(post: Open) -> None:
    async with post() as town:
        about_to_start = started("sh-1").model_copy(update={"session": False})
        await town.witness.signal("work_started", about_to_start)
        for _ in range(4):
            for _ in range(10):
                await town.wait(timedelta(minutes=1))
                assert (await town.status()).hosts == ("h1",)
            await town.witness.signal("work_started", about_to_start)
        await town.wait(timedelta(minutes=20))
        assert (await town.status()).hosts == ()
