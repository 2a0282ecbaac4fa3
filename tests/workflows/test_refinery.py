"""RefineryWorkflow: the queue around the merges."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode, Level
from models.gating import GateReport, RunGates
from models.jobs import Decision, DecisionKind, VerdictKind
from models.merging import QueueCleared, QueueItemRef, QueueItemState, Withdraw
from tests.workflows.conftest import workers_of
from tests.workflows.merge_world import KILLED, PASSED, REFUSED, START, MergeWorld, beads, change, red_with, rig
from tests.workflows.probes import eventually, start_job
from tests.workflows.refinery_yard import Open, Refinery, refused, verdicts, yard_in
from workflows.refinery import RefineryWorkflow

# --- the main path ------------------------------------------------------------------------------


async def test_a_submitted_change_is_merged_at_once_and_its_job_is_told(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        job = await start_job(env, "sh-1")
        begun = await env.get_current_time()
        await town.submit(change("sh-1"))
        assert await verdicts(job) == [("sh-1.1", VerdictKind.MERGED)]
        assert await env.get_current_time() - begun < timedelta(seconds=30), "no cycle had to end first"
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
        held = await town.refinery.execute_update(RefineryWorkflow.skip, QueueItemRef(id="sh-1.1"))
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


# --- trouble ------------------------------------------------------------------------------------


async def test_gates_that_cannot_run_are_retried_then_the_queue_pauses_and_the_mayor_knows(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(gates=lambda held, run: KILLED)
    async with yard(world, retry_count=2, retry_delay=60) as town:
        await town.submit(change("sh-1"))

        async def retrying() -> bool:
            return any(item.state is QueueItemState.RETRYING for item in (await town.queue()).items)

        await eventually(retrying)
        assert (world.builds, town.post.letters) == (1, [])
        await env.sleep(timedelta(minutes=10))
        status = await town.queue()
        assert world.builds == 3, "one try and two retries"
        assert status.paused
        assert "killed" in status.pause_reason
        assert [(letter.kind, letter.level) for letter in town.post.letters] == [("gate_broken", Level.L3.value)]
        assert [item.bead for item in status.items] == ["sh-1"], "nothing is lost or blamed"
        world.gates = lambda held, run: PASSED
        await town.resume()
        await town.settled()
        assert world.landed == ("sh-1",)
        assert town.post.over == [town.post.letters[0].id], "nobody has to answer any more"


async def test_a_persons_answer_lets_a_queue_go_on_whose_gates_were_broken(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(gates=lambda held, run: KILLED)
    async with yard(world, retry_count=0, patience=4) as town:
        await town.submit(change("sh-1"))

        async def paused() -> bool:
            return (await town.queue()).paused and bool(town.post.letters)

        await eventually(paused)
        world.gates = lambda held, run: PASSED
        [asked] = town.post.letters
        for kind, escalation in ((DecisionKind.IGNORE, asked.id), (DecisionKind.RETRY, "gate_broken/shop/0")):
            await town.refinery.signal(RefineryWorkflow.decision, Decision(kind=kind, escalation=escalation))
        await env.sleep(timedelta(hours=1))
        assert (await town.queue()).paused, "seen, and left as it is; the other is none of this one's"
        retry = Decision(kind=DecisionKind.RETRY, reason="mended", escalation=asked.id)
        for _twice in range(2):
            await town.refinery.signal(RefineryWorkflow.decision, retry)
        await town.settled()
        assert world.landed == ("sh-1",)
        await town.pause()
        await town.refinery.signal(RefineryWorkflow.decision, retry)
        assert (await town.queue()).pause_reason == "look at it", "an answer told late undoes no later order"
        assert (len(town.post.letters), town.post.over) == (1, []), "the Mayor knows what was decided"


async def test_gates_that_run_again_in_time_need_no_person(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=lambda held, run: PASSED if len(world.gated) > 4 else KILLED)
    async with yard(world, retry_count=3, retry_delay=60) as town:
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(minutes=5))
        assert world.landed == ("sh-1",)
        assert town.post.letters == []


async def test_a_remote_that_refuses_for_ever_keeps_the_items_calls_the_mayor_once_and_goes_on_when_cured(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(pushes=[REFUSED] * 10_000)
    async with yard(world, retry_count=1, retry_delay=60) as town:
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(hours=1))
        status = await town.queue()
        assert not status.paused
        assert [item.bead for item in status.items] == ["sh-1"]
        assert "protected branch" in status.items[0].reason
        (letter,) = town.post.letters
        assert letter.kind == "refinery_stalled", "told once, not each time"
        assert "the remote refuses main: protected branch" in letter.message
        assert world.builds > 5, "tried again every ten minutes"
        world.pushes.clear()
        await env.sleep(timedelta(minutes=11))
        assert world.landed == ("sh-1",)
        assert town.post.over == [town.post.letters[0].id]


class HeldGates(MergeWorld):
    """Its gates run until they are let go."""

    held = True

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        self.gated.append(request.sha)
        while self.held:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return PASSED


async def test_a_merge_that_is_ended_from_outside_is_begun_again_and_lands_its_changes_once(
    real_env: WorkflowEnvironment,
) -> None:
    """As the Deacon ends one whose code fails (services/wedged.py); the time-skipping server stands still then."""
    world = HeldGates()
    async with yard_in(real_env, workers_of(real_env))(world, retry_delay=1) as town:
        await town.submit(change("sh-1"))

        async def gating() -> bool:
            return bool(world.gated)

        await eventually(gating, what="the gates to run")
        await real_env.client.get_workflow_handle(names.merge_id("shop", 1)).terminate("its code fails")
        world.held = False
        await town.settled()
        assert world.landings == [("sh-1",)]
        assert town.post.letters == [], "one stall is tried again before anybody is told"


async def test_a_target_that_moves_at_every_gate_is_not_chased_for_ever_but_escalated(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(pushes=[f"other-{number}" for number in range(1000)])
    async with yard(world, retry_count=1, retry_delay=60) as town:
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(minutes=30))
        (letter,) = town.post.letters
        assert letter.kind == "refinery_stalled"
        assert "main moved 3 times while its gates ran" in letter.message
        assert world.builds <= 3 * 5, "two merges at once, then one every ten minutes, of three builds each"
        world.pushes.clear()
        await env.sleep(timedelta(minutes=11))
        assert world.landings == [("sh-1",)]


async def test_a_change_that_the_remote_refuses_does_not_keep_others_from_landing(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = MergeWorld(refuses="sh-1")
    async with yard(world, retry_count=1, retry_delay=10) as town:
        await town.submit(*map(change, beads(4)))
        await env.sleep(timedelta(minutes=50))
        assert set(world.landed) == {"sh-2", "sh-3", "sh-4"}
        assert await town.waiting() == ["sh-1"]


async def test_with_the_record_unreadable_the_last_known_facts_hold(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        await town.submit(change("sh-1"))
        await town.settled()
        town.record.readable = False
        await env.sleep(timedelta(hours=1))
        await town.submit(change("sh-2"))
        await env.sleep(timedelta(minutes=1))
        assert town.world.landed == ("sh-1", "sh-2")


async def test_without_any_facts_the_queue_waits_for_the_record(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard(readable=False) as town:
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(minutes=10))
        assert await town.waiting() == ["sh-1"]
        town.record.readable = True
        await env.sleep(timedelta(minutes=1))
        assert town.world.landed == ("sh-1",)


async def test_changed_settings_are_read_before_the_next_merge(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard() as town:
        await town.submit(change("sh-1"))
        await town.settled()
        town.record.rig = rig(gates=())
        await town.refinery.signal(RefineryWorkflow.settings_changed)

        async def ungated() -> bool:
            return (await town.queue()).ungated

        await eventually(ungated)


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
        await town.refinery.execute_update(RefineryWorkflow.skip, QueueItemRef(id="sh-3.1"))
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


async def test_hundreds_of_changes_pass_in_order_over_many_runs(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard(patience=50) as town:
        await town.pause()
        await town.submit(*map(change, beads(300)))
        await town.resume()
        await town.settled()
        assert sorted(town.world.landed) == sorted(beads(300))
        assert len(town.world.gated) <= 300 / 14 + 2
