"""WITNESS_PING: the Deacon hears of each patrol, and its silence is not overlooked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import Level
from models.refinery.messages import PauseRequest
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually
from tests.workflows.supervision.witness_world import Post, posted, started, strict

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A Witness that cycles every 30 s and calls for help after 120 s of silence."""
    return lambda **how: posted(env, workers, settings=strict(), **how)


@pytest.mark.document("6: WITNESS_PING")
async def test_each_cycle_pings_the_deacon_with_or_without_work(post: Open) -> None:
    async with post() as town:
        town.deacon.there = True
        await town.wait(timedelta(minutes=10))
        idle = list(town.deacon.pings)
        assert 10 <= len(idle) <= 22
        assert {(ping.has_work, ping.patrolled_at) for ping in idle} == {(False, None)}
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=10))
        busy = town.deacon.pings[len(idle) :]
        assert 10 <= len(busy) <= 22
        assert all(ping.has_work and ping.patrolled_at is not None for ping in busy)
        moments = [ping.patrolled_at for ping in busy if ping.patrolled_at]
        assert moments == sorted(moments)
        assert moments[-1] - moments[0] > timedelta(minutes=7)
        assert [ping.number for ping in idle + busy] == list(range(1, len(idle + busy) + 1))
        assert (await town.status()).deacon_silent_s == 0


@pytest.mark.document("2: Deacon", "6: 无响应", "6: 升级")
async def test_a_deacon_that_does_not_answer_is_told_to_the_mayor_once_and_again_when_it_does(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        town.deacon.there = True
        await town.wait(timedelta(minutes=5))
        assert town.desk.letters == []
        town.deacon.answers = False
        await town.wait(timedelta(seconds=90))
        assert town.desk.letters == []
        await town.wait(timedelta(seconds=90))
        await town.raised("deacon_down")
        await town.wait(timedelta(minutes=30))
        (letter,) = town.desk.letters
        assert (letter.level, letter.severity, letter.source) == (Level.L3.value, "critical", "witness/shop")
        assert "has not answered" in letter.message
        town.deacon.answers = True
        await town.wait(timedelta(minutes=2))
        await town.raised()
        town.deacon.answers = False
        await town.wait(timedelta(minutes=5))
        await town.raised("deacon_down")
        assert len({letter.id for letter in town.desk.letters}) == 2


async def test_that_nobody_is_there_to_ping_is_no_answer(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=5))
        await town.raised("deacon_down")
        town.deacon.there = True
        await town.wait(timedelta(minutes=2))
        await town.raised()


async def test_silence_is_kept_and_counted_on_over_continue_as_new(post: Open) -> None:
    async with post(patience=2) as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(seconds=70))
        silent_s = (await town.status()).deacon_silent_s
        assert silent_s >= 30
        first = (await town.witness.describe()).run_id
        for _ in range(2):
            await town.witness.signal("settings_changed")

        async def handed_over() -> bool:
            return (await town.witness.describe()).run_id != first

        await eventually(handed_over)
        assert (await town.status()).deacon_silent_s >= silent_s
        await town.wait(timedelta(minutes=2))
        await town.raised("deacon_down")


async def test_a_witness_that_did_not_run_for_a_while_accuses_nobody(env: WorkflowEnvironment, post: Open) -> None:
    """It is away for ten minutes: what Deacon and agents did meanwhile nobody knows."""
    async with post() as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(seconds=100))
        before = await town.status()
        assert before.deacon_silent_s >= 60
        state = await town.witness.query("state")
        await town.witness.terminate()
        await town.wait(timedelta(minutes=10))
        town.witness = await env.client.start_workflow(
            "WitnessWorkflow", state, id=names.witness_id("shop"), task_queue=names.TOWN_QUEUE
        )
        await town.wait(timedelta(seconds=60))
        assert town.desk.letters == []
        assert town.tower.asked[-1].carried == {}
        for _ in range(10):  # a machine that stalls leaves one more gap, after which it counts anew
            if not town.desk.letters:
                await town.wait(timedelta(seconds=120))
        await town.raised("deacon_down")


async def test_a_stopped_witness_still_pings_and_claims_no_work(post: Open) -> None:
    async with post() as town:
        town.deacon.there = True
        await town.start(started("sh-1"))
        await town.watched()
        await town.witness.execute_update("stop", PauseRequest(reason="a look by hand"))
        told = len(town.deacon.pings)
        await town.wait(timedelta(minutes=5))
        later = town.deacon.pings[told:]
        assert len(later) >= 5
        assert not any(ping.has_work for ping in later)
