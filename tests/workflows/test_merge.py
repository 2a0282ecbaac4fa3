"""MergeWorkflow: one batch, from chain to verdicts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.jobs import Verdict, VerdictKind
from models.merging import BuildChain, Chain, DropKind, GateReport, MergeBatch, MergeOutcome
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.merge_world import (
    FAILED,
    KILLED,
    PASSED,
    REFUSED,
    TIMED_OUT,
    MergeWorld,
    batch,
    beads,
    change,
    red_with,
)
from workflows.merge import EMPTY_CHANGE, MergeWorkflow


async def merge(env: WorkflowEnvironment, workers: WorkerBuilder, world: MergeWorld, work: MergeBatch) -> MergeOutcome:
    async with workers(workflows=[MergeWorkflow], activities=world.activities):
        return await env.client.execute_workflow(
            MergeWorkflow.run, work, id=names.merge_id("shop", work.number), task_queue=names.TOWN_QUEUE
        )


def by_bead(outcome: MergeOutcome) -> dict[str, Verdict]:
    assert len({verdict.bead for verdict in outcome.verdicts}) == len(outcome.verdicts), "one verdict a change"
    return {verdict.bead: verdict for verdict in outcome.verdicts}


def kinds(outcome: MergeOutcome) -> dict[str, VerdictKind]:
    return {bead: verdict.kind for bead, verdict in by_bead(outcome).items()}


# --- landing ------------------------------------------------------------------------------------


async def test_a_green_batch_lands_with_one_gate_run_and_one_push(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld()
    outcome = await merge(env, workers, world, batch(*map(change, beads(5))))
    assert kinds(outcome) == dict.fromkeys(beads(5), VerdictKind.MERGED)
    assert outcome.gate_runs == len(world.gated) == 1
    assert world.landings == [tuple(beads(5))]
    merged = by_bead(outcome)
    assert world.holds[merged["sh-2"].merged_sha or ""] == ("sh-1", "sh-2"), "each verdict names its own commit"
    assert merged["sh-5"].merged_sha == world.target


async def test_a_rig_without_gates_lands_ungated(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    world = MergeWorld(gates=red_with("sh-1"))
    outcome = await merge(env, workers, world, batch(change("sh-1"), gates=()))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED}
    assert world.gated == []


async def test_a_change_that_landed_before_is_merged_with_that_commit(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(target="tip", holds={"base": (), "tip": ("sh-1",)})
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED}
    assert by_bead(outcome)["sh-1"].merged_sha == "tip"
    assert world.landings == []


# --- changes that leave the chain ---------------------------------------------------------------


async def test_a_conflict_is_sent_back_and_the_rest_lands(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    world = MergeWorld(conflicts={"sh-2": None})
    outcome = await merge(env, workers, world, batch(*map(change, beads(3))))
    assert kinds(outcome) == {
        "sh-1": VerdictKind.MERGED,
        "sh-2": VerdictKind.CONFLICT,
        "sh-3": VerdictKind.MERGED,
    }
    verdict = by_bead(outcome)["sh-2"]
    assert verdict.files == ("a.py",)
    assert verdict.base_sha == world.target, "it names the commit to rebase onto"


async def test_a_conflict_with_a_change_that_did_not_land_goes_back_into_the_queue(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(conflicts={"sh-2": "sh-1"}, gates=red_with("sh-1"))
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == {"sh-1": VerdictKind.FAILED}


async def test_a_gone_branch_is_returned_and_an_empty_change_fails(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(drops={"sh-1": DropKind.GONE, "sh-2": DropKind.EMPTY})
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == {"sh-1": VerdictKind.RETURNED, "sh-2": VerdictKind.FAILED}
    assert by_bead(outcome)["sh-2"].detail == EMPTY_CHANGE


# --- red chains ---------------------------------------------------------------------------------


async def test_a_single_red_change_is_blamed_with_the_end_of_the_log(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-1"))
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    verdict = by_bead(outcome)["sh-1"]
    assert verdict.kind is VerdictKind.FAILED
    assert (verdict.gate, verdict.log_path) == ("test", FAILED.log_path)
    assert "exit 1" in verdict.detail
    assert FAILED.tail in verdict.detail
    assert world.landed == ()
    assert outcome.gate_runs == 1, "a red that nobody else can have caused needs no second run"


@pytest.mark.parametrize(("size", "culprit"), [(2, 1), (2, 2), (5, 3), (8, 1), (8, 8), (16, 9)])
async def test_the_green_start_lands_and_the_first_culprit_goes_back(
    env: WorkflowEnvironment, workers: WorkerBuilder, size: int, culprit: int
) -> None:
    world = MergeWorld(gates=red_with(f"sh-{culprit}"))
    outcome = await merge(env, workers, world, batch(*map(change, beads(size))))
    expected = dict.fromkeys(beads(culprit - 1), VerdictKind.MERGED) | {f"sh-{culprit}": VerdictKind.FAILED}
    assert kinds(outcome) == expected, "what stands behind the culprit is not decided"
    assert world.landed == tuple(beads(culprit - 1))
    assert len(set(world.gated)) == len(world.gated), "no commit is gated twice"


async def test_two_changes_that_fail_only_together_blame_the_later_one(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: FAILED if {"sh-2", "sh-4"} <= set(held) else PASSED)
    outcome = await merge(env, workers, world, batch(*map(change, beads(6))))
    assert kinds(outcome)["sh-4"] is VerdictKind.FAILED
    assert world.landed == tuple(beads(3))


# --- gates that could not run -------------------------------------------------------------------


async def test_a_gate_that_could_not_run_once_blames_nobody_and_the_change_lands(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: TIMED_OUT if held and run == 1 else PASSED)
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED}
    assert world.gated == [world.target, "base", world.target], "candidate, control, candidate"


async def test_a_gate_that_times_out_with_the_change_alone_is_the_changes_fault(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: TIMED_OUT if "sh-2" in held else PASSED)
    outcome = await merge(env, workers, world, batch(*map(change, beads(4))))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED, "sh-2": VerdictKind.FAILED}
    assert "timed_out" in by_bead(outcome)["sh-2"].detail
    assert world.gated.count("base") == 1, "the control is not repeated"


async def test_a_gate_that_cannot_run_on_the_target_either_blames_nobody(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: KILLED)
    outcome = await merge(env, workers, world, batch(*map(change, beads(3))))
    assert outcome.verdicts == ()
    assert "killed" in outcome.could_not_run
    assert world.landed == ()


async def test_a_target_that_is_red_itself_is_not_blamed_on_a_change(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: TIMED_OUT if held else FAILED)
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    assert outcome.verdicts == ()
    assert "the target itself fails gate test" in outcome.could_not_run


async def test_a_gate_that_cannot_run_in_another_way_the_second_time_blames_nobody(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        if not held:
            return PASSED
        return TIMED_OUT if run == 1 else KILLED

    outcome = await merge(env, workers, MergeWorld(gates=gates), batch(change("sh-1")))
    assert outcome.verdicts == ()
    assert "timed_out" in outcome.could_not_run
    assert "killed" in outcome.could_not_run


async def test_what_is_green_lands_although_gates_break_in_the_middle_of_a_search(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        if len(held) == 8:
            return FAILED
        return PASSED if 0 < len(held) <= 4 else KILLED

    world = MergeWorld(gates=gates)
    outcome = await merge(env, workers, world, batch(*map(change, beads(8))))
    assert outcome.could_not_run
    assert kinds(outcome) == dict.fromkeys(world.landed, VerdictKind.MERGED)
    assert len(world.landed) > 0


# --- pushes -------------------------------------------------------------------------------------


async def test_a_refused_push_is_retried_after_the_delay_without_gating_again(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(pushes=[REFUSED, REFUSED])
    begun = await env.get_current_time()
    outcome = await merge(env, workers, world, batch(change("sh-1"), retry_delay=600))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED}
    assert outcome.gate_runs == 1
    assert await env.get_current_time() - begun >= timedelta(seconds=1200)


async def test_a_remote_that_refuses_for_ever_stalls_the_merge_in_its_own_words(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(pushes=[REFUSED] * 99)
    outcome = await merge(env, workers, world, batch(change("sh-1"), change("sh-2"), retry_count=2))
    assert outcome.verdicts == ()
    assert "protected branch" in outcome.stalled
    assert len(world.pushes) == 99 - 3, "one push and two retries"


async def test_a_moved_target_is_rebuilt_and_gated_again(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    world = MergeWorld(pushes=["someone-else"])
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == dict.fromkeys(beads(2), VerdictKind.MERGED)
    assert world.landed == ("someone-else", "sh-1", "sh-2")
    assert (world.builds, outcome.gate_runs) == (2, 2)


async def test_a_target_that_moves_every_time_stalls_the_merge(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(pushes=[f"other-{n}" for n in range(99)])
    outcome = await merge(env, workers, world, batch(change("sh-1"), retry_count=3))
    assert outcome.verdicts == ()
    assert outcome.stalled == "main moved 5 times while its gates ran"
    assert world.builds == 5


async def test_a_culprit_stays_blamed_when_the_target_moves_before_the_rest_lands(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-2"), pushes=["someone-else"])
    outcome = await merge(env, workers, world, batch(*map(change, beads(3))))
    assert kinds(outcome) == {
        "sh-1": VerdictKind.MERGED,
        "sh-2": VerdictKind.FAILED,
        "sh-3": VerdictKind.MERGED,
    }
    assert world.landed == ("someone-else", "sh-1", "sh-3")


async def test_a_host_that_cannot_work_stalls_the_merge_and_keeps_what_was_decided(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(conflicts={"sh-1": None}, pushes=["someone-else"])

    @activity.defn(name="build_chain")
    async def break_on_the_second_build(request: BuildChain) -> Chain:
        if world.builds == 1:
            raise ApplicationError("the clone is damaged", type="not_a_repository", non_retryable=True)
        return await world.build_chain(request)

    world.drops["sh-2"] = DropKind.GONE
    async with workers(
        workflows=[MergeWorkflow],
        activities=[break_on_the_second_build, world.run_gates, world.land_chain],
    ):
        outcome = await env.client.execute_workflow(
            MergeWorkflow.run, batch(*map(change, beads(3))), id="merge/shop/1", task_queue=names.TOWN_QUEUE
        )
    assert "the clone is damaged" in outcome.stalled
    assert kinds(outcome) == {"sh-2": VerdictKind.RETURNED}
