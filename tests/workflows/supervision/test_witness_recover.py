"""`gt witness stop`, `start` and `recover` as the Witness sees them, and a restart from what it tells of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.health import HealthKind
from models.job.messages import ObservationKind, WitnessStatus
from models.refinery.messages import PauseRequest
from models.settings import HealthSettings, Settings
from models.supervision.messages import LookAt, WitnessRecovered
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import start_job
from tests.workflows.supervision.witness_world import Post, died, observed, posted, seen_as, started, told, zombie
from workflows.supervision.witness import WitnessWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Post]]


@pytest.fixture
def post(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    return lambda *tower, **how: posted(env, workers, *tower, **how)


async def recover(town: Post) -> WitnessRecovered:
    answer: WitnessRecovered = await town.witness.execute_update("recover", result_type=WitnessRecovered)
    return answer


async def test_a_stopped_witness_watches_nothing_until_it_is_started(post: Open) -> None:
    async with post() as town:
        job = await start_job(town.env, "sh-1")
        await town.start(started("sh-1"))
        await town.watched()
        stopped = await town.witness.execute_update(
            "stop", PauseRequest(reason="a look by hand"), result_type=WitnessStatus
        )
        assert stopped.stopped
        await town.wait(timedelta(minutes=2))
        rounds = town.tower.rounds["h1"]
        town.tower.seen["h1"] = [died("sh-1")]
        await town.start(started("sh-2"))
        await town.wait(timedelta(hours=1))
        assert town.tower.rounds["h1"] == rounds
        assert await told(job) == 0
        begun = await town.witness.execute_update("start", result_type=WitnessStatus)
        assert not begun.stopped
        assert await observed(job) == [(1, ObservationKind.DIED)]


@pytest.mark.document("4: 重新加载配置", "4: 检查 Polecats 状态", "4: 恢复 patrol 循环", "4: 处理积压邮件")
async def test_recover_reads_settings_checks_every_polecat_resumes_and_works_off_what_is_outstanding(
    post: Open,
) -> None:
    async with post(hosts=("h1", "h2")) as town:
        job = await start_job(town.env, "sh-1")
        await town.start(started("sh-1"))
        await town.watched()
        await town.witness.execute_update("stop", PauseRequest())
        town.record.settings = Settings(health=HealthSettings(check_interval=17))
        town.tower.seen["h1"] = [died("sh-1")]
        town.tower.health = {
            "h1": {"sh-1": seen_as(HealthKind.UNRESPONSIVE), "sh-2": seen_as()},
            "h2": {"sh-3": seen_as()},
        }
        recovered = await recover(town)
        assert recovered == WitnessRecovered(
            settings_read=True,
            verdicts={"healthy": 2, "unresponsive": 1},
            unchecked=(),
            patrols=("h1", "h2"),
            backlog=1,
        )
        assert await observed(job) == [(1, ObservationKind.DIED)]
        await town.wait(timedelta(minutes=2))
        assert 0 < town.tower.asked[-1].interval_s <= 17, "a watch ends with the cycle"


async def test_recover_finds_sessions_of_jobs_that_run_no_more_at_once(post: Open) -> None:
    async with post() as town:
        town.desk.running = {names.polecat_id("shop", "sh-2")}
        town.tower.health["h1"] = {"sh-1": seen_as(attempt=3), "sh-2": seen_as()}
        await recover(town)
        await town.wait(timedelta(minutes=2))
        assert town.tower.asked[-1].superseded == {"sh-1": 3}


async def test_a_job_that_is_rebuilt_after_its_session_was_presumed_over_is_watched_and_its_agent_left_alone(
    post: Open,
) -> None:
    async with post() as town:
        town.tower.health["h1"] = {"sh-1": seen_as(attempt=3)}
        await recover(town)
        await town.watched(rounds=2)
        assert town.tower.asked[-1].superseded == {"sh-1": 3}
        job = await start_job(town.env, "sh-1")
        town.desk.running = {names.polecat_id("shop", "sh-1")}
        await town.start(started("sh-1", attempt=3))
        await town.wait(timedelta(minutes=40))
        assert town.tower.asked[-1].superseded == {"sh-1": 2}
        assert (await town.status()).hosts == ("h1",)
        town.tower.seen["h1"] = [died("sh-1", attempt=3)]
        assert await observed(job) == [(3, ObservationKind.DIED)]


async def test_a_survey_that_was_begun_before_the_job_spoke_has_nothing_of_it_cleaned_up(post: Open) -> None:
    async with post() as town:
        town.tower.health["h1"] = {"sh-1": seen_as(attempt=3)}
        await recover(town)
        town.tower.hanging = {"h1"}
        rounds = town.tower.rounds["h1"]
        await town.witness.signal(WitnessWorkflow.look_at, LookAt(host="h1"))
        await town.watched(rounds=rounds + 1)
        await town.start(started("sh-1", attempt=3))
        town.tower.zombies_if_over["h1"] = (zombie("sh-1", attempt=3),)
        town.tower.hanging.clear()
        await town.wait(timedelta(minutes=2))
        assert town.tower.cleaned == []


async def test_an_attempt_of_which_its_job_has_said_that_it_is_over_stays_so_whatever_comes_late(post: Open) -> None:
    async with post() as town:
        town.tower.health["h1"] = {"sh-1": seen_as(attempt=3)}
        await recover(town)
        await town.start(started("sh-1", attempt=3))
        await town.end("sh-1", attempt=3)
        await town.start(started("sh-1", attempt=3))
        assert (await town.status()).hosts == ()
        await town.wait(timedelta(minutes=2))
        assert town.tower.asked[-1].superseded == {"sh-1": 3}


async def test_recover_says_what_it_could_not_do(post: Open) -> None:
    async with post(alive=("h1",), hosts=("h1", "h2")) as town:
        await town.start(started("sh-1"))
        await town.wait(timedelta(minutes=2))
        town.record.readable = False
        recovered = await recover(town)
        assert not recovered.settings_read
        assert recovered.unchecked == ("h2",)
        assert recovered.patrols == ("h1",)


async def test_a_witness_started_from_what_its_predecessor_told_goes_on_where_it_was(post: Open) -> None:
    async with post() as town:
        job = await start_job(town.env, "sh-1")
        await town.start(started("sh-1", attempt=2))
        await town.watched()
        state = await town.witness.query("state")
        await town.witness.terminate()
        town.witness = await town.env.client.start_workflow(
            "WitnessWorkflow", state, id=names.witness_id("shop"), task_queue=names.TOWN_QUEUE
        )
        town.tower.seen["h1"] = [died("sh-1", attempt=2)]
        assert await observed(job) == [(2, ObservationKind.DIED)]
        assert (await town.status()).hosts == ("h1",)
