"""RefineryWorkflow: the queue around the merges."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode
from models.job.messages import VerdictKind
from models.refinery.messages import QueueCleared, QueueItemRef, QueueItemState, Withdraw
from tests.workflows.probes import eventually, start_job
from tests.workflows.refinery.merge_world import START, MergeWorld, beads, change, red_with
from tests.workflows.refinery.refinery_yard import Open, Refinery, refused, verdicts
from workflows.refinery.workflow import RefineryWorkflow

pytestmark = pytest.mark.own_clocks

# --- the main path ------------------------------------------------------------------------------


async def test_a_submitted_change_is_merged_at_once_and_its_job_is_told(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-1")
        begun = await env.get_current_time()
        await town.submit(change("sh-1"))
        assert await verdicts(job) == [("sh-1.1", VerdictKind.MERGED)]
        assert await env.get_current_time() - begun < timedelta(minutes=5), "no cycle had to end first"
        assert await town.waiting() == []


async def test_a_refinery_starts_from_the_bare_name_of_its_rig(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        await env.client.start_workflow(
            names.WorkflowType.REFINERY.value,
            {"rig": "depot"},
            id=names.refinery_id("depot"),
            task_queue=names.TOWN_QUEUE,
        )
        depot = env.client.get_workflow_handle(names.refinery_id("depot"))
        assert (await depot.query(RefineryWorkflow.queue)).rig == "depot"
        assert (await town.queue()).rig == "shop"


async def test_every_change_of_a_queue_with_culprits_and_conflicts_is_decided_once(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(gates=red_with("sh-3", "sh-11"), conflicts={"sh-7": "sh-2"})
    async with yard(world) as town:
        jobs = {bead: await start_job(env, bead) for bead in beads(20)}
        await town.pause()
        await town.submit(*map(change, beads(20)))
        await town.resume()
        await town.settled()
        heard = {bead: await verdicts(job) for bead, job in jobs.items()}
        assert all(len(told) == 1 for told in heard.values())
        back = {bead: told[0][1] for bead, told in heard.items() if told[0][1] is not VerdictKind.MERGED}
        assert back == {
            "sh-3": VerdictKind.FAILED,
            "sh-11": VerdictKind.FAILED,
            "sh-7": VerdictKind.CONFLICT,
        }
        assert sorted(world.landed) == sorted(set(beads(20)) - set(back)), "each landed exactly once"
        assert len(set(world.gated)) == len(world.gated), "no commit is gated twice"


async def test_a_rig_without_gates_lands_ungated_and_says_so(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard(gated=False) as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))
        await verdicts(job)
        assert (await town.queue()).ungated
        assert town.world.gated == []


async def test_a_job_that_is_gone_does_not_stop_the_queue(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-2")
        await town.submit(change("sh-1"), change("sh-2"))
        assert await verdicts(job) == [("sh-2.1", VerdictKind.MERGED)]
        assert set(town.world.landed) == {"sh-1", "sh-2"}


# --- the queue ----------------------------------------------------------------------------------


async def test_a_change_submitted_twice_is_queued_once(yard: Open) -> None:
    async with yard() as town:
        await town.pause()
        await town.submit(change("sh-1"), change("sh-1"))
        assert await town.waiting() == ["sh-1"]


async def test_a_decided_change_submitted_again_hears_its_verdict_again(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))
        await verdicts(job)
        await town.submit(change("sh-1"))
        assert await verdicts(job, 2) == [("sh-1.1", VerdictKind.MERGED)] * 2
        assert town.world.landings == [("sh-1",)]


async def test_a_newer_request_of_a_bead_replaces_the_older_one(yard: Open) -> None:
    async with yard() as town:
        await town.pause()
        await town.submit(change("sh-1"), change("sh-1", attempt=2), change("sh-1"))
        assert [item.id for item in (await town.queue()).items] == ["sh-1.2"]


async def test_a_withdrawn_change_is_not_merged(yard: Open) -> None:
    async with yard() as town:
        await town.pause()
        await town.submit(change("sh-1"), change("sh-2"))
        await town.refinery.signal(RefineryWorkflow.withdraw, Withdraw(merge_request="sh-1.1"))
        await town.resume()
        await town.settled()
        assert town.world.landed == ("sh-2",)


async def test_the_queue_is_listed_and_merged_by_priority_and_age(yard: Open) -> None:
    async with yard(max_batch=1) as town:
        await town.pause()
        await town.submit(
            change("sh-3"),
            change("sh-1", priority=0),
            change("sh-2", at=START - timedelta(hours=2)),
        )
        assert await town.waiting() == ["sh-1", "sh-2", "sh-3"]
        assert [item.position for item in (await town.queue()).items] == [1, 2, 3]
        await town.resume()
        await town.settled()
        assert town.world.landed == ("sh-1", "sh-2", "sh-3")


async def test_a_paused_queue_merges_nothing_until_it_is_resumed(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        await town.pause()
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(hours=3))
        status = await town.queue()
        assert (status.paused, status.pause_reason) == (True, "look at it")
        assert town.world.builds == 0
        await town.resume()
        await town.settled()
        assert town.world.landed == ("sh-1",)


async def test_a_skipped_item_is_held_and_listed_until_it_is_processed(yard: Open) -> None:
    async with yard() as town:
        await town.pause()
        await town.submit(change("sh-1"), change("sh-2"))
        held = await town.skip("sh-1.1")
        assert held.state is QueueItemState.HELD
        await town.resume()

        async def only_the_held_one() -> bool:
            return await town.waiting() == ["sh-1"]

        await eventually(only_the_held_one)
        assert town.world.landings == [("sh-2",)]
        await town.refinery.execute_update(RefineryWorkflow.process, QueueItemRef(id="sh-1.1"))
        await town.settled()
        assert town.world.landings == [("sh-2",), ("sh-1",)]


async def test_a_processed_item_goes_before_all_others(yard: Open) -> None:
    async with yard(max_batch=1) as town:
        await town.pause()
        await town.submit(change("sh-1", priority=0), change("sh-2", priority=4))
        first = await town.refinery.execute_update(RefineryWorkflow.process, QueueItemRef(id="sh-2.1"))
        assert first.position == 1
        await town.resume()
        await town.settled()
        assert town.world.landed == ("sh-2", "sh-1")


async def test_an_unknown_item_is_refused_as_not_found(yard: Open) -> None:
    async with yard() as town:
        for update in (RefineryWorkflow.process, RefineryWorkflow.skip):
            error = await refused(town.refinery.execute_update(update, QueueItemRef(id="sh-9.1")))
            assert error.type == ErrorCode.NOT_FOUND.value


async def test_a_cleared_queue_returns_each_change_which_may_come_again(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-1")
        await town.pause()
        await town.submit(change("sh-1"), change("sh-2"))
        cleared: QueueCleared = await town.refinery.execute_update("clear", result_type=QueueCleared)
        assert set(cleared.returned) == {"sh-1.1", "sh-2.1"}
        assert await verdicts(job) == [("sh-1.1", VerdictKind.RETURNED)]
        await town.submit(change("sh-1"))
        assert await verdicts(job, 2) == [("sh-1.1", VerdictKind.RETURNED)] * 2, "a late repeat hears the same"
        await town.submit(change("sh-1", at=START + timedelta(hours=1)))
        assert await town.waiting() == ["sh-1"], "submitted anew it is queued"


# --- long life ----------------------------------------------------------------------------------


async def test_the_queue_its_verdicts_and_its_pause_survive_two_continue_as_new(
    env: WorkflowEnvironment, yard: Open
) -> None:
    async with yard(patience=8) as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))
        await verdicts(job)
        await town.pause()
        runs = {await run_id(town.refinery)}
        await town.submit(change("sh-2"), change("sh-3"))
        await town.skip("sh-3.1")
        while len(runs) < 4:
            before = await run_id(town.refinery)
            await town.submit(*[change("sh-2")] * 8)

            async def handed_over(before: str = before) -> bool:
                return await run_id(town.refinery) != before

            await eventually(handed_over)
            runs.add(await run_id(town.refinery))
        status = await town.queue()
        assert status.paused
        assert status.pause_reason == "look at it"
        assert [(item.bead, item.state) for item in status.items] == [
            ("sh-2", QueueItemState.WAITING),
            ("sh-3", QueueItemState.HELD),
        ]
        await town.submit(change("sh-1"))
        assert await verdicts(job, 2) == [("sh-1.1", VerdictKind.MERGED)] * 2
        await town.resume()

        async def landed() -> bool:
            return town.world.landed == ("sh-1", "sh-2")

        await eventually(landed)
        assert town.world.landings == [("sh-1",), ("sh-2",)]


async def run_id(refinery: Refinery) -> str:
    return (await refinery.describe()).run_id


async def test_many_changes_pass_in_order_over_many_runs(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard(patience=50) as town:
        await town.pause()
        await town.submit(*map(change, beads(150)))
        await town.resume()
        await town.settled()
        assert sorted(town.world.landed) == sorted(beads(150))
        assert len(town.world.gated) <= 150 / 14 + 2
