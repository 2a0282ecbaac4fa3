"""Orders free the queue whatever is under way, and no landing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from cli.refinery.refinery import look_at_queue
from models import names
from models.errors import ErrorCode, GtError
from models.job.messages import VerdictKind
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import BuildChain, Chain, LandChain, LandResult, QueueItemState
from tests.pace import DEADLINE_S
from tests.workflows.conftest import workers_of
from tests.workflows.probes import JobProbe, eventually, start_job
from tests.workflows.refinery.merge_world import HOST, PASSED, MergeWorld, batch, beads, change
from tests.workflows.refinery.refinery_yard import Open, Yard, refused, verdicts, yard_in
from workflows.refinery import merge
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.workflow import RefineryWorkflow
from workflows.shared.sandbox import workflow_runner

pytestmark = pytest.mark.own_clocks


def failing(code: ErrorCode) -> ApplicationError:
    error = GtError(code, f"it is {code.value}")
    return ApplicationError(error.message, type=code.value, non_retryable=not error.retryable)


@dataclass
class HeldWorld(MergeWorld):
    """Something about these beads never comes about."""

    hangs_with: frozenset[str] = frozenset()
    """gates run for ever"""
    full_with: frozenset[str] = frozenset()
    """checking out finds the disk full, again and again"""
    unbuilt_with: frozenset[str] = frozenset()
    """no chain can be built, for want of the remote"""
    landing: asyncio.Event = field(default_factory=asyncio.Event)
    let_land: asyncio.Event = field(default_factory=asyncio.Event)
    lands_slowly: bool = False
    began: int = 0

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        if self.unbuilt_with & {each.bead for each in request.changes}:
            self.began += 1
            raise failing(ErrorCode.REMOTE_UNREACHABLE)
        return await super().build_chain(request)

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        held = set(self.holds[request.sha])
        self.began += 1
        if self.full_with & held:
            raise failing(ErrorCode.DISK_FULL)
        while self.hangs_with & held:
            activity.heartbeat()
            await asyncio.sleep(0.1)
        return PASSED

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        result = await super().land_chain(request)
        if self.lands_slowly:
            self.landing.set()
            while not self.let_land.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.05)
        return result


ONE = frozenset({"sh-1"})
HELD_UP = pytest.mark.parametrize(
    "held_up",
    [
        pytest.param(lambda: HeldWorld(hangs_with=ONE), id="a gate that hangs"),
        pytest.param(lambda: HeldWorld(full_with=ONE), id="a checkout that never succeeds"),
        pytest.param(lambda: HeldWorld(unbuilt_with=ONE), id="a chain that is never built"),
    ],
)


async def stuck(town: Yard, world: HeldWorld, count: int) -> None:
    """A merge of so many changes has begun and does not come about."""

    async def under_way() -> bool:
        items = (await town.queue()).items
        merging = [item for item in items if item.state is QueueItemState.MERGING]
        return bool(world.began) and len(merging) == count

    await eventually(under_way, what="a merge under way")


@HELD_UP
async def test_a_skipped_change_is_let_go_and_the_others_land(
    real_env: WorkflowEnvironment, held_up: Callable[[], HeldWorld]
) -> None:
    world = held_up()
    async with yard_in(real_env, workers_of(real_env))(world) as town:
        await town.pause()
        await town.submit(*map(change, beads(3)))
        await town.resume()
        await stuck(town, world, 3)
        row = await town.skip("sh-1.1")
        assert row.state is QueueItemState.HELD

        async def landed() -> bool:
            return set(world.landed) == {"sh-2", "sh-3"} and await town.waiting() == ["sh-1"]

        await eventually(landed, what="the others to land")
        assert town.post.letters == [], "an order is no trouble"


@HELD_UP
async def test_a_cleared_queue_is_empty_and_every_job_told(
    real_env: WorkflowEnvironment, held_up: Callable[[], HeldWorld]
) -> None:
    world = held_up()
    async with yard_in(real_env, workers_of(real_env))(world) as town:
        jobs = [await start_job(real_env, bead) for bead in beads(2)]
        await town.pause()
        await town.submit(*map(change, beads(2)))
        await town.resume()
        await stuck(town, world, 2)
        cleared = await town.clear()
        assert sorted(cleared.returned) == ["sh-1.1", "sh-2.1"]
        assert await town.waiting() == []
        for job, bead in zip(jobs, beads(2), strict=True):
            assert await verdicts(job) == [(f"{bead}.1", VerdictKind.RETURNED)]


@HELD_UP
async def test_a_cancelled_job_has_its_change_back_and_the_others_land(
    real_env: WorkflowEnvironment, held_up: Callable[[], HeldWorld]
) -> None:
    world = held_up()
    async with yard_in(real_env, workers_of(real_env))(world) as town:
        job = await start_job(real_env, "sh-1")
        await town.pause()
        await town.submit(*map(change, beads(2)))
        await town.resume()
        await stuck(town, world, 2)
        await town.withdraw("sh-1")
        assert await verdicts(job) == [("sh-1.1", VerdictKind.RETURNED)]
        await town.settled()
        assert world.landed == ("sh-2",)


async def test_changes_whose_gates_wait_for_a_core_are_let_go(real_env: WorkflowEnvironment) -> None:
    async with yard_in(real_env, workers_of(real_env, cores=False))() as town:
        await town.pause()
        await town.submit(*map(change, beads(2)))
        await town.resume()

        async def waiting() -> bool:
            shown = await look_at_queue(real_env.client, "shop")
            return {item.reason for item in shown.items} == {"its gates wait for a core"}

        await eventually(waiting, what="gates that wait for a core")
        assert (await town.skip("sh-1.1")).state is QueueItemState.HELD
        cleared = await town.clear()
        assert sorted(cleared.returned) == ["sh-1.1", "sh-2.1"]
        assert await town.waiting() == []


async def test_what_is_let_go_keeps_its_place_and_its_score(real_env: WorkflowEnvironment) -> None:
    world = HeldWorld(hangs_with=frozenset({"sh-1"}))
    async with yard_in(real_env, workers_of(real_env))(world) as town:
        await town.pause()
        await town.submit(*map(change, beads(3)))
        await town.resume()
        await stuck(town, world, 3)
        await town.pause()
        await town.skip("sh-1.1")
        rows = (await town.queue()).items
        assert [(item.bead, item.state) for item in rows] == [
            ("sh-2", QueueItemState.WAITING),
            ("sh-3", QueueItemState.WAITING),
            ("sh-1", QueueItemState.HELD),
        ]


async def test_a_landing_under_way_is_let_finish_and_not_taken_back(real_env: WorkflowEnvironment) -> None:
    world = HeldWorld(lands_slowly=True)
    async with yard_in(real_env, workers_of(real_env))(world) as town:
        job = await start_job(real_env, "sh-1")
        await town.submit(change("sh-1"))
        await asyncio.wait_for(world.landing.wait(), DEADLINE_S)
        skip = asyncio.create_task(refused(town.skip("sh-1.1")))

        async def ordered() -> bool:
            (entry,) = (await town.refinery.query(RefineryWorkflow.state)).entries
            return entry.held

        await eventually(ordered, what="the order to be taken")
        world.let_land.set()
        assert (await skip).type == ErrorCode.REFUSED.value, "it is merged already"
        assert await verdicts(job) == [("sh-1.1", VerdictKind.MERGED)]
        assert world.landings == [("sh-1",)]


@pytest.fixture
def short_landing_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time: a clock of one's own does not skip while the landing is under way."""
    monkeypatch.setattr(merge, "LANDING_GRACE", timedelta(seconds=1))


