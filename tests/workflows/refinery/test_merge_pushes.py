"""MergeWorkflow: remotes that refuse, targets that move, hosts that cannot work."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import VerdictKind
from models.refinery.messages import BuildChain, Chain, DropKind
from tests.workflows.conftest import WorkerBuilder, workers_of
from tests.workflows.refinery.merge_world import (
    REFUSED,
    MergeWorld,
    batch,
    beads,
    change,
    kinds,
    merge,
    red_with,
)
from workflows.refinery.merge import MergeWorkflow

pytestmark = pytest.mark.own_clocks


@pytest.mark.document("5: 推送失败")
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
    outcome = await merge(env, workers, world, batch(*map(change, beads(2))))
    assert kinds(outcome) == {"sh-1": VerdictKind.MERGED, "sh-2": VerdictKind.FAILED}
    assert world.landed == ("someone-else", "sh-1")
    assert outcome.gate_runs == 4, "both, the target, the first alone; the culprit is not gated again"


async def test_a_target_that_moves_in_the_middle_of_a_search_is_rebuilt_at_once(real_env: WorkflowEnvironment) -> None:
    world = MergeWorld(gates=red_with("sh-3"), pushes=["someone-else"])
    outcome = await merge(real_env, workers_of(real_env), world, batch(*map(change, beads(4))))
    assert kinds(outcome) == {
        "sh-1": VerdictKind.MERGED,
        "sh-2": VerdictKind.MERGED,
        "sh-3": VerdictKind.FAILED,
    }
    assert world.landed == ("someone-else", "sh-1", "sh-2")
    assert world.builds == 2


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
