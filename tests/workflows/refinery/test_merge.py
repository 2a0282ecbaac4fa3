"""MergeWorkflow: one batch, from chain to verdicts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import VerdictKind
from models.refinery.gates import GateReport, Seen
from models.refinery.messages import DropKind
from policies.refinery.merge_rates import after_merge
from tests.workflows.conftest import WorkerBuilder, workers_of
from tests.workflows.refinery.merge_world import (
    FAILED,
    GATE,
    PASSED,
    REFUSED,
    START,
    MergeWorld,
    batch,
    beads,
    by_bead,
    change,
    kinds,
    merge,
    red_with,
)
from workflows.refinery.merge import ALREADY_THERE

pytestmark = pytest.mark.own_clocks

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


@pytest.mark.document("5: 冲突")
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


async def test_a_gone_branch_is_returned_and_what_the_target_holds_already_counts_as_merged(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(drops={"sh-1": DropKind.GONE, "sh-2": DropKind.EMPTY})
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == {"sh-1": VerdictKind.RETURNED, "sh-2": VerdictKind.MERGED}
    gone, there = by_bead(outcome)["sh-1"], by_bead(outcome)["sh-2"]
    assert gone.gone
    assert gone.submitted_at is not None, "handed in again, the same change is not returned by this verdict"
    assert (there.detail, there.already_there) == (ALREADY_THERE, True)
    assert there.merged_sha == world.target


# --- red chains ---------------------------------------------------------------------------------


@pytest.mark.document("5: 测试失败")
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
    assert world.gated.count("base") == 1, "the target is cleared before anybody is blamed"
    assert outcome.gate_runs == 2, "a red that nobody else can have caused needs no more"


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


# --- gates that lie, and what is known already ---------------------------------------------------


def flaky_at(size: int, *runs: int) -> Callable[[tuple[str, ...], int], GateReport]:
    """Gates that fail at a commit with so many changes in it in these runs, and pass in all others."""
    return lambda held, run: FAILED if len(held) == size and run in runs else PASSED


async def test_a_new_rigs_culprit_is_confirmed_by_one_more_run(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-2"))
    outcome = await merge(env, workers, world, batch(*map(change, beads(2)), confirm_runs="auto"))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED, "sh-2": VerdictKind.FAILED}
    assert [world.gated.count(sha) for sha in dict.fromkeys(world.gated)] == [2, 1, 1], "tip twice, target, start"


async def test_a_gate_that_fails_once_costs_no_change_a_rework_and_is_recorded(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=flaky_at(4, 1))
    outcome = await merge(env, workers, world, batch(*map(change, beads(4)), confirm_runs="1"))
    assert kinds(outcome) == dict.fromkeys(beads(4), VerdictKind.MERGED)
    (tally,) = outcome.tallies
    assert (tally.gate, tally.flaked, tally.flaked_at) == ("test", 1, world.target)
    assert tally.log_path == FAILED.log_path
    assert (outcome.landed, outcome.blamed) == (4, 0)


async def test_a_red_in_the_middle_that_was_none_leads_on_to_the_real_culprit(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        return FAILED if "sh-7" in held or (len(held) == 3 and run == 1) else PASSED

    world = MergeWorld(gates=gates)
    outcome = await merge(env, workers, world, batch(*map(change, beads(8)), confirm_runs="1"))
    assert kinds(outcome) == dict.fromkeys(beads(6), VerdictKind.MERGED) | {"sh-7": VerdictKind.FAILED}


async def test_a_suspect_is_blamed_only_when_as_many_runs_as_asked_for_are_red(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    blamed = await merge(env, workers, MergeWorld(gates=flaky_at(1, 1, 2, 3)), batch(change("sh-1"), confirm_runs="2"))
    assert (kinds(blamed), blamed.gate_runs) == ({"sh-1": VerdictKind.FAILED}, 4)


async def test_a_commit_that_earlier_merges_have_gated_is_not_gated_again(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(pushes=[REFUSED])
    work = batch(*map(change, beads(2)), retry_count=0)
    refused = await merge(env, workers, world, work)
    assert refused.stalled
    seen = after_merge(
        Seen(),
        landed=refused.landed,
        failed=refused.blamed,
        tallies=refused.tallies,
        commits=refused.commits,
        gates=(GATE,),
        now=START,
    )
    later = work.model_copy(update={"seen": seen, "number": 2})
    landed = await merge(env, workers, world, later)
    assert (kinds(landed), landed.gate_runs) == (dict.fromkeys(beads(2), VerdictKind.MERGED), 0)


async def test_what_is_green_lands_while_the_search_goes_on(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    landed_at: list[tuple[int, tuple[str, ...]]] = []
    world = MergeWorld()

    def gates(held: tuple[str, ...], run: int) -> GateReport:
        landed_at.append((len(held), world.landed))
        return FAILED if "sh-14" in held else PASSED

    world.gates = gates
    outcome = await merge(env, workers, world, batch(*map(change, beads(14))))
    assert kinds(outcome)["sh-14"] is VerdictKind.FAILED
    assert len(world.landings) > 1
    assert [bead for landing in world.landings for bead in landing] == beads(13), "in order, each once"
    assert any(landed for _, landed in landed_at), "some had landed before the last gate ran"


# --- more runners ---------------------------------------------------------------------------------


async def test_several_runners_find_the_same_and_gate_no_commit_twice(real_env: WorkflowEnvironment) -> None:
    for number, (runners, culprit) in enumerate([(2, None), (2, 1), (2, 7), (4, 3), (4, 20), (3, None)]):
        world = MergeWorld(gates=red_with(f"sh-{culprit}"))
        work = batch(*map(change, beads(20)), number=number, max_concurrent=runners)
        outcome = await merge(real_env, workers_of(real_env), world, work)
        assert world.landed == tuple(beads(20 if culprit is None else culprit - 1))
        expected = dict.fromkeys(world.landed, VerdictKind.MERGED)
        assert kinds(outcome) == expected | ({f"sh-{culprit}": VerdictKind.FAILED} if culprit else {})
        assert len(set(world.gated)) == len(world.gated), "no commit is gated twice"