@pytest.mark.usefixtures("short_landing_grace")
async def test_a_landing_whose_end_is_never_heard_of_is_looked_up_before_its_change_is_given_back(
    env: WorkflowEnvironment, yard: Open
) -> None:
    class LostAnswers(MergeWorld):
        """Pushes come about, answers do not."""

        pushed = False

        @activity.defn
        async def land_chain(self, request: LandChain) -> LandResult:
            if not self.pushed:
                self.pushed = True
                await super().land_chain(request)
            raise failing(ErrorCode.REMOTE_UNREACHABLE)

    world = LostAnswers()
    async with yard(world) as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))

        async def pushed() -> bool:
            return world.pushed

        await eventually(pushed)
        await town.withdraw("sh-1")
        assert await verdicts(job) == [("sh-1.1", VerdictKind.MERGED)]
        assert world.landings == [("sh-1",)]
        assert (await job.query(JobProbe.heard)).verdicts[0].merged_sha == world.target


@pytest.mark.usefixtures("short_landing_grace")
async def test_a_landing_that_did_not_come_about_is_looked_up_and_the_change_given_back(
    env: WorkflowEnvironment, yard: Open
) -> None:
    class NoLanding(MergeWorld):
        tried = False

        @activity.defn
        async def land_chain(self, request: LandChain) -> LandResult:
            self.tried = True
            raise failing(ErrorCode.REMOTE_UNREACHABLE)

    world = NoLanding()
    async with yard(world) as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))

        async def tried() -> bool:
            return world.tried

        await eventually(tried)
        await town.withdraw("sh-1")
        assert await verdicts(job) == [("sh-1.1", VerdictKind.RETURNED)]
        assert world.landed == ()


@dataclass
class HeldBuild(MergeWorld):
    """Its chain is built when the test says so; no gate ever gets a core."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        self.begun.set()
        await self.go_on.wait()
        return await super().build_chain(request)


async def test_an_order_to_stop_is_heard_that_comes_with_the_end_of_what_is_under_way(
    real_env: WorkflowEnvironment,
) -> None:
    """Both in one workflow task: the SDK then returns the result of what was to be cancelled."""
    world, client = HeldBuild(), real_env.client

    def town() -> Worker:
        return Worker(client, task_queue=names.TOWN_QUEUE, workflows=[MergeWorkflow], workflow_runner=workflow_runner())

    async with Worker(client, task_queue=names.host_queue(HOST), activities=world.activities):
        async with town():
            work = batch(change("sh-1"))
            merge = await client.start_workflow(
                MergeWorkflow.run, work, id=names.merge_id("shop", 1), task_queue=names.TOWN_QUEUE
            )
            await asyncio.wait_for(world.begun.wait(), DEADLINE_S)
        await merge.signal(MergeWorkflow.stop)
        world.go_on.set()

        async def built() -> bool:
            return not (await merge.describe()).raw_description.pending_activities

        await eventually(built, what="the chain to be built")
        async with town():
            assert (await asyncio.wait_for(merge.result(), DEADLINE_S)).stopped
