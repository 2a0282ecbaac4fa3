"""WitnessWorkflow: the patrol."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.errors import Level
from models.job.health import HealthKind, Thresholds
from models.job.messages import ObservationKind, WitnessStatus
from models.settings import HealthSettings, RecoverySettings, Settings
from tests.workflows.conftest import HOST, WorkerBuilder, workers_of
from tests.workflows.probes import eventually, runs_of, start_job
from tests.workflows.supervision.witness_world import (
    Post,
    Watchtower,
    Witness,
    died,
    observed,
    posted,
    seen_as,
    started,
    told,
)
from workflows.supervision.patrol import STAGGER

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """See `posted`."""
    return lambda *arguments, **how: posted(env, workers, *arguments, **how)


# --- watching -----------------------------------------------------------------------------------


async def test_without_work_nothing_is_watched(env: WorkflowEnvironment, post: Open) -> None:
    async with post() as town:
        await env.sleep(timedelta(hours=5))
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


async def test_agents_that_died_of_one_cause_are_told_of_in_two_waves_a_second_apart(
    env: WorkflowEnvironment, post: Open
) -> None:
    beads = [f"sh-{number}" for number in range(9)]
    deaths = [died(bead, exit_code=None, shared_cause=True) for bead in beads]
    async with post(Watchtower(seen={"h1": deaths})) as town:
        jobs = [await start_job(env, bead) for bead in beads]
        for bead in beads:
            await town.start(started(bead))
        for job in jobs:
            assert await observed(job) == [(1, ObservationKind.DIED)]
        waves = [wave for wave in await waves_of_observations(town.witness) if wave]
        assert (len(waves), sum(waves)) == (2, len(beads))


async def test_what_one_agent_said_is_told_in_its_order_however_many_jobs_are_told(
    real_env: WorkflowEnvironment,
) -> None:
    """An end that came before the call for help would end the call; the time-skipping server swaps no signals."""
    beads = [f"sh-{number}" for number in range(8)]
    said = [
        died(bead, kind=kind, intent=intent)
        for bead in beads
        for kind, intent in ((ObservationKind.HELP, "help/1.json"), (ObservationKind.DONE, "done.json"))
    ]
    async with posted(real_env, workers_of(real_env), Watchtower(seen={"h1": said})) as town:
        jobs = [await start_job(real_env, bead) for bead in beads]
        for bead in beads:
            await town.start(started(bead))
        for job in jobs:
            assert await observed(job, 2) == [(1, ObservationKind.HELP), (1, ObservationKind.DONE)]


async def waves_of_observations(witness: Witness) -> list[int]:
    """How many jobs the Witness has told before, between and after its rests of a second."""
    rests: set[str] = set()
    waves = [0]
    async for event in witness.fetch_history_events():
        if event.HasField("timer_started_event_attributes"):
            timer = event.timer_started_event_attributes
            if timer.start_to_fire_timeout.ToTimedelta() == STAGGER:
                rests.add(timer.timer_id)
        elif event.HasField("timer_fired_event_attributes"):
            waves += [0] if event.timer_fired_event_attributes.timer_id in rests else []
        elif event.HasField("signal_external_workflow_execution_initiated_event_attributes"):
            signal = event.signal_external_workflow_execution_initiated_event_attributes
            waves[-1] += signal.signal_name == "observed"
    return waves


async def test_an_outstanding_observation_is_passed_on_once_an_interval_until_it_is_gone(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]})) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await observed(job)
        await env.sleep(timedelta(minutes=10, seconds=5))
        repeats = await told(job)
        assert 5 <= repeats <= 12, "once an interval"
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
        assert 30 <= town.tower.rounds["h1"] <= 62


async def test_a_watcher_that_contradicts_itself_does_not_spin(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(seen={"h1": [died("sh-1")]}, forgetful=True)) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await observed(job)
        await env.sleep(timedelta(minutes=20))
        assert town.tower.rounds["h1"] <= 45


async def test_a_watch_that_fails_for_good_is_tried_again_each_interval(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(broken=True)) as town:
        job = await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        await env.sleep(timedelta(minutes=10))
        assert 5 <= town.tower.rounds["h1"] <= 12
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


# --- what is asked, and what is known of the answer ---------------------------------------------


async def test_limits_the_rigs_own_policy_and_what_was_seen_before_go_into_each_watch(
    env: WorkflowEnvironment, post: Open
) -> None:
    health = HealthSettings(check_interval=60, polecat_timeout=77, deacon_timeout=86400)
    settings = Settings(health=health, recovery=RecoverySettings(policy="shop.policy:diagnose"))
    async with post(Watchtower(health={"h1": {"sh-1": seen_as(HealthKind.STALE)}}), settings=settings) as town:
        await town.start(started("sh-1"))
        await env.sleep(timedelta(minutes=3))
        asked = town.tower.asked[-1]
        assert asked.thresholds == Thresholds.of(health)
        assert asked.policy == "shop.policy:diagnose"
        assert asked.carried == {"sh-1": seen_as(HealthKind.STALE)}
        known = await town.witness.query("health")
        assert known["reports"]["sh-1"]["diagnosis"]["rule"] == "a rule"
        assert known["thresholds"]["polecat_timeout_s"] == 77
        assert (await town.status()).health == {"sh-1": "stale"}


async def test_a_policy_that_fails_is_told_once_and_again_when_it_works(env: WorkflowEnvironment, post: Open) -> None:
    async with post(Watchtower(policy_error="no module named shop")) as town:
        await town.start(started("sh-1"))
        await env.sleep(timedelta(minutes=5))
        await town.raised("escalation")
        town.tower.policy_error = ""
        await env.sleep(timedelta(minutes=2))
        await town.raised()


async def test_an_intent_without_its_attempts_token_is_told_once_until_it_is_gone(
    env: WorkflowEnvironment, post: Open
) -> None:
    async with post() as town:
        await town.start(started("sh-1"))
        town.tower.forged = {HOST: ("sh-1/1/done.json",)}
        await env.sleep(timedelta(minutes=5))
        await town.raised("escalation")
        (raised,) = town.desk.letters
        assert (raised.level, raised.severity) == (Level.L3.value, "high")
        assert raised.message.endswith("without this attempt's token, which nobody acts on: sh-1/1/done.json")
        town.tower.forged = {}
        await env.sleep(timedelta(minutes=2))
        await town.raised()


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
        town.record.settings = Settings(health=HealthSettings(check_interval=7))
        await env.sleep(timedelta(minutes=3))
        assert {asked.interval_s for asked in town.tower.asked[:2]} == {60.0}
        assert town.tower.asked[-1].interval_s == 7.0


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
