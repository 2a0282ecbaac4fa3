"""Random changes, workers that die at every durable step, a target that moves: held against a small reference."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import VerdictKind
from models.refinery.answers import QueueFacts, QueueFactsRequest
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import BuildChain, Chain, LandChain, LandResult, QueueItemState, QueueStatus, Withdraw
from models.settings import MergeQueueSettings, Settings
from tests.pace import DEADLINE_S
from tests.workflows.conftest import workers_of
from tests.workflows.refinery.merge_reference import KilledWorld, Story, check
from tests.workflows.refinery.merge_world import HOST, beads, change, rig
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.state import RefineryState
from workflows.refinery.workflow import RefineryWorkflow

AT_ONCE = 6
SHARES = 2
"""tests that share the points at which a worker is killed"""
LOOK_S = 0.3

RICH = Story(
    changes=tuple(beads(6)),
    bad=frozenset({"sh-2"}),
    bad_together=frozenset({"sh-1", "sh-5"}),
    conflicts=(("sh-6", "sh-3"),),
    needs=(("sh-3", "sh-4"),),
    flaky=True,
    moves=(2,),
)
"""one of everything"""


class Told(NamedTuple):
    """A story that a Refinery of its own lives through."""

    world: KilledWorld
    settings: Settings


class Model:
    """One worker for the Refineries of all stories; each has a rig of its own, so that they run side by side."""

    def __init__(self, env: WorkflowEnvironment) -> None:
        self._env = env
        self._told: dict[str, Told] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[Model]:
        activities = [self.build_chain, self.run_gates, self.land_chain, self.queue_facts]
        async with workers_of(self._env)(workflows=[RefineryWorkflow, MergeWorkflow], activities=activities):
            yield self

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        return await self._told[request.rig.name].world.build_chain(request)

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        return await self._told[request.rig].world.run_gates(request)

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        return await self._told[request.rig.name].world.land_chain(request)

    @activity.defn
    async def queue_facts(self, asked: QueueFactsRequest) -> QueueFacts:
        told = self._told[asked.rig]
        needs = {late: (early,) for late, early in told.world.story.needs if late in asked.beads}
        own = rig().model_copy(update={"name": asked.rig})
        return QueueFacts(rig=own, settings=told.settings, hosts=(HOST,), open_dependencies=needs)

    async def run(self, story: Story, kill_at: frozenset[int], runners: int = 1) -> KilledWorld:
        """Let a Refinery decide all that it can, and check what came of it."""
        async with self._at_once:
            name = f"shop{len(self._told)}"
            queue = MergeQueueSettings(retry_delay=0, confirm_runs="2", max_concurrent=runners)
            world = KilledWorld(story=story, kill_at=kill_at)
            self._told[name] = Told(world, Settings(merge_queue=queue))
            await self._live_through(name, world, f"{story}, killed at {sorted(kill_at)}")
            return world

    async def _live_through(self, name: str, world: KilledWorld, what: str) -> None:
        refinery = await self._env.client.start_workflow(
            RefineryWorkflow.run,
            RefineryState(rig=name, stopped=True),
            id=names.refinery_id(name),
            task_queue=names.TOWN_QUEUE,
        )
        try:
            for bead in world.story.changes:
                await refinery.signal(RefineryWorkflow.submit, change(bead).model_copy(update={"rig": name}))
            await refinery.execute_update(RefineryWorkflow.start)
            for bead in world.story.withdrawn:
                await asyncio.sleep(LOOK_S)
                order = Withdraw(merge_request=names.merge_request_id(bead, 1), bead=bead, attempt=1)
                await refinery.signal(RefineryWorkflow.withdraw, order)
            deadline = time.monotonic() + DEADLINE_S
            while not self._settled(status := await refinery.query(RefineryWorkflow.queue), world):
                assert time.monotonic() < deadline, f"not done after {DEADLINE_S} s: {what}"
                await asyncio.sleep(LOOK_S)
            history = await refinery.query(RefineryWorkflow.history)
        finally:
            await refinery.terminate()
        verdicts: dict[str, list[VerdictKind]] = {}
        for item in history.items:
            verdicts.setdefault(item.bead, []).append(item.outcome)
        check(world.story, world.pushed, world.landed, verdicts, [item.bead for item in status.items])

    def _settled(self, status: QueueStatus, world: KilledWorld) -> bool:
        """Nothing is being merged, and what waits needs what will not come any more."""
        waiting = {item.bead for item in status.items}
        needs = dict(world.story.needs)
        return all(
            item.state is QueueItemState.WAITING
            and item.bead in needs
            and needs[item.bead] not in (*waiting, *world.landed)
            for item in status.items
        )


@pytest.mark.parametrize("share", range(SHARES))
async def test_a_worker_killed_at_any_durable_step_of_a_merge_breaks_no_promise(
    real_env: WorkflowEnvironment, share: int, record_property: Callable[[str, object], None]
) -> None:
    async with Model(real_env).working() as model:
        steps = len((await model.run(RICH, frozenset())).steps)
        assert steps > 20, "the story reaches the search, several landings and a rebuild"
        points = range(1, steps + 1)[share::SHARES]
        async with asyncio.TaskGroup() as together:
            runs = [together.create_task(model.run(RICH, frozenset({point}))) for point in points]
        passed = len([run for run in runs if run.result()])
    record_property("crash_points", (len(points), passed))
    assert passed == len(points)


async def test_random_changes_and_random_kills_break_no_promise(real_env: WorkflowEnvironment) -> None:
    async with Model(real_env).working() as model, asyncio.TaskGroup() as together:
        for seed in range(8):
            together.create_task(random_run(model, random.Random(seed)))


async def random_run(model: Model, source: random.Random) -> None:
    story = Story.random(source)
    kills = frozenset(source.sample(range(1, 60), source.randint(0, 6)))
    await model.run(story, kills, runners=source.choice([1, 1, 2, 3]))


def test_the_reference_finds_a_promise_that_is_broken() -> None:
    story = Story(changes=("sh-1", "sh-2"), bad=frozenset({"sh-2"}), needs=(("sh-2", "sh-1"),))
    good = {"sh-1": [VerdictKind.MERGED], "sh-2": [VerdictKind.FAILED]}
    check(story, [("sh-1",)], ["sh-1"], good, ())
    broken: list[tuple[list[tuple[str, ...]], list[str], dict[str, list[VerdictKind]], tuple[str, ...]]] = [
        ([("sh-1", "sh-2")], ["sh-1", "sh-2"], good, ()),
        ([("sh-1",)], ["sh-1", "sh-1"], good, ()),
        ([("sh-1",)], ["sh-1"], {"sh-1": [VerdictKind.MERGED]}, ()),
        ([("sh-1",)], ["sh-1"], {**good, "sh-1": [VerdictKind.MERGED, VerdictKind.FAILED]}, ()),
        ([], [], {"sh-1": [VerdictKind.FAILED], "sh-2": [VerdictKind.FAILED]}, ()),
        ([("sh-1",)], ["sh-1"], {**good, "sh-1": [VerdictKind.RETURNED]}, ()),
        ([("sh-1",)], ["sh-1"], {"sh-1": [VerdictKind.MERGED]}, ("sh-2",)),
    ]
    for pushed, landed, verdicts, waiting in broken:
        with pytest.raises(AssertionError):
            check(story, pushed, landed, verdicts, waiting)
