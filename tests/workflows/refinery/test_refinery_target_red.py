"""A Refinery whose target fails its gates by itself: nobody is blamed, all keep their places, it goes on by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, VerdictKind
from models.refinery.answers import ItemRef, RetryItem
from models.refinery.gates import GateReport
from models.refinery.messages import PauseRequest, QueueItemRef, QueueItemState
from models.settings import GateSettings
from tests.workflows.probes import JobProbe, eventually, start_job
from tests.workflows.refinery.merge_world import FAILED, PASSED, MergeWorld, beads, change
from tests.workflows.refinery.refinery_yard import Open, Yard, verdicts
from workflows.refinery.stalls import GATED_AGAIN_FIRST
from workflows.refinery.workflow import RefineryWorkflow

pytestmark = pytest.mark.own_clocks


def red_unless(*mended: str) -> MergeWorld:
    """A target that is red until it holds one of these."""

    def gates(held: tuple[str, ...], run: int) -> GateReport:
        return PASSED if set(mended) & set(held) else FAILED

    return MergeWorld(gates=gates)


async def found_red(town: Yard) -> None:
    async def told() -> bool:
        return bool((await town.queue()).red_targets and town.post.letters)

    await eventually(told, what="the target to be found red")


async def test_a_red_target_keeps_everybody_in_place_and_is_told_once_with_its_log(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless()
    async with yard(world) as town:
        job = await start_job(env, "sh-1")
        await town.submit(*map(change, beads(3)))
        await found_red(town)
        await env.sleep(timedelta(minutes=50))
        status = await town.queue()
        assert [(item.bead, item.state) for item in status.items] == [
            (bead, QueueItemState.TARGET_RED) for bead in beads(3)
        ]
        assert {item.reason for item in status.items} == {
            "target_red: main itself is red at base: gate test failed (exit 1)"
        }
        assert not status.paused
        assert (await job.query(JobProbe.heard)).verdicts == (), "nobody is blamed"
        (letter,) = town.post.letters
        assert (letter.kind, letter.level) == ("gate_broken", "L3")
        assert "target_red" in letter.message
        assert FAILED.tail in letter.evidence
        assert str(FAILED.log_path) in letter.evidence
        why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-2"))
        assert why.state is QueueItemState.TARGET_RED
        assert "main itself is red" in why.words[0]
        assert 4 <= world.gated.count("base") < 10, "gated again less and less often"


async def test_the_queue_goes_on_within_two_minutes_of_the_target_being_mended(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless("mend")
    async with yard(world) as town:
        await town.submit(*map(change, beads(3)))
        await found_red(town)
        await env.sleep(timedelta(minutes=20))
        assert world.landed == ()
        world.target = world._commit(world.target, "mend", "mend")
        await env.sleep(timedelta(minutes=2))
        assert world.landed == ("mend", *beads(3))
        assert town.post.over == [town.post.letters[0].id]
        assert (await town.queue()).red_targets == {}


async def test_a_target_that_turns_green_as_it_stands_is_found_out_by_gating_it_again(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless()
    async with yard(world) as town:
        await town.submit(*map(change, beads(2)))
        await found_red(town)
        world.gates = lambda held, run: PASSED
        await env.sleep(GATED_AGAIN_FIRST + timedelta(minutes=1))
        assert world.landed == tuple(beads(2))
        assert town.post.over == [town.post.letters[0].id]


async def test_a_target_that_was_red_in_another_world_is_gated_again_at_once(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless()
    async with yard(world) as town:
        await town.submit(*map(change, beads(2)))
        await found_red(town)
        world.gates = lambda held, run: PASSED
        town.record.settings = town.record.settings.model_copy(update={"gate": GateSettings(home="person")})
        await env.sleep(timedelta(minutes=2))
        assert world.landed == tuple(beads(2))


async def test_a_moved_target_that_is_still_red_is_no_second_alert(env: WorkflowEnvironment, yard: Open) -> None:
    world = red_unless()
    async with yard(world) as town:
        await town.submit(change("sh-1"))
        await found_red(town)
        world.target = tip = world._commit(world.target, "other", "other")
        await env.sleep(timedelta(minutes=3))
        assert world.gated.count(tip) == 1
        assert (len(town.post.letters), town.post.over) == (1, [])


async def test_a_change_that_mends_the_target_lands_when_a_person_has_it_processed(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless("sh-3")
    async with yard(world) as town:
        await town.submit(*map(change, beads(2)))
        await found_red(town)
        await town.submit(change("sh-3", priority=4))
        await env.sleep(timedelta(minutes=2))
        assert world.landed == ()
        await town.refinery.execute_update(RefineryWorkflow.process, QueueItemRef(id="sh-3.1"))
        await town.settled()
        assert world.landings == [("sh-3",), ("sh-1", "sh-2")]

        async def over() -> bool:
            return town.post.over == [town.post.letters[0].id]

        await eventually(over, what="the alarm to be over")


async def test_a_change_that_does_not_mend_the_target_is_tried_once_and_not_blamed(
    env: WorkflowEnvironment, yard: Open
) -> None:
    world = red_unless()
    async with yard(world) as town:
        job = await start_job(env, "sh-1")
        await town.submit(*map(change, beads(2)))
        await found_red(town)
        before = world.builds
        await town.refinery.execute_update(RefineryWorkflow.process, QueueItemRef(id="sh-1.1"))

        async def tried() -> bool:
            why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-1"))
            return "It was tried there as you asked, and failed too." in why.words

        await eventually(tried)
        assert world.builds == before + 1
        assert (await job.query(JobProbe.heard)).verdicts == ()
        world.gates = lambda held, run: PASSED
        await env.sleep(timedelta(minutes=11))
        assert world.landed == tuple(beads(2))


@pytest.mark.parametrize("how", ["resume", "retry", "answer"])
async def test_a_person_who_says_so_has_the_target_gated_at_once(
    env: WorkflowEnvironment, yard: Open, how: str
) -> None:
    world = red_unless()
    async with yard(world) as town:
        await town.submit(change("sh-1"))
        await found_red(town)
        world.gates = lambda held, run: PASSED
        if how == "resume":
            await town.resume()
        elif how == "retry":
            await town.refinery.execute_update(RefineryWorkflow.retry, RetryItem(id="sh-1.1"))
        else:
            answer = Decision(kind=DecisionKind.RETRY, escalation=town.post.letters[0].id)
            await town.refinery.signal(RefineryWorkflow.decision, answer)
        await town.settled()
        assert await env.get_current_time() < (town.post.letters[0].opened_at + GATED_AGAIN_FIRST)


async def test_other_targets_are_merged_while_one_is_red(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=lambda held, run: PASSED if "next-base" in held else FAILED)
    world.others["next"] = "next"
    world.holds["next"] = ("next-base",)
    async with yard(world) as town:
        job = await start_job(env, "sh-2")
        await town.submit(change("sh-1"))
        await found_red(town)
        await town.submit(change("sh-2").model_copy(update={"target": "next"}))
        assert await verdicts(job) == [("sh-2.1", VerdictKind.MERGED)]
        assert await town.waiting() == ["sh-1"]


async def test_a_drain_does_not_wait_for_a_red_target(env: WorkflowEnvironment, yard: Open) -> None:
    async with yard(red_unless()) as town:
        await town.submit(change("sh-1"))
        await found_red(town)
        await town.refinery.execute_update(RefineryWorkflow.pause, PauseRequest(reason="upgrade", drain=True))

        async def drained() -> bool:
            return (await town.queue()).paused

        await eventually(drained, what="the drain to end")
        assert await town.waiting() == ["sh-1"]
