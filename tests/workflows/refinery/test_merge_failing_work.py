"""Host work of a merge that fails: bounded where it may be a change's fault, told to a person where it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models.errors import ErrorCode
from models.job.messages import VerdictKind
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import BuildChain, Chain, DropKind, LandChain, LandResult
from policies.refinery.merge_failures import TOLD_AFTER
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually
from tests.workflows.refinery.merge_world import (
    PASSED,
    MergeWorld,
    batch,
    beads,
    by_bead,
    change,
    kinds,
    merge,
    red_with,
)
from tests.workflows.refinery.refinery_yard import Open
from workflows.refinery.merge import BROKEN_CHANGE

KINDS = pytest.mark.parametrize("kind", [ErrorCode.GIT_FAILED.value, "RecursionError"])
"""what git says, and what nobody thought of"""
Fails = Callable[[Collection[str]], bool]


@dataclass
class FailingWorld(MergeWorld):
    """Work fails, by the beads that it is about."""

    kind: str = ErrorCode.GIT_FAILED.value
    builds_fail: Fails = lambda held: False
    gates_fail: Fails = lambda held: False
    landings_fail: Fails = lambda held: False
    tries: int = 0

    def fail(self, now: bool) -> None:
        self.tries += 1
        if now:
            raise ApplicationError("fatal: cannot create 'a/b': File name too long", type=self.kind)

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        self.fail(self.builds_fail([each.bead for each in request.changes]))
        return await super().build_chain(request)

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        self.fail(self.gates_fail(self.holds[request.sha]))
        return await super().run_gates(request)

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        self.fail(self.landings_fail([link.bead for link in request.links]))
        return await super().land_chain(request)


@KINDS
async def test_a_change_with_which_no_chain_can_be_built_goes_back_in_gits_words_and_the_others_land(
    env: WorkflowEnvironment, workers: WorkerBuilder, kind: str
) -> None:
    world = FailingWorld(kind=kind, builds_fail=lambda held: "sh-3" in held)
    outcome = await merge(env, workers, world, batch(*map(change, beads(6))))
    assert kinds(outcome) == {bead: VerdictKind.MERGED for bead in beads(6)} | {"sh-3": VerdictKind.FAILED}
    assert "File name too long" in by_bead(outcome)["sh-3"].detail
    assert world.tries < 50, "bounded"


async def test_a_host_that_builds_no_chain_at_all_blames_nobody(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = FailingWorld(builds_fail=lambda held: True)
    outcome = await merge(env, workers, world, batch(*map(change, beads(3))))
    assert outcome.verdicts == ()
    assert "File name too long" in outcome.stalled


async def test_a_change_that_the_builder_leaves_out_goes_back_in_gits_words(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(drops={"sh-2": DropKind.BROKEN})
    outcome = await merge(env, workers, world, batch(*map(change, beads(3))))
    assert kinds(outcome)["sh-2"] is VerdictKind.FAILED
    assert by_bead(outcome)["sh-2"].detail.startswith(BROKEN_CHANGE)
    assert world.landed == ("sh-1", "sh-3")


@KINDS
async def test_a_change_that_cannot_be_checked_out_is_found_and_goes_back_and_the_others_land(
    env: WorkflowEnvironment, workers: WorkerBuilder, kind: str
) -> None:
    world = FailingWorld(kind=kind, gates_fail=lambda held: "sh-3" in held)
    outcome = await merge(env, workers, world, batch(*map(change, beads(5))))
    assert kinds(outcome) == {bead: VerdictKind.MERGED for bead in beads(2)} | {"sh-3": VerdictKind.FAILED}
    assert "File name too long" in by_bead(outcome)["sh-3"].detail
    assert world.gated.count("base") == 1, "the control"


async def test_where_the_target_cannot_be_checked_out_either_nobody_is_blamed(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    outcome = await merge(env, workers, FailingWorld(gates_fail=lambda held: True), batch(change("sh-1")))
    assert outcome.verdicts == ()
    assert "git_failed" in outcome.could_not_run


async def test_a_landing_that_fails_for_no_known_reason_stalls_and_is_found_by_the_next_merge(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = FailingWorld(landings_fail=lambda held: True)
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    assert (outcome.verdicts, outcome.unsure) == ((), ("sh-1.1",))
    assert "File name too long" in outcome.stalled


async def test_what_works_again_after_a_moment_blames_nobody(env: WorkflowEnvironment, workers: WorkerBuilder) -> None:
    world = FailingWorld()
    world.builds_fail = lambda held: world.tries < 4
    world.gates_fail = lambda held: world.tries < 8
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == dict.fromkeys(beads(2), VerdictKind.MERGED)
    assert (outcome.gate_runs, outcome.could_not_run) == (1, "")


@pytest.mark.parametrize("part", ["builds_fail", "gates_fail", "landings_fail"])
async def test_a_merge_that_waits_for_the_remote_tells_a_person_once_goes_on_trying_and_says_when_it_is_over(
    env: WorkflowEnvironment, yard: Open, part: str
) -> None:
    away = True
    world = FailingWorld(kind=ErrorCode.REMOTE_UNREACHABLE.value, gates=red_with())
    setattr(world, part, lambda held: away)
    async with yard(world) as town:
        await town.submit(change("sh-1"))
        await env.sleep(TOLD_AFTER * 3)

        async def told() -> bool:
            return bool(town.post.letters)

        await eventually(told, what="a person to be called")
        (letter,) = town.post.letters
        assert letter.kind == "refinery_stalled"
        assert "has not come about for" in letter.message
        assert "File name too long" in letter.message, "the last words"
        await env.sleep(timedelta(hours=1))
        assert len(town.post.letters) == 1
        away = False
        await env.sleep(timedelta(minutes=3))
        assert world.landed == ("sh-1",)

        async def over() -> bool:
            return town.post.over == [letter.id]

        await eventually(over, what="the Mayor to hear that it is over")


async def test_a_merge_that_gets_on_calls_nobody(env: WorkflowEnvironment, yard: Open) -> None:
    world = MergeWorld(gates=lambda held, run: PASSED)
    async with yard(world) as town:
        await town.submit(*map(change, beads(3)))
        await town.settled()
        await env.sleep(timedelta(hours=1))
        assert town.post.letters == []
