"""RefineryWorkflow: freezing, draining, stopping, what changes need, and what people ask."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.errors import ErrorCode
from models.job.messages import VerdictKind
from models.refinery.answers import ItemRef, RetryItem
from models.refinery.messages import PauseRequest, QueueItemState, Withdraw
from tests.workflows.probes import eventually, start_job
from tests.workflows.refinery.merge_world import FAILED, KILLED, PASSED, MergeWorld, beads, change, red_with
from tests.workflows.refinery.refinery_yard import Open, refused, verdicts
from workflows.refinery.workflow import RefineryWorkflow

pytestmark = pytest.mark.own_clocks

# --- freezing, draining, stopping -------------------------------------------------------------------


async def test_a_freeze_above_a_priority_lets_more_urgent_changes_through(yard: Open) -> None:
    async with yard() as town:
        await town.refinery.execute_update(RefineryWorkflow.pause, PauseRequest(reason="release", above_priority=1))
        await town.submit(change("sh-1", priority=1), change("sh-2", priority=0))

        async def urgent_landed() -> bool:
            return town.world.landed == ("sh-2",) and await town.waiting() == ["sh-1"]

        await eventually(urgent_landed)
        why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-1"))
        assert why.words == ("The queue is paused: release.",)
        await town.resume()
        await town.settled()


async def test_a_drain_merges_what_waits_and_then_pauses_with_what_came_later_still_queued(yard: Open) -> None:
    async with yard(max_batch=1) as town:
        await town.pause()
        await town.submit(*map(change, beads(3)))
        await town.resume()
        await town.refinery.execute_update(RefineryWorkflow.pause, PauseRequest(reason="upgrade", drain=True))
        await town.submit(change("sh-9", priority=0))

        async def drained() -> bool:
            return (await town.queue()).paused

        await eventually(drained)
        assert sorted(town.world.landed) == beads(3)
        assert await town.waiting() == ["sh-9"]
        assert (await town.queue()).pause_reason == "upgrade"


async def test_a_stopped_refinery_takes_changes_in_and_merges_them_once_it_is_started(
    env: WorkflowEnvironment, yard: Open
) -> None:
    async with yard() as town:
        stopped = await town.refinery.execute_update(RefineryWorkflow.stop)
        assert stopped.state == "stopped"
        await town.submit(change("sh-1"))
        await town.resume()
        await env.sleep(timedelta(hours=1))
        assert await town.waiting() == ["sh-1"], "resume ends a pause, not a stop"
        why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-1.1"))
        assert (why.words[0], why.next_command) == ("The Refinery is stopped.", "gt refinery start --rig shop")
        await town.refinery.execute_update(RefineryWorkflow.start)
        await town.settled()
        assert town.world.landed == ("sh-1",)


# --- the record, and what changes need ---------------------------------------------------------------


async def test_a_change_waits_until_what_it_needs_is_merged(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        town.record.needs = {"sh-1": ("sh-2",)}
        await town.submit(change("sh-1", priority=0))
        await env.sleep(timedelta(minutes=5))
        assert await town.waiting() == ["sh-1"]
        why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-1"))
        assert why.words == ("It needs sh-2, not merged yet.",)
        await town.submit(change("sh-2", priority=4))
        await town.settled()
        assert town.world.landed == ("sh-2", "sh-1")


async def test_nothing_lands_behind_a_culprit_that_it_needs(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=red_with("sh-1"))
    async with yard(world) as town:
        town.record.needs = {"sh-2": ("sh-1",)}
        job = await start_job(env, "sh-1")
        await town.pause()
        await town.submit(*map(change, beads(3)))
        await town.resume()
        assert await verdicts(job) == [("sh-1.1", VerdictKind.FAILED)]
        await env.sleep(timedelta(minutes=5))
        assert (await town.waiting(), world.landed) == (["sh-2"], ("sh-3",))


async def test_a_request_that_only_the_record_knows_is_merged_by_the_next_cycle(
    env: WorkflowEnvironment, yard: Open
) -> None:
    async with yard() as town:
        await town.submit(change("sh-1"))
        await town.settled()
        town.record.queued = [change("sh-1"), change("sh-2")]
        await env.sleep(timedelta(minutes=11))
        assert town.world.landed == ("sh-1", "sh-2")
        assert town.world.landings == [("sh-1",), ("sh-2",)]


async def test_a_job_that_takes_its_change_back_hears_that_it_is_returned(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-1")
        await town.pause()
        await town.submit(change("sh-1"))
        withdraw = Withdraw(merge_request="sh-1.1", bead="sh-1", attempt=1)
        await town.refinery.signal(RefineryWorkflow.withdraw, withdraw)
        assert await verdicts(job) == [("sh-1.1", VerdictKind.RETURNED)]
        town.record.queued = [change("sh-1")]
        await town.resume()
        await env.sleep(timedelta(minutes=11))
        assert town.world.landed == (), "the record that lags behind does not bring it back"


# --- what people ask -----------------------------------------------------------------------------


async def test_history_why_and_stats_tell_what_became_of_each_change(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=red_with("sh-2"), conflicts={"sh-3": None})
    async with yard(world) as town:
        await town.pause()
        await town.submit(*map(change, beads(4)))
        await town.resume()
        await town.settled()
        shown = await town.refinery.query(RefineryWorkflow.history)
        assert {item.bead: item.outcome for item in shown.items} == {
            "sh-1": VerdictKind.MERGED,
            "sh-2": VerdictKind.FAILED,
            "sh-3": VerdictKind.CONFLICT,
            "sh-4": VerdictKind.MERGED,
        }
        failed = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-2"))
        assert failed.known
        assert failed.words[0] == "It went back to its polecat, MERGE_FAILED."
        assert failed.log_path == "/logs/test.log"
        assert not (await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-9"))).known
        stats = await town.refinery.query(RefineryWorkflow.stats)
        assert (stats.landed, stats.sent_back, stats.gate_runs) == (2, 2, len(world.gated))
        assert stats.runs_per_landed == len(world.gated) / 2
        assert stats.wait_p50_s is not None
        status = await town.refinery.query(RefineryWorkflow.status)
        assert (status.state, status.waiting, status.target) == ("idle", 0, "main")
        error = await refused(town.refinery.execute_update(RefineryWorkflow.retry, RetryItem(id="sh-2.1")))
        assert error.type == ErrorCode.REFUSED.value


async def test_a_gate_that_lied_is_in_the_stats_and_cost_no_rework(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=lambda held, run: FAILED if held and run == 1 else PASSED)
    async with yard(world, confirm_runs="auto") as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))
        assert await verdicts(job) == [("sh-1.1", VerdictKind.MERGED)]
        await town.settled()
        (gate,) = (await town.refinery.query(RefineryWorkflow.stats)).gates
        assert (gate.gate, gate.runs, gate.failures, gate.flaky_runs) == ("test", 3, 1, 1), "the target's own run too"
        assert (gate.flaked_at, gate.log_path) == (world.target, FAILED.log_path)
        assert (await town.queue()).flaky == ("test",), "gt inbox names it"


async def test_an_item_that_is_being_retried_is_tried_at_once_when_a_person_says_so(yard: Open) -> None:
    world = MergeWorld(gates=lambda held, run: KILLED)
    async with yard(world, retry_delay=3600) as town:
        await town.submit(change("sh-1"))

        async def retrying() -> bool:
            return any(item.state is QueueItemState.RETRYING for item in (await town.queue()).items)

        await eventually(retrying)
        world.gates = lambda held, run: PASSED
        await town.refinery.execute_update(RefineryWorkflow.retry, RetryItem(id="sh-1.1", front=True))
        await town.settled()
        assert world.landed == ("sh-1",)
