"""A Refinery whose gates, remote, target or record fail: nothing is lost, and a person is told once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import Level
from models.job.messages import Decision, DecisionKind
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import ForeignCommit, ForeignFound, QueueItemState, Rewound
from tests.workflows.conftest import workers_of
from tests.workflows.probes import eventually
from tests.workflows.refinery.merge_world import KILLED, PASSED, REFUSED, MergeWorld, beads, change, rig
from tests.workflows.refinery.refinery_yard import Open, letters, yard_in
from workflows.refinery.workflow import RefineryWorkflow

pytestmark = pytest.mark.own_clocks


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

        async def over() -> bool:
            return town.post.over == [town.post.letters[0].id]

        await eventually(over, what="the Mayor to be told that nobody has to answer any more")


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
        await env.sleep(timedelta(minutes=32))
        status = await town.queue()
        assert not status.paused
        assert [item.bead for item in status.items] == ["sh-1"]
        assert "protected branch" in status.items[0].reason
        (letter,) = town.post.letters
        assert letter.kind == "refinery_stalled", "told once, not each time"
        assert "the remote refuses main: protected branch" in letter.message
        assert world.builds > 3, "tried again every ten minutes"
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
    """As the Deacon ends one whose code fails (services/temporal/failing_workflows.py).

    The time-skipping server stands still then.
    """
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
    # The clock does not skip while an activity waits for its next attempt: here each has none left.
    async with yard(readable=False, retried=False) as town:
        await town.submit(change("sh-1"))
        await env.sleep(timedelta(minutes=10))
        assert await town.waiting() == ["sh-1"]
        assert town.record.reads > 1
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


async def test_a_target_that_lost_commits_is_told_once_a_rewind_and_merges_go_on(
    env: WorkflowEnvironment, yard: Open
) -> None:
    removed = ("1a2b3c4d5e6f oops: leaks a key",)
    first = Rewound(target="main", left_sha="aaa", target_sha="bbb", removed=1, commits=removed)
    world = MergeWorld(rewound=(first,))
    async with yard(world, patience=4) as town:
        for bead in beads(4):
            await town.submit(change(bead))
            await town.settled()
        assert set(world.landed) == set(beads(4))
        [told] = await letters(town, 1)
        assert (told.kind, told.subject) == ("target_rewound", told.id)
        assert "lost 1 commit" in told.message
        assert "oops: leaks a key" in told.evidence
        world.rewound = (first, first.model_copy(update={"left_sha": "ccc"}))
        await town.submit(change("sh-5"))
        await town.settled()
        assert len({letter.id for letter in await letters(town, 2)}) == 2


async def test_a_polecat_s_push_is_told_and_a_person_s_quietly_each_once(env: WorkflowEnvironment, yard: Open) -> None:
    person = ForeignCommit(target="main", sha="a" * 40, subject="Fix the build", author="Ada <ada@example.org>")
    polecat = person.model_copy(update={"sha": "b" * 40, "subject": "ungated", "polecat": "toast", "bead": "sh-9"})
    world = MergeWorld(foreign=(person, polecat))
    async with yard(world, patience=4) as town:
        for bead in beads(3):
            await town.submit(change(bead))
            await town.settled()
        urgent, quiet = await letters(town, 2)
        assert {urgent.kind, quiet.kind} == {"foreign_commit"}
        assert (urgent.level, urgent.severity, quiet.severity) == (Level.L2.value, "high", "low")
        assert "toast has pushed to main past the queue (work on sh-9)" in urgent.message
        assert "Fix the build, author: Ada <ada@example.org>" in quiet.evidence
        shown = (await town.refinery.query(RefineryWorkflow.status)).foreign
        assert [each.subject for each in shown] == ["Fix the build", "ungated"]


async def test_what_a_patrol_finds_between_merges_is_told_once(env: WorkflowEnvironment, yard: Open) -> None:
    commits = tuple(
        ForeignCommit(target="main", sha=letter * 40, subject=f"number {letter}", author="Ada <ada@example.org>")
        for letter in "abc"
    )
    async with yard(MergeWorld(foreign=commits[:1]), patience=4) as town:
        for found in (commits[:2], commits[:2], commits):
            await town.refinery.signal(RefineryWorkflow.foreign_found, ForeignFound(commits=found))
        await town.submit(change("sh-1"))
        await town.settled()
        told = await letters(town, 2)
        assert sorted(letter.message.partition(":")[0] for letter in told) == [
            "main has 2 commits that are no landing of the town", "main has a commit that is no landing of the town",
        ]  # fmt: skip
        shown = (await town.refinery.query(RefineryWorkflow.status)).foreign
        assert [each.subject for each in shown] == ["number a", "number b", "number c"]
