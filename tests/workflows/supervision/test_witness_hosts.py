"""Hosts that are lost and come back: known in time, told once, and nothing is accused of a gap."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models import names
from models.job.messages import ObservationKind
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, start_job
from tests.workflows.supervision.witness_world import (
    DispatchDouble,
    Post,
    died,
    observed,
    posted,
    started,
    strict,
    zombie,
)
from workflows.shared import activity_options
from workflows.supervision.witness_state import WitnessState

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]
FASTER = 25
"""This server skips no time while an activity waits for a worker, so a host without one gets that much less of it."""
ABSENT: Counter[str] = Counter()
"""by host: how many of its watches, from now on, no worker will take"""


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Host h1 has a worker, h2 has none. A host is lost after 20 s, which a second look of 10 s confirms."""
    watch = activity_options.watch

    def watch_by_presence(host: str, interval: timedelta, patience: timedelta) -> activity_options.ActivityOptions:
        ABSENT[host] -= 1
        return watch(host, interval, patience / FASTER if ABSENT[host] >= 0 else patience * FASTER)

    ABSENT.clear()
    ABSENT["h2"] = 1_000_000
    monkeypatch.setattr(activity_options, "watch", watch_by_presence)
    return lambda **how: posted(env, workers, settings=strict(86400), alive=("h1",), hosts=("h1", "h2"), **how)


def worker_of(town: Post, queue: str, host: str = "h2") -> Worker:
    """A worker of the host for one of its queues."""
    activities: list[Callable[..., object]] = [town.tower.watch_rig, town.tower.clean_up]
    return Worker(town.env.client, task_queue=queue, activities=activities)


@contextlib.asynccontextmanager
async def back(town: Post) -> AsyncIterator[None]:
    """The host h2 works."""
    ABSENT.clear()
    async with worker_of(town, names.watch_queue("h2")), worker_of(town, names.host_queue("h2")):
        yield


async def lost(town: Post, hosts: tuple[str, ...] = ("h2",)) -> None:
    """Wait until dispatcher and status name exactly these hosts as lost."""

    async def so() -> bool:
        return (await town.restraint()).lost_hosts == (await town.status()).lost_hosts == hosts

    await eventually(so, what=f"{hosts} to be lost")


async def test_a_host_whose_worker_takes_no_watch_is_lost_and_dispatcher_and_mayor_are_told_once(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1", host="h2"))
        await town.start(started("sh-2", host="h1"))
        await town.raised("host_lost")
        await lost(town)
        (letter,) = town.desk.letters
        assert (letter.level, letter.severity, letter.evidence) == ("L4", "critical", "sh-1")
        assert letter.message.startswith("h2 is lost: no worker there for 30 s")
        assert "they go on at h1" in letter.message

        async def asked_on() -> bool:
            history = await town.witness.fetch_history()
            return sum(event.HasField("activity_task_timed_out_event_attributes") for event in history.events) >= 5

        await eventually(asked_on, what="more watches that nobody takes")
        assert len(town.desk.letters) == 1
        assert town.tower.rounds["h1"] > 0, "the others are watched on"


@pytest.mark.document("2: 网络分区")
async def test_a_host_that_is_back_is_used_again_and_what_was_moved_away_from_it_is_cleaned_up(post: Open) -> None:
    async with post() as town:
        job = await start_job(town.env, "sh-1")
        await town.start(started("sh-1", host="h2"))
        await lost(town)
        await town.end("sh-1")  # the job has gone on …
        await town.start(started("sh-1", attempt=2, host="h1"))  # … elsewhere
        town.tower.seen["h2"] = [died("sh-1", host="h2")]
        town.tower.zombies["h2"] = (zombie("sh-1"),)
        async with back(town):
            await lost(town, ())
            await town.raised()

            async def cleaned() -> bool:
                return bool(town.tower.cleaned)

            await eventually(cleaned)
            # Twice where a watch was under way meanwhile, which saw it too.
            assert {(each.bead, each.attempt, each.force) for each in town.tower.cleaned} == {("sh-1", 1, False)}
            assert (await observed(job))[0] == (1, ObservationKind.DIED), "late news, which the job drops"
            town.tower.seen["h2"] = []
            await town.wait(timedelta(minutes=2))
            assert [request for request in town.tower.asked if request.host == "h2"][-1].superseded == {"sh-1": 1}
            rounds = town.tower.rounds["h2"]
            await town.wait(timedelta(minutes=10))
            assert town.tower.rounds["h2"] == rounds, "nothing is left to watch there"


async def test_a_host_that_misses_one_watch_and_takes_the_next_is_not_lost(post: Open) -> None:
    ABSENT["h2"] = 1
    async with post() as town:
        await town.start(started("sh-1", host="h2"))

        async def missed() -> bool:
            return bool((await town.witness.query("state"))["watches"]["h2"]["missed"])

        await eventually(missed)
        async with back(town):
            await town.watched("h2")
            await town.wait(timedelta(minutes=5))
            assert town.desk.letters == []
            assert (await town.status()).lost_hosts == ()


async def test_a_loss_is_kept_over_continue_as_new(post: Open) -> None:
    async with post(patience=3) as town:
        await town.start(started("sh-1", host="h2"))
        await lost(town)
        first = (await town.witness.describe()).run_id
        told = len(await town.dispatch.query(DispatchDouble.restraints))
        for _ in range(3):
            await town.witness.signal("settings_changed")

        async def handed_over() -> bool:
            restraints = await town.dispatch.query(DispatchDouble.restraints)
            return (await town.witness.describe()).run_id != first and len(restraints) > told

        await eventually(handed_over)
        await lost(town)
        assert len(town.desk.letters) == 1


async def test_a_lost_host_does_not_make_the_patrol_look_old(post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1", host="h2"))
        await town.start(started("sh-2", host="h1"))
        await lost(town)
        state = WitnessState.model_validate(await town.witness.query("state"))
        ping = state.ping()
        assert ping.patrolled_at == state.watches["h1"].surveyed_at
        assert ping.has_work
