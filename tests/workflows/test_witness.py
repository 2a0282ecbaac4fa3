"""WitnessWorkflow: the patrol."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.attempts import WatchReport, WatchRig, observation_key
from models.jobs import Observation, ObservationKind, WitnessStatus, WorkEnded, WorkStarted
from models.settings import HealthSettings, Settings
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.merge_world import rig
from tests.workflows.probes import Job, JobProbe, Record, eventually, runs_of, start_job
from workflows.witness import WitnessState, WitnessWorkflow

Witness = WorkflowHandle[WitnessWorkflow, None]


def died(bead: str, attempt: int = 1, host: str = "h1") -> Observation:
    return Observation(bead=bead, polecat="toast", host=host, attempt=attempt, kind=ObservationKind.DIED)


def started(bead: str, attempt: int = 1, host: str = "h1") -> WorkStarted:
    return WorkStarted(bead=bead, polecat="toast", host=host, attempt=attempt)


@dataclass
class Watchtower:
    """What can be seen on each host. Answers at once: the pace belongs to the workflow."""

    seen: dict[str, list[Observation]] = field(default_factory=dict)
    living: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rounds: Counter[str] = field(default_factory=Counter)
    intervals: list[float] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    broken: bool = False
    forgetful: bool = False
    """reports what it was told is known, and claims that nothing is present"""

    @activity.defn
    async def watch_rig(self, request: WatchRig) -> WatchReport:
        self.rounds[request.host] += 1
        self.intervals.append(request.interval_s)
        while request.host in self.hanging:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if self.broken:
            raise ApplicationError("tmux is not installed", type="program_missing", non_retryable=True)
        here = self.seen.get(request.host, [])
        living = self.living.get(request.host, ())
        if self.forgetful:
            return WatchReport(observations=tuple(here))
        return WatchReport(
            observations=tuple(seen for seen in here if observation_key(seen) not in request.known),
            present=tuple(observation_key(seen) for seen in here),
            living=living,
            heartbeat_age_s=dict.fromkeys(living, 3.0),
            progress_age_s=dict.fromkeys(living, 7.0),
        )


@dataclass
class Post:
    """One rig's Witness with everything around it."""

    tower: Watchtower
    record: Record
    witness: Witness

    async def status(self) -> WitnessStatus:
        return await self.witness.query(WitnessWorkflow.status)

    async def start(self, work: WorkStarted) -> None:
        await self.witness.signal(WitnessWorkflow.work_started, work)

    async def end(self, bead: str, attempt: int = 1) -> None:
        await self.witness.signal(WitnessWorkflow.work_ended, WorkEnded(bead=bead, attempt=attempt))

    async def watched(self, host: str = "h1", rounds: int = 1) -> None:
        async def enough() -> bool:
            return self.tower.rounds[host] >= rounds

        await eventually(enough, what=f"{rounds} rounds on {host}")


Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(
        tower: Watchtower | None = None, *, patience: int = 1000, readable: bool = True, interval: int = 60
    ) -> AsyncIterator[Post]:
        tower = tower or Watchtower()
        settings = Settings(health=HealthSettings(check_interval=interval))
        record = Record(rig=rig(), settings=settings, readable=readable)
        async with workers(
            workflows=[WitnessWorkflow, JobProbe],
            activities=[tower.watch_rig, record.load_rig],
            hosts=("h1", "h2"),
        ):
            witness = await env.client.start_workflow(
                WitnessWorkflow.run,
                WitnessState(rig="shop", patience=patience),
                id=names.witness_id("shop"),
                task_queue=names.TOWN_QUEUE,
            )
            try:
                yield Post(tower, record, witness)
            finally:
                tower.hanging.clear()

    return start


async def observed(job: Job, count: int = 1) -> list[tuple[int, ObservationKind]]:
    """What the job was told, once it was told `count` facts."""

    async def enough() -> list[tuple[int, ObservationKind]]:
        heard = (await job.query(JobProbe.heard)).observations
        return [(seen.attempt, seen.kind) for seen in heard] if len(heard) >= count else []

    answer: list[tuple[int, ObservationKind]] = await eventually(enough, what=f"{count} observations")
    return answer


async def told(job: Job) -> int:
    return len((await job.query(JobProbe.heard)).observations)


# --- watching -----------------------------------------------------------------------------------


async def test_without_work_nothing_is_watched(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await env.sleep(timedelta(days=2))
        assert not town.tower.rounds
        assert (await town.status()).hosts == ()


async def test_a_host_with_new_work_is_watched_at_once_even_with_the_record_unreadable(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post(readable=False) as town:
        await town.start(started("sh-1"))
        await town.watched(rounds=1)


async def test_an_observation_is_passed_on_at_once(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]})) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        assert await observed(job) == [(1, ObservationKind.DIED)]


async def test_an_outstanding_observation_is_passed_on_once_an_interval_until_it_is_gone(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]})) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await observed(job)
        await env.sleep(timedelta(minutes=10, seconds=5))
        repeats = await told(job)
        assert 9 <= repeats <= 12, "once an interval"
        assert town.tower.rounds["h1"] <= 2 * repeats + 2, "and the patrol does not spin on it"
        town.tower.seen["h1"] = []
        await env.sleep(timedelta(minutes=2))
        settled = await told(job)
        await env.sleep(timedelta(minutes=10))
        assert await told(job) == settled


async def test_a_fact_that_comes_back_after_it_was_gone_is_passed_on_again(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]}), interval=3600) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await observed(job, 1)
        town.tower.seen["h1"] = []
        await town.start(started("sh-2"))  # wakes the resting patrol
        before = town.tower.rounds["h1"]
        await town.watched(rounds=before + 1)
        town.tower.seen["h1"] = [died("sh-1")]
        await town.start(started("sh-3"))
        assert len(await observed(job, 2)) == 2


