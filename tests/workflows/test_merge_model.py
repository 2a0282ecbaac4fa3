"""Random changes, workers that die at every durable step, a target that moves: held against a small reference."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.gating import GateReport, RunGates
from models.jobs import VerdictKind
from models.merging import BuildChain, Chain, LandChain, LandResult, QueueItemState, QueueStatus
from models.queue import QueueFacts, QueueFactsRequest
from models.settings import MergeQueueSettings, Settings
from tests.workflows.conftest import workers_of
from tests.workflows.merge_reference import KilledWorld, Story, check
from tests.workflows.merge_world import HOST, beads, change, rig
from workflows.merge import MergeWorkflow
from workflows.refinery import RefineryWorkflow
from workflows.refinery_state import RefineryState

pytestmark = pytest.mark.timeout(300)

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


class Model:
    """One worker, and a Refinery of its own for each story."""

    def __init__(self, env: WorkflowEnvironment) -> None:
        self._env = env
        self._world = KilledWorld()
        self._needs: dict[str, tuple[str, ...]] = {}
        self._settings = Settings()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[Model]:
        activities = [self.build_chain, self.run_gates, self.land_chain, self.queue_facts]
        async with workers_of(self._env)(workflows=[RefineryWorkflow, MergeWorkflow], activities=activities):
            yield self

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        return await self._world.build_chain(request)

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        return await self._world.run_gates(request)

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        return await self._world.land_chain(request)

    @activity.defn
    async def queue_facts(self, asked: QueueFactsRequest) -> QueueFacts:
        needs = {bead: self._needs.get(bead, ()) for bead in asked.beads}
        return QueueFacts(rig=rig(), settings=self._settings, hosts=(HOST,), open_dependencies=needs)

    async def run(self, story: Story, kill_at: frozenset[int], runners: int = 1) -> KilledWorld:
        """Let a Refinery decide all that it can, and check what came of it."""
        world = self._world = KilledWorld(story=story, kill_at=kill_at)
        self._needs = {late: (early,) for late, early in story.needs}
        queue = MergeQueueSettings(retry_delay=0, confirm_runs="2", max_concurrent=runners)
        self._settings = Settings(merge_queue=queue)
        refinery = await self._env.client.start_workflow(
            RefineryWorkflow.run,
            RefineryState(rig="shop", stopped=True),
            id=names.refinery_id("shop"),
            task_queue=names.TOWN_QUEUE,
        )
        try:
            for bead in story.changes:
                await refinery.signal(RefineryWorkflow.submit, change(bead))
            await refinery.execute_update(RefineryWorkflow.start)
            what = f"{story}, killed at {sorted(kill_at)}"
            deadline = time.monotonic() + 60
            while not self._settled(status := await refinery.query(RefineryWorkflow.queue), story):
                assert time.monotonic() < deadline, f"not done after a minute: {what}"
                await asyncio.sleep(0.1)
            history = await refinery.query(RefineryWorkflow.history)
        finally:
            await refinery.terminate()
        verdicts: dict[str, list[VerdictKind]] = {}
        for item in history.items:
            verdicts.setdefault(item.bead, []).append(item.outcome)
        check(story, world.pushed, world.landed, verdicts, [item.bead for item in status.items])
        return world

    def _settled(self, status: QueueStatus, story: Story) -> bool:
        """Nothing is being merged, and what waits needs what will not come any more."""
        waiting = {item.bead for item in status.items}
        needs = dict(story.needs)
        return all(
            item.state is QueueItemState.WAITING
            and item.bead in needs
            and needs[item.bead] not in (*waiting, *self._world.landed)
            for item in status.items
        )


async def test_a_worker_killed_at_any_durable_step_of_a_merge_breaks_no_promise(
    real_env: WorkflowEnvironment, record_property: Callable[[str, object], None]
) -> None:
    async with Model(real_env).working() as model:
        points = len((await model.run(RICH, frozenset())).steps)
        assert points > 20, "the story reaches the search, several landings and a rebuild"
        passed = 0
        for point in range(1, points + 1):
            await model.run(RICH, frozenset({point}))
            passed += 1
    record_property("crash_points", (points, passed))
    assert passed == points


async def test_random_changes_and_random_kills_break_no_promise(real_env: WorkflowEnvironment) -> None:
    async with Model(real_env).working() as model:
        for seed in range(8):
            source = random.Random(seed)
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
        ([("sh-1",)], ["sh-1"], {"sh-1": [VerdictKind.MERGED]}, ("sh-2",)),
    ]
    for pushed, landed, verdicts, waiting in broken:
        with pytest.raises(AssertionError):
            check(story, pushed, landed, verdicts, waiting)
