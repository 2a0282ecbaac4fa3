"""MergeWorkflow: nobody is blamed before the target itself is cleared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import VerdictKind
from models.ledger.records import GateSpec
from models.refinery.gates import GateOutcome, GateReport, Seen
from models.refinery.messages import MergeBatch, MergeOutcome, TargetRed
from models.settings import GateSettings
from policies.refinery.merge_rates import after_merge
from tests.workflows.conftest import WorkerBuilder, workers_of
from tests.workflows.refinery.merge_world import (
    FAILED,
    GATE,
    KILLED,
    PASSED,
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

pytestmark = pytest.mark.own_clocks

Gates = Callable[[tuple[str, ...], int], GateReport]
RED = TargetRed(sha="base", gate="test", why="gate test failed (exit 1)")
DOCS = GateSpec(name="docs", command="make docs", timeout_s=60)


def red_unless_mended(held: tuple[str, ...], run: int) -> GateReport:
    """The target is red; `sh-3` mends it."""
    return PASSED if "sh-3" in held else FAILED


def after(outcome: MergeOutcome, gates: tuple[GateSpec, ...] = (GATE,), world: GateSettings | None = None) -> Seen:
    return after_merge(
        Seen(),
        landed=outcome.landed,
        failed=outcome.blamed,
        tallies=outcome.tallies,
        commits=outcome.commits,
        gates=gates,
        now=START,
        world=world or GateSettings(),
    )


def again(work: MergeBatch, outcome: MergeOutcome, **changes: object) -> MergeBatch:
    """The next merge, which knows what the first one has learned."""
    return work.model_copy(update={"seen": after(outcome), "number": work.number + 1, **changes})


async def test_a_target_that_is_red_by_itself_blames_nobody_and_says_what_fails_there(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: FAILED)
    outcome = await merge(env, workers, world, batch(*map(change, beads(5))))
    assert (outcome.verdicts, outcome.stalled, outcome.could_not_run) == ((), "", "")
    assert outcome.target_red == RED.model_copy(update={"tail": FAILED.tail, "log_path": FAILED.log_path})
    assert world.gated[1:] == ["base"], "the chain once, the target once, and no search"


async def test_the_red_of_a_target_is_confirmed_like_a_suspects(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        return FAILED if "sh-1" in held or (not held and run == 1) else PASSED

    world = MergeWorld(gates=gates)
    outcome = await merge(env, workers, world, batch(*map(change, beads(2)), confirm_runs="1"))
    assert kinds(outcome) == {"sh-1": VerdictKind.FAILED}
    assert world.gated.count("base") == 2, "the target lied once"
    assert outcome.tallies[0].flaked_at == "base"


async def test_a_tip_that_landed_from_here_needs_no_control_run(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-9"))
    work = batch(*map(change, beads(2)))
    first = await merge(env, workers, world, work)
    green_tip, before = world.target, len(world.gated)
    outcome = await merge(env, workers, world, again(work, first, changes=(change("sh-9"),)))
    assert kinds(outcome) == {"sh-9": VerdictKind.FAILED}
    assert (len(world.gated) - before, green_tip in world.gated[before:]) == (1, False)


async def test_the_control_run_of_a_tip_serves_later_merges_too(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-1", "sh-2"))
    work = batch(change("sh-1"))
    first = await merge(env, workers, world, work)
    await merge(env, workers, world, again(work, first, changes=(change("sh-2"),)))
    assert world.gated.count("base") == 1


async def test_other_gates_or_another_world_clear_nothing(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    world = MergeWorld(gates=red_with("sh-1", "sh-2", "sh-3"))
    work = batch(change("sh-1"))
    first = await merge(env, workers, world, work)
    elsewhere = again(work, first, changes=(change("sh-2"),), gate=GateSettings(home="person"))
    await merge(env, workers, world, elsewhere)
    assert world.gated.count("base") == 2
    two_gates = work.rig.model_copy(update={"gates": (GATE, DOCS)})
    await merge(env, workers, world, again(work, first, changes=(change("sh-3"),), rig=two_gates, number=3))
    assert world.gated.count("base") == 3


async def test_a_gate_that_was_skipped_at_the_tip_is_not_cleared_by_it(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        if held == ("sh-1",):
            return GateReport(outcome=GateOutcome.PASSED, passed=("docs",), skipped=("test",))
        return FAILED

    world = MergeWorld(gates=gates)
    work = batch(change("sh-1"), gates=(DOCS, GATE))
    first = await merge(env, workers, world, work)
    tip = world.target
    later = work.model_copy(
        update={"changes": (change("sh-2"),), "seen": after(first, gates=(DOCS, GATE)), "number": 2}
    )
    world.gates = lambda held, run: FAILED
    outcome = await merge(env, workers, world, later)
    assert outcome.verdicts == ()
    assert outcome.target_red is not None
    assert outcome.target_red.sha == tip


async def test_a_target_that_fails_another_gate_does_not_excuse_a_change(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    docs_red = FAILED.model_copy(update={"gate": "docs", "passed": ("test",)})
    world = MergeWorld(gates=lambda held, run: FAILED if held else docs_red)
    outcome = await merge(env, workers, world, batch(change("sh-1"), gates=(GATE, DOCS)))
    assert kinds(outcome) == {"sh-1": VerdictKind.FAILED}
    assert by_bead(outcome)["sh-1"].gate == "test"


async def test_a_red_that_an_earlier_merge_saw_is_not_believed_while_the_target_is_not_cleared(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_with("sh-1"))
    work = batch(change("sh-1"))
    first = await merge(env, workers, world, work)
    only_the_red = tuple(known for known in first.commits if known.sha != "base")
    world.gates = lambda held, run: FAILED
    outcome = await merge(env, workers, world, again(work, first.model_copy(update={"commits": only_the_red})))
    assert (outcome.verdicts, outcome.target_red is not None) == ((), True)


async def test_what_was_red_on_a_red_target_is_gated_anew_once_the_target_is_green_as_it_stands(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: FAILED)
    work = batch(*map(change, beads(2)))
    first = await merge(env, workers, world, work)
    world.gates = red_with()
    outcome = await merge(env, workers, world, again(work, first, red=first.target_red))
    assert kinds(outcome) == dict.fromkeys(beads(2), VerdictKind.MERGED)
    assert outcome.target_cleared


async def test_a_target_that_was_red_is_gated_before_the_changes_are(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: FAILED)
    outcome = await merge(
        env, workers, world, batch(*map(change, beads(2)), confirm_runs="3").model_copy(update={"red": RED})
    )
    assert (outcome.target_red is not None, outcome.target_cleared) == (True, False)
    assert world.gated == ["base"], "one run: that it is still red is no news to confirm"


async def test_a_target_that_was_red_and_cannot_be_gated_is_the_gates_trouble(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    outcome = await merge(
        env,
        workers,
        MergeWorld(gates=lambda held, run: KILLED),
        batch(change("sh-1")).model_copy(update={"red": RED}),
    )
    assert "killed" in outcome.could_not_run
    assert (outcome.verdicts, outcome.target_red) == ((), None)


async def test_a_change_that_a_person_wants_tried_lands_on_a_red_target_that_it_mends(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=red_unless_mended)
    mends = {"red": RED, "mends": True}
    mended = await merge(env, workers, world, batch(change("sh-3")).model_copy(update=mends))
    assert (kinds(mended), mended.target_cleared) == ({"sh-3": VerdictKind.MERGED}, True)
    assert mended.gate_runs == 1

    world = MergeWorld(gates=red_unless_mended)
    did_not = await merge(env, workers, world, batch(change("sh-4"), number=2).model_copy(update=mends))
    assert (did_not.verdicts, did_not.target_red is not None) == ((), True)


async def test_behind_a_change_that_mends_the_target_a_culprit_is_found_as_ever(real_env: WorkflowEnvironment) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        return FAILED if "sh-5" in held else red_unless_mended(held, run)

    world = MergeWorld(gates=gates)
    first = batch(*map(change, ["sh-3", "sh-4"]), number=1)
    landed = await merge(real_env, workers_of(real_env), world, first)
    assert (len(landed.verdicts), landed.target_red) == (2, None), "the chain is green: nothing has to be cleared"
    outcome = await merge(real_env, workers_of(real_env), world, again(first, landed, changes=(change("sh-5"),)))
    assert kinds(outcome) == {"sh-5": VerdictKind.FAILED}