async def test_an_early_empty_return_does_not_spin(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        await town.watched()
        await env.sleep(timedelta(hours=1))
        assert 59 <= town.tower.rounds["h1"] <= 62


async def test_a_watcher_that_contradicts_itself_does_not_spin(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]}, forgetful=True)) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await observed(job)
        await env.sleep(timedelta(hours=1))
        assert town.tower.rounds["h1"] <= 125


async def test_a_watch_that_fails_for_good_is_tried_again_each_interval(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(broken=True)) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await env.sleep(timedelta(minutes=10))
        assert 9 <= town.tower.rounds["h1"] <= 12
        town.tower.broken = False
        town.tower.seen["h1"] = [died("sh-1")]
        await env.sleep(timedelta(minutes=2))
        assert await told(job) >= 1


async def test_two_hosts_are_watched_side_by_side(env: WorkflowEnvironment, post: Open) -> None:
    tower = Watchtower(seen={"h2": [died("sh-2", host="h2")]}, hanging={"h1"})
    async with post(tower) as town:
        job = await start_job(env, "sh-2")
        await town.start(started("sh-1"))
        await town.watched("h1")
        await town.start(started("sh-2", host="h2"))
        assert await observed(job) == [(1, ObservationKind.DIED)], "although the first host's watch hangs"
        assert (await town.status()).hosts == ("h1", "h2")
        assert town.tower.rounds["h1"] == 1, "one watch at a time on a host"


# --- what is being watched ----------------------------------------------------------------------


async def test_the_patrol_of_a_host_ends_with_its_last_work(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        await town.watched()
        await town.end("sh-1")
        await env.sleep(timedelta(minutes=2))
        rounds = town.tower.rounds["h1"]
        await env.sleep(timedelta(hours=5))
        assert town.tower.rounds["h1"] == rounds
        assert (await town.status()).living == ()
        await town.start(started("sh-2"))
        await town.watched(rounds=rounds + 1)


async def test_the_end_of_an_older_attempt_does_not_end_the_watch(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1", attempt=2))
        await town.start(started("sh-1", attempt=1, host="h2"))
        await town.end("sh-1", attempt=1)
        assert (await town.status()).hosts == ("h1",)
        await town.end("sh-1", attempt=2)
        assert (await town.status()).hosts == ()


async def test_work_whose_job_is_gone_is_forgotten(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-9")]})) as town:
        await town.start(started("sh-9"))

        async def forgotten() -> bool:
            return (await town.status()).hosts == ()

        await eventually(forgotten)


async def test_the_status_holds_the_last_survey_of_each_host(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(living={"h1": ("sh-1",), "h2": ("sh-2",)})) as town:
        await town.start(started("sh-1"))
        await town.start(started("sh-2", host="h2"))

        async def surveyed() -> WitnessStatus | None:
            status = await town.status()
            return status if len(status.living) == 2 else None

        status: WitnessStatus = await eventually(surveyed)
        assert status.living == ("sh-1", "sh-2")
        assert status.heartbeat_age_s == {"sh-1": 3.0, "sh-2": 3.0}
        assert status.progress_age_s == {"sh-1": 7.0, "sh-2": 7.0}
        assert status.surveyed_at is not None


async def test_a_changed_interval_holds_from_the_next_cycle_on(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        await env.sleep(timedelta(minutes=3))
        town.record.settings = Settings(health=HealthSettings(check_interval=10))
        await env.sleep(timedelta(minutes=3))
        assert set(town.tower.intervals[:2]) == {60.0}
        assert town.tower.intervals[-1] == 10.0


# --- long life ----------------------------------------------------------------------------------


async def test_work_and_what_is_known_survive_two_continue_as_new(env: WorkflowEnvironment, post: Open) -> None:
    async with post(patience=4, interval=3600) as town:
        job = await start_job(env, "sh-1")
        town.tower.seen["h1"] = [died("sh-1", attempt=3)]
        await town.start(started("sh-1", attempt=3))
        await observed(job)
        runs = {await runs_of(town.witness)}
        while len(runs) < 3:
            before = await runs_of(town.witness)
            for _ in range(4):
                await town.end("sh-1", attempt=1)

            async def handed_over(before: str = before) -> bool:
                return await runs_of(town.witness) != before

            await eventually(handed_over)
            runs.add(await runs_of(town.witness))
        rounds = town.tower.rounds["h1"]
        await town.watched(rounds=rounds)
        assert (await town.status()).hosts == ("h1",)
        assert await told(job) == 1, "what was passed on is not repeated before the interval is over"
        await town.end("sh-1", attempt=2)
        assert (await town.status()).hosts == ("h1",), "the attempt is known too"


async def test_a_hanging_watch_does_not_keep_a_run_from_handing_over(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(hanging={"h1"}), patience=3) as town:
        await town.start(started("sh-1"))
        await town.watched()
        before = await runs_of(town.witness)
        for bead in ("sh-2", "sh-3"):
            await town.start(started(bead))

        async def handed_over() -> bool:
            return await runs_of(town.witness) != before

        await eventually(handed_over)
        await town.watched(rounds=2)


async def test_a_day_of_patrol_takes_seconds_and_its_history_stays_bounded(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post(interval=180) as town:
        await town.start(started("sh-1"))
        await town.watched()
        first = await runs_of(town.witness)
        for _ in range(8):  # each call to the server has a limit of its own
            await env.sleep(timedelta(hours=3))
        assert 480 <= town.tower.rounds["h1"] <= 490, "one round an interval, and one more for each handing over"
        description = await town.witness.describe()
        assert description.run_id != first, "it handed over by itself"
        assert description.history_length < 10_000
