"""Two days of patrol: pings, budgets and open escalations are kept from run to run, and histories stay small."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from temporalio.testing import WorkflowEnvironment

from models import names
from models.health import HealthKind
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, start_job
from tests.workflows.witness_world import DeaconDouble, Post, Watchtower, died, posted, seen_as, started
from workflows.witness import WitnessWorkflow
from workflows.witness_state import WitnessState

INTERVAL_S = 180
CYCLES = 48 * 3600 // INTERVAL_S
EVENTS_A_CYCLE = 32
"""with a watch that returns at once, so that each cycle rests on a timer as well"""


def busy() -> float:
    """How many times slower this machine is than an idle one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def history_length(town: Post) -> int:
    return (await town.witness.describe()).history_length


async def test_two_days_of_patrol_over_three_hand_overs_take_less_than_a_minute(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    tower = Watchtower(policy_error="no module named shop")
    tower.health["h1"] = {"sh-1": seen_as(attempt=2), "sh-2": seen_as(HealthKind.STUCK)}
    async with posted(env, workers, tower, interval=INTERVAL_S, patience=300) as town:
        begun = time.monotonic()
        deacon = await env.client.start_workflow(DeaconDouble.run, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE)
        await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        tower.seen["h1"] = [died("sh-1")]
        await town.start(started("sh-2"))
        await town.raised("escalation")
        tower.seen["h1"] = []
        await town.start(started("sh-1", attempt=2))
        runs = set()
        for _ in range(48):
            await town.wait(timedelta(hours=1))
            runs.add((await town.witness.describe()).run_id)
            assert await history_length(town) < 10_000
        took = time.monotonic() - begun
        numbers = [ping.number for ping in await deacon.query(DeaconDouble.pings)]
        assert len(runs) >= 4
        assert numbers == list(range(1, len(numbers) + 1)), "each ping once, and none forgotten"
        assert CYCLES <= len(numbers) <= CYCLES + 2 * len(runs)
        assert CYCLES <= tower.rounds["h1"] <= CYCLES + 2 * len(runs) + 5
        assert [letter.kind for letter in town.desk.letters] == ["escalation"], "raised once, and still open"
        assert town.desk.cleared == []
        state = await town.witness.query(WitnessWorkflow.state)
        agent = WitnessState.model_validate(state).memory.agents["sh-1"]
        assert (agent.attempt, agent.died, agent.restarted) == (2, 1, True), "what the brake is judged by is kept"
        assert (await town.status()).health == {"sh-1": "healthy", "sh-2": "stuck"}
        assert took < 60 * busy(), f"{took:.0f} s on a machine that is {busy():.1f} times slower than idle"


async def test_a_cycle_costs_as_much_history_with_forty_healthy_polecats_as_with_one(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    async with posted(env, workers) as town:
        await env.client.start_workflow(DeaconDouble.run, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE)
        costs = []
        for polecats in (1, 40):
            town.tower.health["h1"] = {f"sh-{number}": seen_as() for number in range(polecats)}
            for number in range(polecats):
                await town.start(started(f"sh-{number}"))
            await town.wait(timedelta(minutes=5))
            before = await history_length(town)
            await town.wait(timedelta(minutes=60))
            costs.append((await history_length(town) - before) / 60)
        assert max(costs) <= EVENTS_A_CYCLE
        assert abs(costs[0] - costs[1]) <= 2, costs


async def test_a_witness_without_work_costs_only_its_ping(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    async with posted(env, workers) as town:
        deacon = await env.client.start_workflow(DeaconDouble.run, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE)
        await town.wait(timedelta(minutes=5))
        before, reads = await history_length(town), town.record.reads
        await town.wait(timedelta(minutes=60))
        assert (await history_length(town) - before) / 60 <= 15
        assert town.record.reads == reads

        async def pinged() -> bool:
            return len(await deacon.query(DeaconDouble.pings)) >= 65

        await eventually(pinged)
        assert not (await deacon.query(DeaconDouble.pings))[-1].has_work
