"""Twenty hours of the Deacon: pings, budgets and open escalations are kept from run to run; what a cycle costs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from models import names
from models.settings import HealthSettings, Settings
from models.supervision.messages import LookAround, LookedAround, ProbeResult, WitnessPing
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from tests.workflows.supervision.deacon_world import DeaconTown, TownWorld
from workflows.shared.continue_as_new import EVENTS_PER_RUN
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.deacon_state import DeaconState

REFINERY = names.refinery_id("shop")
EVERY_S = 360
"""Six times the default: a sixth of the cycles still gives the hand-overs that are asked for."""
HOURS = 20
CYCLES = HOURS * 3600 // EVERY_S
LIMIT_S = 60
"""what they may cost: of this process's time, since that of the clock is shared with other tests"""
EVENTS_A_CYCLE = 17
EVENTS_A_PING = 4


@dataclass
class PingedWorld(TownWorld):
    """Each rig's Witness pings once a cycle: it costs less than a workflow of its own would."""

    client: Client | None = None
    pings: int = 0

    @activity.defn
    async def look_around(self, asked: LookAround) -> LookedAround:
        assert self.client is not None
        self.pings += 1
        deacon = self.client.get_workflow_handle(names.DEACON_ID)
        for rig in self.rigs:
            now = activity.info().scheduled_time
            ping = WitnessPing(
                rig=rig, witness=names.witness_id(rig), number=self.pings, patrolled_at=now, has_work=True
            )
            await deacon.signal("witness_ping", ping)
        return self.seen(asked)


@contextlib.asynccontextmanager
async def watching(
    env: WorkflowEnvironment, workers: WorkerBuilder, world: PingedWorld, patience: int = 1000
) -> AsyncIterator[DeaconTown]:
    world.client = env.client
    async with workers(workflows=[DeaconWorkflow], activities=world.activities):
        deacon = await env.client.start_workflow(
            DeaconWorkflow.run, DeaconState(patience=patience), id=names.DEACON_ID, task_queue=names.TOWN_QUEUE
        )
        yield DeaconTown(env, world, deacon)


async def test_several_runs_keep_pings_budgets_and_open_escalations(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    begun = time.process_time()
    settings = Settings(health=HealthSettings(check_interval=EVERY_S))
    world = PingedWorld(settings=settings, heals=False, found={REFINERY: ProbeResult.ABSENT}, hosts=())
    async with watching(env, workers, world, patience=350) as here:
        runs = {await runs_of(here.deacon)}
        here.deacon = env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)
        for _ in range(HOURS // 2):
            await here.pass_time(timedelta(hours=2))
            runs.add(await runs_of(here.deacon))
            length = (await here.deacon.describe()).history_length
            assert length < EVENTS_PER_RUN + 5 * (EVENTS_A_CYCLE + EVENTS_A_PING)
        assert len(runs) >= 4
        assert world.restarted() == [REFINERY] * 3, "the budget is one for all runs"
        assert len(world.letters) == 2
        assert world.cleared == []
        assert {row.workflow_id for row in (await here.status()).watched if row.condition != "well"} == {REFINERY}

        async def all_heard() -> bool:
            return await here.heard() == world.pings

        await eventually(all_heard, what="the last ping to be heard")
        assert world.pings >= 0.9 * CYCLES, "each lasts as long as its work takes beside"
        world.found.clear()
        await here.pass_time(timedelta(minutes=10))
        assert {cleared.id for cleared in world.cleared} == {letter.id for letter in world.letters}
    assert time.process_time() - begun < LIMIT_S


async def test_a_quiet_cycle_costs_a_fixed_number_of_events_and_four_for_each_ping(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    for rigs in (("shop",), ("shop", "mill", "barn")):
        world = PingedWorld(rigs=rigs)
        async with watching(env, workers, world) as here:
            await here.pass_time(timedelta(minutes=5))
            before, looks = (await here.deacon.describe()).history_length, world.pings
            await here.pass_time(timedelta(minutes=20))
            cycles = world.pings - looks
            assert 10 <= cycles <= 21
            cost = ((await here.deacon.describe()).history_length - before) / cycles
            assert cost <= EVENTS_A_CYCLE + EVENTS_A_PING * len(rigs) + 0.5
            assert (world.restarts, world.letters) == ([], [])
            status = await here.status()
            assert {row.condition for row in status.watched} == {"well"}
            assert len(status.watched) == 1 + 3 * len(rigs)
            await here.deacon.terminate()
