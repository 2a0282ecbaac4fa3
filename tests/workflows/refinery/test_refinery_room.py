"""More changes than a Refinery can carry: what does not fit waits in the ledger, and comes in when there is room."""

from __future__ import annotations

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import Verdict, VerdictKind
from models.ledger.records import MergeRequest, TargetBase
from models.refinery.answers import ItemRef
from models.refinery.gates import GatedCommit, GateOutcome, GateReport, Seen
from models.refinery.messages import QueueStatus
from policies.dispatch.room import CHANGES_BYTES, REASON_LENGTH, change_bytes
from policies.refinery.merge_rates import COMMITS_KEPT
from tests.workflows.conftest import workers_of
from tests.workflows.probes import eventually, runs_of, start_job
from tests.workflows.refinery.merge_world import START, MergeWorld, beads, change
from tests.workflows.refinery.refinery_yard import verdicts, yard_in
from workflows.refinery.queue import REMEMBERED, REMEMBERED_DETAIL
from workflows.refinery.state import MERGES_NOTED, Decided, MergeNote, QueueEntry, RefineryState
from workflows.refinery.views import IN_LEDGER
from workflows.refinery.workflow import RefineryWorkflow


async def test_one_too_many_waits_in_the_ledger_and_all_land(real_env: WorkflowEnvironment) -> None:
    changes = [change(bead) for bead in beads(5)]
    world, capacity = MergeWorld(), 2 * change_bytes(changes[0])
    async with yard_in(real_env, workers_of(real_env))(world, capacity=capacity) as town:
        jobs = [await start_job(real_env, each.bead) for each in changes]
        await town.pause()
        await town.submit(*changes)
        queue = await town.queue()
        assert [item.bead for item in queue.items] == ["sh-1", "sh-2"]
        assert queue.more_in_ledger
        why = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-3.1"))
        assert (why.known, why.words) == (False, (IN_LEDGER,))
        town.record.queued += changes
        await town.resume()
        for job, each in zip(jobs, changes, strict=True):
            assert await verdicts(job) == [(each.id, VerdictKind.MERGED)]
            town.record.queued.remove(each)
        assert sorted(world.landed) == beads(5)


async def test_what_is_taken_back_while_it_waits_in_the_ledger_does_not_come_in(real_env: WorkflowEnvironment) -> None:
    first, second = change("sh-1"), change("sh-2")
    async with yard_in(real_env, workers_of(real_env))(capacity=change_bytes(first)) as town:
        job = await start_job(real_env, "sh-2")
        await town.pause()
        await town.submit(first, second)
        # The ledger has not heard of it yet.
        town.record.queued.append(second)
        await town.withdraw("sh-2")
        assert await verdicts(job) == [("sh-2.1", VerdictKind.RETURNED)]
        await town.resume()
        await town.settled()
        assert town.world.landed == ("sh-1",)


async def test_a_cleared_queue_also_returns_what_waits_in_the_ledger(real_env: WorkflowEnvironment) -> None:
    changes = [change(bead) for bead in beads(5)]
    async with yard_in(real_env, workers_of(real_env))(capacity=2 * change_bytes(changes[0])) as town:
        jobs = [await start_job(real_env, each.bead) for each in changes]
        await town.pause()
        # Before they are handed in: a read that finds nothing there yet would tell the queue that nothing waits.
        town.record.queued += changes
        await town.submit(*changes)
        cleared = await town.clear()
        # What comes in from the ledger within ten seconds is named as well: not on a busy machine.
        assert {"sh-1.1", "sh-2.1"} <= {*cleared.returned} <= {each.id for each in changes}
        for job, each in zip(jobs, changes, strict=True):
            assert await verdicts(job) == [(each.id, VerdictKind.RETURNED)]
        await town.resume()
        assert not (await town.queue()).items
        assert not town.world.landed


async def test_a_refinery_that_is_full_hands_over(real_env: WorkflowEnvironment) -> None:
    """At the real bound, on the server that takes no message above 2 MB."""
    async with yard_in(real_env, workers_of(real_env))() as town:
        await town.refinery.terminate("begin anew")
        state = full(0).model_copy(update={"patience": 2})
        refinery = await real_env.client.start_workflow(
            RefineryWorkflow.run, state, id=names.refinery_id("shop"), task_queue=names.TOWN_QUEUE
        )
        before = await runs_of(refinery)
        town.record.queued = [change("sh-1"), change("sh-2")]
        for one_more in town.record.queued:
            await refinery.signal(RefineryWorkflow.submit, one_more)

        async def handed_over() -> bool:
            return await runs_of(refinery) != before

        await eventually(handed_over, what="the next run")
        queue = await real_env.client.get_workflow_handle(refinery.id).query("queue", result_type=QueueStatus)
        assert len(queue.items) == len(state.entries)
        assert queue.more_in_ledger


def full(bases: int) -> RefineryState:
    """As many changes as fit, each as large as it may become, beside all verdicts that are remembered."""

    def request(number: int) -> MergeRequest:
        held = tuple(TargetBase(target="main", sha="b" * 40) for _ in range(bases))
        return change(f"sh-{number:012d}").model_copy(
            update={"title": "Ünïcode " * 6, "head_sha": "a" * 40, "bases": held, "polecat": "p" * 40}
        )

    def verdict(number: int) -> Verdict:
        return Verdict(
            merge_request=f"sh-{number:012d}.1", bead=f"sh-{number:012d}", attempt=1, kind=VerdictKind.FAILED,
            base_sha="b" * 40, gate="test", detail="x" * (REMEMBERED_DETAIL // REMEMBERED),
            log_path=f"/srv/town/{'deep/' * 10}test.log", submitted_at=START,
        )  # fmt: skip

    report = GateReport(outcome=GateOutcome.FAILED, gate="test", exit_code=1, tail="x" * 4096, log_path="/srv/t.log")
    return RefineryState(
        rig="shop",
        stopped=True,
        entries=tuple(
            QueueEntry(
                request=request(number), arrived=number, needs=("sh-000000000000",), held=True,
                reason="r" * REASON_LENGTH, tried_on="c" * 40, attempts=12,
            )
            for number in range(CHANGES_BYTES // change_bytes(request(0)))
        ),
        decided=tuple(Decided(verdict=verdict(number), submitted_at=START, at=START) for number in range(REMEMBERED)),
        noted=(MergeNote(number=1, at=START),) * MERGES_NOTED,
        seen=Seen(commits=(GatedCommit(sha="a" * 40, report=report, reds=2),) * COMMITS_KEPT),
    )  # fmt: skip


@pytest.mark.parametrize("bases", [0, 30])
def test_a_full_refinery_fits_into_a_message(bases: int) -> None:
    state = full(bases)
    assert len(state.entries) > 200
    assert len(state.model_dump_json().encode()) < 1_900_000
