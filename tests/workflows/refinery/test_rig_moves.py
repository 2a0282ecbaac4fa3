"""A rig whose URL or branch changes while its jobs run: each goes on where the rig is now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import RigChanged
from models.ledger.records import JobState, MergeRequest
from models.refinery.messages import Renamed
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.job.job_world import JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from tests.workflows.refinery.merge_world import MergeWorld, change
from tests.workflows.refinery.refinery_yard import Open as OpenYard
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow
from workflows.refinery.workflow import RefineryWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(
            workflows=[DispatchWorkflow, PolecatWorkflow, PostBox],
            activities=world.activities,
        ):
            yield await Town.open(env, world)

    return start


async def moves(shop: Town, **changes: object) -> None:
    """`gt rig set`: the record changes, and the dispatcher is woken."""
    shop.world.rig = shop.world.rig.model_copy(update=changes)
    await shop.dispatch.signal(DispatchWorkflow.wake)


async def followed(shop: Town, bead: str) -> None:
    async def told() -> bool:
        return "rig_changed" in shop.world.events(bead)

    await eventually(told, what=f"{bead} to know where the rig is")


def handed_in(shop: Town, bead: str) -> list[MergeRequest]:
    """What the record has of it, oldest first."""
    writes = [write for write in shop.world.writes if write.bead == bead]
    return [write.merge_request for write in writes if write.merge_request is not None]


async def recorded(shop: Town, targets: list[tuple[str, bool]]) -> None:
    """Wait until the record has been told of the change for these targets, and whether the bead names them itself."""

    async def so() -> bool:
        return [(each.target, each.pinned) for each in handed_in(shop, "sh-1")] == targets

    await eventually(so, what=f"the change handed in for {targets}")


async def test_work_that_is_done_after_the_rig_moved_is_taken_and_handed_in_there(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await moves(shop, url="/srv/moved.git", branch="trunk")
        await followed(shop, "sh-1")
        await shop.submit_work("sh-1")
        assert (shop.world.taken[-1].rig.url, shop.world.taken[-1].rig.branch) == ("/srv/moved.git", "trunk")
        await shop.merge("sh-1")
        request = handed_in(shop, "sh-1")[0]
        assert (request.target, request.pinned) == ("trunk", False)
        assert [(base.target, base.sha) for base in request.bases] == [("main", "b" * 40)]


async def test_what_waits_to_be_merged_is_handed_in_for_the_new_branch(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await moves(shop, branch="trunk")
        await followed(shop, "sh-1")
        await recorded(shop, [("main", False), ("trunk", False)])
        box = shop.env.client.get_workflow_handle(names.refinery_id("shop"))

        async def told() -> bool:
            signals = await box.query(PostBox.signals)
            return signals.count("submit") == 2 and "rig_changed" in signals

        await eventually(told, what="the Refinery to hear of the rig and of the change")
        await shop.merge("sh-1")


async def test_a_bead_with_a_target_of_its_own_keeps_it(town: Open) -> None:
    async with town(JobWorld(target="release")) as shop:
        await shop.sling("sh-1")
        await shop.submit_work("sh-1")
        await moves(shop, branch="trunk")
        await followed(shop, "sh-1")
        await recorded(shop, [("release", True)] * 2)
        await shop.merge("sh-1")


async def test_a_start_that_waits_for_a_remote_that_is_gone_begins_again_at_the_new_one(town: Open) -> None:
    async with town(JobWorld(gone_url="/srv/shop.git")) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.STARTING, 1)
        await moves(shop, url="/srv/moved.git")
        await shop.reach("sh-1", JobState.WORKING, 1)
        assert shop.world.started[-1].rig.url == "/srv/moved.git"
        await shop.submit_work("sh-1")
        await shop.merge("sh-1")


async def test_a_job_that_was_blocked_because_the_branch_is_gone_goes_on_once_the_rig_has_another(town: Open) -> None:
    async with town(JobWorld(no_branch="main")) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.BLOCKED)
        await shop.escalated("polecat_exhausted")
        assert "gt rig set shop --branch B" in shop.world.letters[0].message
        await moves(shop, branch="trunk")
        await shop.submit_work("sh-1", attempt=2)
        await shop.over(shop.world.letters[0].id)
        await shop.merge("sh-1")


async def test_a_job_that_knows_is_told_nothing(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await moves(shop, max_polecats=3)
        await shop.submit_work("sh-1")
        await shop.merge("sh-1")
        assert "rig_changed" not in shop.world.events("sh-1")


class TestTheQueue:
    async def test_a_running_merge_is_ended_and_its_changes_land_where_the_rig_is_now(self, yard: OpenYard) -> None:
        opens = asyncio.Event()
        world = MergeWorld(others={"trunk": "t"}, holds={"base": (), "t": ()}, gates_wait=opens)
        async with yard(world, max_batch=1) as town:
            await town.submit(change("sh-1"), change("sh-2").model_copy(update={"pinned": True}))

            async def gated() -> bool:
                return bool(world.gated)

            await eventually(gated, what="the merge to be under way")
            town.record.rig = town.record.rig.model_copy(update={"branch": "trunk"})
            await town.refinery.signal(RefineryWorkflow.rig_changed, RigChanged(rig=town.record.rig))

            async def begun_anew() -> bool:
                return len(world.gated) == 2

            await eventually(begun_anew, what="the merge to be ended and begun anew")
            opens.set()
            await town.settled()
            assert world.holds[world.others["trunk"]] == ("sh-1",)
            assert world.landings == [("sh-2",)], "it names its target itself"

    async def test_a_branch_that_was_renamed_is_followed_and_told(self, yard: OpenYard) -> None:
        world = MergeWorld(others={"trunk": "t"}, holds={"base": (), "t": ()}, missing={"main"})
        world.renamed = Renamed(branch="trunk", words="renamed to trunk")
        async with yard(world) as town:
            await town.submit(change("sh-1"))
            await town.settled()
            assert world.holds[world.others["trunk"]] == ("sh-1",)
            assert [(letter.kind, letter.severity) for letter in town.post.letters] == [("target_renamed", "low")]
            assert (await town.queue()).target == town.record.rig.branch == "trunk"

    async def test_one_that_is_only_gone_waits_and_says_what_a_person_can_do(self, yard: OpenYard) -> None:
        world = MergeWorld(others={"trunk": "t"}, holds={"base": (), "t": ()}, missing={"main"})
        world.renamed = Renamed(words="its HEAD names dev, which is not taken for it")
        async with yard(world) as town:
            await town.submit(change("sh-1"))

            async def waits() -> bool:
                [item] = (await town.queue()).items
                return "its HEAD names dev" in item.reason and "gt rig set shop --branch B" in item.reason

            await eventually(waits)
            town.record.rig = town.record.rig.model_copy(update={"branch": "trunk"})
            await town.refinery.signal(RefineryWorkflow.settings_changed)
            await town.settled()
            assert world.holds[world.others["trunk"]] == ("sh-1",)
