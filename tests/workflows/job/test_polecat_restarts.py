"""How a job's agents come back: at once, delayed, elsewhere, or not until restarts go on again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, ObservationKind
from models.ledger.records import JobState
from models.settings import PolecatSettings, Settings
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]
HOSTS = (HOST, "h2")


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A town of two hosts whose bead sh-1 is being worked on."""

    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None) -> AsyncIterator[Town]:
        world = world or JobWorld(hosts=HOSTS)
        async with workers(
            workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities, hosts=HOSTS
        ):
            shop = await Town.open(env, world)
            await shop.sling("sh-1")
            await shop.reach("sh-1", JobState.WORKING, 1)
            yield shop

    return start


async def die(shop: Town, attempt: int, **facts: object) -> None:
    await shop.reach("sh-1", JobState.WORKING, attempt)
    await shop.observe("sh-1", ObservationKind.DIED, **({"exit_code": 1} | facts))


@pytest.mark.document("2: Polecat")
async def test_a_spent_budget_moves_the_job_once_to_another_polecat_on_another_host(town: Open) -> None:
    async with town() as shop:
        for attempt in range(1, 5):
            await die(shop, attempt)
            if attempt in {2, 3}:  # delayed
                await shop.env.sleep(timedelta(minutes=2))
        status = await shop.reach("sh-1", JobState.WORKING, 5)
        places = [(start.polecat, start.attempt) for start in shop.world.started]
        assert [polecat for polecat, _ in places[:4]] == ["toast"] * 4
        assert "toast" not in [polecat for polecat, _ in places[4:]]
        assert status.host == "h2"
        assert [each.attempt for each in shop.world.released] == [4], "what was not landed is parked"
        assert shop.world.letters == []
        await die(shop, 5)
        await shop.reach("sh-1", JobState.BLOCKED)
        await shop.escalated("polecat_exhausted")


async def test_agents_that_die_with_their_whole_host_come_back_at_once_however_often_they_died_before(
    town: Open,
) -> None:
    async with town() as shop:
        for attempt in range(1, 4):
            await die(shop, attempt, exit_code=None, shared_cause=True)
        await shop.reach("sh-1", JobState.WORKING, 4)
        await shop.recorded("sh-1", "agent_died", 3)
        delays = [write.detail for write in shop.world.writes if write.event == "agent_died"]
        assert len(delays) == 3
        assert all("at once" in detail for detail in delays)


async def test_a_setup_that_fails_is_a_persons_after_three_runs_and_no_other_polecats(town: Open) -> None:
    async with town() as shop:
        for attempt in range(1, 4):
            words = "exit code 1\nnpm ci\nnpm ERR! no lock file\nworktree.setup failed after 700 s: exit code 1."
            await die(shop, attempt, exit_code=78, setup_failed=True, detail=words)
            await shop.env.sleep(timedelta(minutes=15))
        await shop.reach("sh-1", JobState.BLOCKED, 3)
        await shop.escalated("help")
        (letter,) = shop.world.letters
        said = "worktree.setup failed, exit code 1: npm ci / npm ERR! no lock file"
        assert said in letter.message
        assert {start.polecat for start in shop.world.started} == {"toast"}
        await shop.recorded("sh-1", "setup_failed", 2)
        told = [write.detail for write in shop.world.writes if write.event == "setup_failed"]
        assert told == [f"{said} Restart 1 of 2 at once.", told[1]]
        assert told[1].startswith(f"{said} Restart 2 of 2 in ")


async def test_while_restarts_are_held_the_slot_is_given_back_and_the_budget_spared(town: Open) -> None:
    async with town() as shop:
        for attempt in range(1, 8):
            await die(shop, attempt, hold=True)
            await shop.reach("sh-1", JobState.WORKING, attempt + 1)  # nothing brakes this dispatcher
        assert {start.polecat for start in shop.world.started} == {"toast"}
        assert shop.world.letters == []


@pytest.mark.parametrize("auto_done", [True, False])
async def test_an_agent_that_ends_well_with_new_commits_is_taken_as_done_if_the_rig_says_so(
    town: Open, auto_done: bool
) -> None:
    world = JobWorld(hosts=HOSTS, settings=Settings(polecat=PolecatSettings(auto_done=auto_done)))
    async with town(world) as shop:
        await die(shop, 1, exit_code=0)
        if auto_done:
            await shop.reach("sh-1", JobState.SUBMITTED, 1)
            await shop.recorded("sh-1", "auto_done")
        else:
            await shop.reach("sh-1", JobState.WORKING, 2)


async def test_an_agent_that_ends_well_but_left_something_uncommitted_is_started_again_and_told(town: Open) -> None:
    async with town(JobWorld(hosts=HOSTS, refuse_work="uncommitted changes: a.py")) as shop:
        await die(shop, 1, exit_code=0)
        await shop.reach("sh-1", JobState.WORKING, 2)
        (note,) = shop.world.started[1].notes
        assert "uncommitted changes: a.py" in note.text


async def test_a_name_that_another_bead_has_taken_over_is_not_touched_by_late_news_of_the_first_one(
    town: Open,
) -> None:
    async with town() as shop:
        await shop.decide("sh-1", Decision(kind=DecisionKind.ABANDON))
        await shop.job("sh-1").result()
        await shop.sling("sh-2")
        status = await shop.reach("sh-2", JobState.WORKING, 1)
        assert status.polecat == "toast", "the name is used again"
        await shop.observe("sh-2", ObservationKind.DIED, attempt=0)

        async def dropped() -> bool:
            history = await shop.job("sh-2").fetch_history()
            return any(
                event.workflow_execution_signaled_event_attributes.signal_name == "observed" for event in history.events
            )

        await eventually(dropped)
        assert (await shop.status("sh-2")).attempt == 1
        await shop.submit_work("sh-2")
