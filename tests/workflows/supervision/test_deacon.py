"""DeaconWorkflow under time skipping: pings, verdicts, restarts, and what it carries through its life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import Decision, DecisionKind
from models.refinery.messages import PauseRequest
from models.settings import RecoverySettings, Settings
from models.supervision.messages import ProbeResult, WitnessPing
from policies.supervision.watchdog import Watch, WatchClock
from tests.pace import DEADLINE_S
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from tests.workflows.supervision.deacon_world import DeaconTown, Pinger, TownWorld, settings, town_with
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.deacon_state import DeaconState

WITNESS = names.witness_id("shop")
REFINERY = names.refinery_id("shop")
DISPATCH = names.dispatch_id("shop")
Open = Callable[..., contextlib.AbstractAsyncContextManager[DeaconTown]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    def start(
        world: TownWorld | None = None, patience: int = 1000
    ) -> contextlib.AbstractAsyncContextManager[DeaconTown]:
        return town_with(env, workers, world or TownWorld(), patience)

    return start


# --- pings --------------------------------------------------------------------------------------


async def test_every_ping_is_answered_with_its_number(town: Open) -> None:
    async with town() as here:
        assert await here.heard() == 0
        witness = await here.pinger()
        await here.pass_time(timedelta(minutes=10))

        async def all_heard() -> bool:
            return (await witness.query(Pinger.state)).number == await here.heard()

        await eventually(all_heard, what="the last ping to be heard")
        assert await here.heard() >= 5


async def test_a_ping_of_a_witness_that_is_gone_does_no_harm(town: Open) -> None:
    async with town() as here:
        await here.deacon.signal(
            DeaconWorkflow.witness_ping, WitnessPing(rig="mill", witness=names.witness_id("mill"), number=1)
        )
        await here.pinger()
        await here.pass_time(timedelta(minutes=2))
        assert await here.heard() >= 2
        assert await here.heard("mill") == 0, "no such rig: forgotten"


async def test_boots_ping_is_answered_by_the_loop(town: Open) -> None:
    async with town() as here:
        for _ in range(3):
            await asyncio.wait_for(here.deacon.execute_update("ping"), DEADLINE_S)
        assert (await here.status()).cycles <= 2, "a ping is no reason for a cycle"


async def test_boots_ping_is_answered_while_it_is_stopped_and_while_it_hands_over(town: Open) -> None:
    async with town(patience=1) as here:
        await here.deacon.execute_update(DeaconWorkflow.stop, PauseRequest(by="ada"))
        for _ in range(3):
            deacon = here.env.client.get_workflow_handle(names.DEACON_ID)
            await asyncio.wait_for(deacon.execute_update("ping"), DEADLINE_S)
        assert (await here.status()).stopped


# --- the Witness --------------------------------------------------------------------------------


@pytest.mark.document("2: Witness", "4: 接收 WITNESS_PING")
async def test_a_witness_that_does_not_ping_is_down_escalated_restarted_and_cleared_when_it_is_back(
    town: Open,
) -> None:
    async with town() as here:
        witness = await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        await witness.signal(Pinger.fall_silent)
        await here.pass_time(timedelta(minutes=9))
        assert here.world.restarts == []
        await here.pass_time(timedelta(minutes=3))
        assert here.world.restarted() == [WITNESS]
        assert here.world.restarts[0].run_id == f"run of {WITNESS}"
        (letter,) = here.world.letters
        assert (letter.kind, letter.rig, letter.source) == ("witness_down", "shop", "deacon")
        assert "no ping" in letter.message
        assert (await here.watched(WITNESS)).condition == "down"
        await here.pinger()
        await here.pass_time(timedelta(minutes=3))
        assert [cleared.id for cleared in here.world.cleared] == [letter.id]
        assert (await here.watched(WITNESS)).condition == "well"
        assert here.world.restarted() == [WITNESS]


@pytest.mark.document("2: Witness", "4: 检查 patrol 周期")
async def test_an_overdue_patrol_is_restarted_without_an_alarm(town: Open) -> None:
    async with town() as here:
        witness = await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        await witness.signal(Pinger.patrol, False)
        await here.pass_time(timedelta(minutes=5))
        assert here.world.restarts == []
        await here.pass_time(timedelta(minutes=3))
        assert here.world.restarted() == [WITNESS]
        await here.pinger()
        await here.pass_time(timedelta(minutes=10))
        assert here.world.letters == []
        assert (await here.watched(WITNESS)).condition == "well"


async def test_a_stopped_witness_is_not_accused(town: Open) -> None:
    async with town(TownWorld(stopped={WITNESS})) as here:
        await here.pass_time(timedelta(hours=2))
        assert (here.world.restarts, here.world.letters) == ([], [])
        assert (await here.watched(WITNESS)).condition == "stopped"


async def test_changed_limits_hold_from_the_next_cycle_on(town: Open) -> None:
    async with town() as here:
        await here.pass_time(timedelta(minutes=2))
        here.world.settings = settings(witness_timeout=3600)
        await here.pass_time(timedelta(minutes=50))
        assert here.world.restarts == []
        here.world.settings = settings(witness_timeout=600)
        await here.pass_time(timedelta(minutes=3))
        assert WITNESS in here.world.restarted()


# --- everybody ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [DISPATCH, REFINERY, WITNESS, names.MAYOR_ID])
@pytest.mark.parametrize("found", [ProbeResult.ABSENT, ProbeResult.WEDGED])
async def test_one_that_is_gone_or_fails_is_restarted_after_a_second_look(
    town: Open, name: str, found: ProbeResult
) -> None:
    async with town() as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=2))
        here.world.found[name] = found
        await here.pass_time(timedelta(seconds=90))
        assert here.world.restarted() == [name]
        await here.pass_time(timedelta(minutes=5))
        assert here.world.restarted() == [name]
        assert here.world.letters == []


async def test_one_that_stays_silent_is_restarted_after_the_timeout(town: Open) -> None:
    async with town() as here:
        await here.pinger()
        here.world.found[REFINERY] = ProbeResult.SILENT
        await here.pass_time(timedelta(minutes=9))
        assert here.world.restarts == []
        await here.pass_time(timedelta(minutes=3))
        assert here.world.restarted() == [REFINERY]


async def test_restarts_that_do_not_help_end_with_the_budget_and_are_escalated(town: Open) -> None:
    world = TownWorld(heals=False, found={REFINERY: ProbeResult.ABSENT})
    world.settings = Settings(recovery=RecoverySettings(max_retries=2))
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(hours=2))
        assert world.restarted() == [REFINERY] * 2
        assert [(letter.kind, letter.severity) for letter in world.letters] == [
            ("refinery_stalled", "high"),
            ("refinery_stalled", "critical"),
        ]
        assert "2 restarts within 3600 s did not help" in world.letters[-1].message
        world.found.clear()
        await here.pass_time(timedelta(minutes=3))
        assert {cleared.id for cleared in world.cleared} == {letter.id for letter in world.letters}


async def test_one_whose_code_fails_again_is_escalated_and_not_restarted_for_ever(town: Open) -> None:
    world = TownWorld(heals=False, found={WITNESS: ProbeResult.WEDGED})
    async with town(world) as here:
        await here.pass_time(timedelta(hours=2))
        assert world.restarted() == [WITNESS]
        (letter,) = world.letters
        assert (letter.kind, letter.severity) == ("witness_down", "critical")
        assert "fails again after a restart" in letter.message


async def test_a_person_who_says_retry_gives_one_that_was_given_up_a_fresh_budget(town: Open) -> None:
    world = TownWorld(heals=False, found={REFINERY: ProbeResult.WEDGED})
    async with town(world) as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=5))
        assert world.restarted() == [REFINERY]
        (letter,) = world.letters
        for word in (DecisionKind.IGNORE, DecisionKind.RETRY):
            await here.deacon.signal(DeaconWorkflow.decision, Decision(kind=word, escalation=letter.id))
            await here.pass_time(timedelta(minutes=5))
        assert world.restarted() == [REFINERY] * 2


async def test_with_the_record_unreadable_who_is_known_is_watched_on(town: Open) -> None:
    async with town() as here:
        await here.pinger()
        await here.pass_time(timedelta(minutes=2))
        here.world.readable = False
        here.world.found[DISPATCH] = ProbeResult.ABSENT
        await here.pass_time(timedelta(minutes=5))
        assert here.world.restarted() == [DISPATCH]


async def test_a_removed_rig_is_not_watched_any_more_and_its_alarms_end(town: Open) -> None:
    world = TownWorld(heals=False, found={WITNESS: ProbeResult.WEDGED})
    async with town(world) as here:
        await here.pass_time(timedelta(hours=1))
        assert len(world.letters) == 1
        world.rigs = ()
        await here.pass_time(timedelta(minutes=3))
        assert [row.workflow_id for row in (await here.status()).watched] == [names.MAYOR_ID]
        assert [cleared.id for cleared in world.cleared] == [world.letters[0].id]


async def test_while_nobody_can_be_asked_nobody_is_accused_and_letters_wait(town: Open) -> None:
    world = TownWorld(heals=False, found={REFINERY: ProbeResult.ABSENT, DISPATCH: ProbeResult.SILENT})
    async with town(world) as here:
        await here.pinger()
        world.reachable = False
        await here.pass_time(timedelta(hours=2))
        assert (world.restarts, world.letters) == ([], [])


# --- stop and start -----------------------------------------------------------------------------


async def test_a_stopped_deacon_judges_nobody_answers_pings_and_stays_stopped_through_its_life(town: Open) -> None:
    async with town(patience=40) as here:
        await here.deacon.execute_update(DeaconWorkflow.stop, PauseRequest(by="ada"))
        witness = await here.pinger()
        here.world.found[REFINERY] = ProbeResult.ABSENT
        first = await runs_of(here.deacon)
        await here.pass_time(timedelta(hours=2))
        assert await runs_of(here.env.client.get_workflow_handle(names.DEACON_ID)) != first
        assert (await here.status()).stopped
        assert here.world.restarts == []
        here.deacon = here.env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)

        async def all_heard() -> bool:
            return await here.heard() == (await witness.query(Pinger.state)).number

        await eventually(all_heard, what="the last ping to be heard")
        await here.env.client.get_workflow_handle(names.DEACON_ID).execute_update("start")
        await here.pass_time(timedelta(minutes=2))
        assert here.world.restarted() == [REFINERY]


async def test_a_deacon_that_was_stopped_for_long_accuses_nobody_when_it_starts(town: Open) -> None:
    async with town() as here:
        witness = await here.pinger()
        await here.pass_time(timedelta(minutes=2))
        await here.deacon.execute_update(DeaconWorkflow.stop, PauseRequest(by="ada"))
        await witness.signal(Pinger.fall_silent)
        await here.pass_time(timedelta(hours=2))
        await here.deacon.execute_update(DeaconWorkflow.start)
        await here.pass_time(timedelta(minutes=9))
        assert here.world.restarts == []
        await here.pass_time(timedelta(minutes=3))
        assert here.world.restarted() == [WITNESS]


# --- a town that was down -------------------------------------------------------------------------


async def test_a_town_that_was_down_accuses_nobody_and_gives_everybody_the_whole_limit(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    # No time is skipped while a worker is missing, so the outage is in the state that the Deacon goes on from.
    before = await env.get_current_time() - timedelta(hours=9)
    witness = Watch.begin(WITNESS, 0.0, pings=True).hear(
        WitnessPing(rig="shop", witness=WITNESS, number=1, patrolled_at=before, has_work=True), 3000.0
    )
    state = DeaconState(clock=WatchClock(watched_s=3590.0, seen_at=before), watches={WITNESS: witness})
    world = TownWorld()
    async with workers(workflows=[DeaconWorkflow, Pinger], activities=world.activities):
        deacon = await env.client.start_workflow(
            DeaconWorkflow.run, state, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE
        )
        here = DeaconTown(env, world, deacon)
        await here.pass_time(timedelta(minutes=9))
        assert (world.restarts, world.letters) == ([], [])
        await here.pass_time(timedelta(minutes=3))
        assert world.restarted() == [WITNESS]
