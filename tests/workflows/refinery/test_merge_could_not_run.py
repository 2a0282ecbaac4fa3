"""Gates that could not run: who is blamed, what lands, and when the queue stands still."""

from __future__ import annotations

import pytest
from temporalio.testing import WorkflowEnvironment

from models.errors import Level
from models.job.messages import VerdictKind
from models.refinery.gates import GateOutcome, GateReport
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import JobProbe, eventually, start_job
from tests.workflows.refinery.merge_world import (
    FAILED,
    KILLED,
    PASSED,
    TIMED_OUT,
    MergeWorld,
    batch,
    beads,
    by_bead,
    change,
    kinds,
    merge,
)
from tests.workflows.refinery.refinery_yard import Open, verdicts

pytestmark = pytest.mark.own_clocks

REASONS = ("not_executable", "no_such_command", "killed", "timed_out", "disk_full")
"""each is caused for real in tests/activities/gates/test_gates_could_not_run.py"""


def stuck(reason: str) -> GateReport:
    return GateReport(outcome=GateOutcome.COULD_NOT_RUN, gate="test", reason=reason)


# --- the whole queue, for each reason -------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
async def test_with_a_healthy_control_the_change_is_sent_back_and_the_queue_goes_on(
    env: WorkflowEnvironment, yard: Open, reason: str
) -> None:
    world = MergeWorld(gates=lambda held, run: stuck(reason) if "sh-1" in held else PASSED)
    async with yard(world, retry_count=0) as town:
        job = await start_job(env, "sh-1")
        await town.submit(change("sh-1"))
        assert await verdicts(job) == [("sh-1.1", VerdictKind.FAILED)]
        (told,) = (await job.query(JobProbe.heard)).verdicts
        assert told.detail == f"gate test: {reason}"
        await town.submit(change("sh-2"))
        await town.settled()
        assert (world.landed, town.post.letters) == (("sh-2",), [])
        assert not (await town.queue()).paused


@pytest.mark.parametrize("reason", REASONS)
async def test_with_a_failing_control_nothing_is_blamed_nothing_merges_the_queue_pauses_and_a_person_is_called(
    env: WorkflowEnvironment, yard: Open, reason: str
) -> None:
    world = MergeWorld(gates=lambda held, run: stuck(reason))
    async with yard(world, retry_count=0) as town:
        job = await start_job(env, "sh-1")
        await town.submit(*map(change, beads(2)))

        async def paused() -> bool:
            return (await town.queue()).paused and bool(town.post.letters)

        await eventually(paused)
        (letter,) = town.post.letters
        assert (letter.kind, letter.level, letter.rig) == ("gate_broken", Level.L3.value, "shop")
        assert reason in letter.message
        assert reason in (await town.queue()).pause_reason
        assert sorted(await town.waiting()) == beads(2)
        assert (world.landed, world.landings) == ((), [])
        assert (await job.query(JobProbe.heard)).verdicts == (), "nobody is blamed"


# --- one merge ------------------------------------------------------------------------------------


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


async def test_a_target_that_is_red_itself_is_not_blamed_on_a_change(
    env: WorkflowEnvironment, workers: WorkerBuilder
) -> None:
    world = MergeWorld(gates=lambda held, run: TIMED_OUT if held else FAILED)
    outcome = await merge(env, workers, world, batch(change("sh-1")))
    assert (outcome.verdicts, outcome.could_not_run) == ((), "")
    assert outcome.target_red is not None
    assert "gate test failed" in outcome.target_red.why


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
        if len(held) <= 4:
            return PASSED
        return KILLED if run == 1 else TIMED_OUT

    world = MergeWorld(gates=gates)
    outcome = await merge(env, workers, world, batch(*map(change, beads(8))))
    assert outcome.could_not_run
    assert kinds(outcome) == dict.fromkeys(world.landed, VerdictKind.MERGED)
    assert len(world.landed) > 0
