"""A day of patrol: pings, budgets and open escalations are kept from run to run, and histories stay small."""

from __future__ import annotations

import time
from datetime import timedelta

from temporalio.testing import WorkflowEnvironment

from models.job.health import HealthKind
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import start_job
from tests.workflows.supervision.witness_world import Post, Watchtower, died, posted, seen_as, started
from workflows.shared.continue_as_new import EVENTS_PER_RUN
from workflows.supervision.witness import WitnessWorkflow
from workflows.supervision.witness_state import WitnessState

EVERY_S = 360
"""Six times the default: a sixth of the cycles still gives the hand-overs that are asked for."""
HOURS = 24
CYCLES = HOURS * 3600 // EVERY_S
LIMIT_S = 60
"""what they may cost: of this process's time, since that of the clock is shared with other tests"""
EVENTS_A_CYCLE = 14
"""with a watch that returns at once, so that each cycle rests on a timer as well: without that they are 9"""
EVENTS_WITHOUT_WORK = 6


async def history_length(town: Post) -> int:
    return (await town.witness.describe()).history_length


async def test_a_day_of_patrol_over_three_hand_overs_keep_pings_budgets_and_open_escalations(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    tower = Watchtower(policy_error="no module named shop")
    tower.health["h1"] = {"sh-1": seen_as(attempt=2), "sh-2": seen_as(HealthKind.STUCK)}
    begun = time.process_time()
    async with posted(env, workers, tower, interval=EVERY_S) as town:
        town.deacon.there = True
        await start_job(env, "sh-1")
        await town.start(started("sh-1"))
        tower.seen["h1"] = [died("sh-1")]
        await town.start(started("sh-2"))
        await town.raised("escalation")
        tower.seen["h1"] = []
        await town.start(started("sh-1", attempt=2))
        runs = set()
        for _ in range(HOURS):
            await town.wait(timedelta(hours=1))
            runs.add((await town.witness.describe()).run_id)
            assert await history_length(town) < EVENTS_PER_RUN + 5 * EVENTS_A_CYCLE
        numbers = [ping.number for ping in town.deacon.pings]
        assert len(runs) >= 4
        assert numbers == list(range(1, len(numbers) + 1)), "each ping once, and none forgotten"
        assert 0.9 * CYCLES <= len(numbers) <= CYCLES + 2 * len(runs)
        assert 0.9 * CYCLES <= tower.rounds["h1"] <= CYCLES + 2 * len(runs) + 5
        assert [letter.kind for letter in town.desk.letters] == ["escalation"], "raised once, and still open"
        assert town.desk.cleared == []
        state = await town.witness.query(WitnessWorkflow.state)
        agent = WitnessState.model_validate(state).memory.agents["sh-1"]
        assert (agent.attempt, agent.died, agent.restarted) == (2, 1, True), "what the brake is judged by is kept"
        assert (await town.status()).health == {"sh-1": "healthy", "sh-2": "stuck"}
    assert time.process_time() - begun < LIMIT_S


async def test_a_quiet_cycle_costs_as_few_events_with_fifty_polecats_as_with_one_and_fewer_without_work(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    async with posted(env, workers) as town:
        town.deacon.there = True
        costs = []
        for polecats in (0, 1, 50):
            town.tower.health["h1"] = {f"sh-{number}": seen_as() for number in range(polecats)}
            for number in range(polecats):
                await town.start(started(f"sh-{number}"))
            await town.wait(timedelta(minutes=5))
            before, reads, pings = await history_length(town), town.record.reads, len(town.deacon.pings)
            await town.wait(timedelta(minutes=15))
            cycles = len(town.deacon.pings) - pings
            assert 8 <= cycles <= 16
            costs.append((await history_length(town) - before) / cycles)
            assert town.deacon.pings[-1].has_work == bool(polecats)
            assert (town.record.reads > reads) == bool(polecats), "nobody needs settings without work"
        assert costs[0] <= EVENTS_WITHOUT_WORK + 0.2
        assert max(costs[1:]) <= EVENTS_A_CYCLE + 0.5
        assert abs(costs[1] - costs[2]) <= 0.5, costs
