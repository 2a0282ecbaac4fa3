"""Temporal has lost everything: slung again, each job goes on where the record has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities.job_start import JobStartActivities
from models import names
from models.job.messages import AttemptNote, Decision, DecisionKind, JobStarted, StartJob, UnfinishedJob, VerdictKind
from models.ledger.records import JobRow, JobState, MergeRequest
from models.mayor.mail import Message
from policies.dispatch.allocation import NAMES
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import NOW, JobWorld, PostBox, Town
from tests.workflows.probes import eventually
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: JobWorld) -> AsyncIterator[Town]:
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            yield await Town.open(env, world)

    return start


def unfinished(state: JobState, bead: str = "sh-1", attempt: int = 3, polecat: str | None = "toast") -> UnfinishedJob:
    """A job whose first attempt was number 2."""
    row = JobRow(
        bead=bead, rig="shop", workflow_id=names.polecat_id("shop", bead), state=state, attempt=attempt, sequence=4,
        polecat=polecat, host=HOST if polecat else None, head_sha="a" * 40, restarts=1, reworks=1, agent="claude",
        started_at=NOW, updated_at=NOW,
    )  # fmt: skip
    request = MergeRequest(
        id=f"{bead}.{attempt}", rig="shop", bead=bead, title="x", polecat="toast", attempt=attempt,
        branch=names.job_branch(bead), head_sha="a" * 40, target="main", submitted_at=NOW,
    )  # fmt: skip
    notes = (AttemptNote(attempt=2, kind="merge_failed", text="MERGE_FAILED: gate test failed"),)
    return UnfinishedJob(
        row=row, attempts_before=1, notes=notes, merge_request=request if state is JobState.SUBMITTED else None,
        sent_back=(_letter(bead),),
    )  # fmt: skip


def _letter(bead: str) -> Message:
    failed = {"kind": "MERGE_FAILED", "bead": bead, "attempt": 2, "gate": "test", "log_tail": "E 1 != 2",
              "log_path": "/logs/gates/2.log"}  # fmt: skip
    subject = f"MERGE_FAILED {bead}"
    return Message(
        id=f"{bead}.2.3.MERGE_FAILED", sender="shop/refinery", recipient="shop/toast", subject=subject, protocol=failed,
        sent_at=NOW,
    )  # fmt: skip


async def test_a_living_agent_is_found_again_and_its_attempt_goes_on(town: Open) -> None:
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.WORKING)})) as shop:
        await shop.sling("sh-1")
        status = await shop.reach("sh-1", JobState.WORKING, 3)
        (asked,) = shop.world.started
        assert (asked.adopt, asked.attempt, asked.first_attempt, asked.polecat) == (True, 3, 2, "toast")
        assert (status.restarts, status.reworks) == (1, 1)
        await shop.submit_work("sh-1", 3)
        await shop.merge("sh-1")
        pairs = [(write.attempt, write.sequence) for write in shop.world.writes]
        assert pairs == sorted(set(pairs))
        assert pairs[0] == (3, 5)
        assert shop.world.events("sh-1") == ["rebuilt", "working", "submitted", "merged"]


class BothAtOnce(JobWorld):
    """Two jobs are being started before the record tells of either."""

    asked: frozenset[str] = frozenset()

    @activity.defn
    async def start_job(self, order: StartJob) -> JobStarted:
        self.asked |= {order.sling.bead}
        while len(self.asked) < 2:
            await asyncio.sleep(0.01)
        return await JobStartActivities(activity.client(), self.admit_bead).start_job(order)


async def test_jobs_that_go_on_at_the_same_time_keep_their_own_polecats(town: Open) -> None:
    """Each has a slot kept for it under the other's name until the record has told of it."""
    first, second = NAMES[0], NAMES[1]
    known = {
        bead: unfinished(JobState.WORKING, bead, polecat=name) for bead, name in (("sh-1", second), ("sh-2", first))
    }
    async with town(BothAtOnce(unfinished=known)) as shop:
        await asyncio.gather(shop.rebuild("sh-1"), shop.rebuild("sh-2"))
        for bead in known:
            await shop.reach(bead, JobState.WORKING, 3)
        assert {asked.bead: (asked.adopt, asked.polecat) for asked in shop.world.started} == {
            "sh-1": (True, second),
            "sh-2": (True, first),
        }


async def test_an_agent_that_is_gone_is_followed_by_an_attempt_of_a_new_number_that_is_told_what_was_said(
    town: Open,
) -> None:
    world = JobWorld(known_attempt=3, unfinished={"sh-1": unfinished(JobState.WORKING)})
    async with town(world) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 4)
        found, begun = shop.world.started
        assert (found.adopt, begun.adopt) == (True, False)
        assert (begun.attempt, begun.first_attempt, begun.polecat) == (4, 2, "toast")
        assert [note.kind for note in begun.notes] == ["merge_failed"]
        assert "E 1 != 2" in begun.notes[0].text
        assert begun.failure_log == "/logs/gates/2.log"


async def test_an_agent_that_is_gone_whose_work_has_landed_is_not_followed_by_another(town: Open) -> None:
    world = JobWorld(known_attempt=3, landed="c" * 40, unfinished={"sh-1": unfinished(JobState.WORKING)})
    async with town(world) as shop:
        await shop.sling("sh-1")
        await shop.job("sh-1").result()
        assert shop.world.events("sh-1") == ["rebuilt", "merged"]
        assert len(shop.world.started) == 1


async def test_work_that_waited_for_its_merge_is_handed_in_again_without_an_agent(town: Open) -> None:
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.SUBMITTED)})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.SUBMITTED, 3)
        refinery = shop.env.client.get_workflow_handle(names.refinery_id("shop"))

        async def offered() -> bool:
            return "submit" in await refinery.query("signals", result_type=list[str])

        await eventually(offered, what="the merge request to be handed in")
        await shop.merge("sh-1")
        assert shop.world.started == []
        assert shop.world.events("sh-1") == ["rebuilt", "merged"]


async def test_what_waited_for_a_person_waits_on_and_the_person_is_told_again(town: Open) -> None:
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.BLOCKED)})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.BLOCKED, 3)

        async def told() -> bool:
            return [letter.kind for letter in shop.world.letters] == ["help"]

        await eventually(told, what="the person to be told")
        await shop.decide("sh-1", Decision(kind=DecisionKind.RETRY))
        await shop.reach("sh-1", JobState.WORKING, 4)


@pytest.mark.parametrize(("attempt", "first"), [(1, 2), (3, 4)])
async def test_what_waited_for_a_slot_gets_one(town: Open, attempt: int, first: int) -> None:
    polecat = "toast" if attempt == 3 else None
    async with town(
        JobWorld(unfinished={"sh-1": unfinished(JobState.WAITING, attempt=attempt, polecat=polecat)})
    ) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, first)
        (asked,) = shop.world.started
        assert (asked.adopt, asked.polecat) == (False, "toast")


async def test_a_polecat_stays_with_the_job_that_had_it(town: Open) -> None:
    """sh-1 waits for a person, and its worktree holds its work: nobody else may be given that name."""
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.BLOCKED)})) as shop:
        await shop.sling("sh-1")
        await shop.sling("sh-2")
        await shop.reach("sh-2", JobState.WORKING)
        assert (await shop.status("sh-1")).polecat == "toast"
        assert (await shop.status("sh-2")).polecat != "toast"


async def test_a_polecat_that_another_job_has_meanwhile_is_left_to_that(town: Open) -> None:
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.WORKING)})) as shop:
        await shop.sling("sh-2")
        assert (await shop.reach("sh-2", JobState.WORKING)).polecat == "toast"
        await shop.sling("sh-1")
        assert (await shop.reach("sh-1", JobState.WORKING, 4)).polecat != "toast"


async def test_a_job_that_runs_is_not_touched(town: Open) -> None:
    async with town(JobWorld()) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        shop.world.unfinished["sh-1"] = unfinished(JobState.SUBMITTED)
        await shop.sling("sh-1")
        status = await shop.status("sh-1")
        assert (status.state, status.attempt) == (JobState.WORKING, 1)


async def test_a_job_that_was_ended_is_begun_again_at_once_although_its_dispatcher_knows_it(town: Open) -> None:
    async with town(JobWorld()) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.job("sh-1").terminate("its code fails")
        shop.world.gone = {names.polecat_id("shop", "sh-1")}
        shop.world.unfinished["sh-1"] = unfinished(JobState.WORKING)
        await shop.rebuild("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 3)
        assert shop.world.started[-1].adopt, "its agent may live"
        shop.world.gone = set()
        await shop.rebuild("sh-1")
        assert (await shop.status("sh-1")).attempt == 3
        assert len(shop.world.started) == 2, "one that runs is not touched"


async def test_a_change_cleared_out_of_the_queue_is_handed_in_again_without_an_agent(town: Open) -> None:
    request = unfinished(JobState.SUBMITTED).merge_request
    assert request is not None
    async with town(JobWorld(highest_attempt=3, out_of_queue={"sh-1": request})) as shop:
        await shop.sling("sh-1")
        status = await shop.reach("sh-1", JobState.SUBMITTED, 3)
        assert (status.head_sha, shop.world.started) == (request.head_sha, [])
        await shop.merge("sh-1")
        assert shop.world.events("sh-1") == ["hooked", "submitted", "merged"]
        again = next(write.merge_request for write in shop.world.writes if write.event == "submitted")
        assert again is not None
        assert again.id == request.id
        assert again.submitted_at > request.submitted_at, "the Refinery takes it for a new telling"


async def test_a_change_handed_in_again_that_is_sent_back_gets_an_agent(town: Open) -> None:
    request = unfinished(JobState.SUBMITTED).merge_request
    assert request is not None
    async with town(JobWorld(highest_attempt=3, out_of_queue={"sh-1": request})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.SUBMITTED, 3)
        await shop.judge("sh-1", VerdictKind.FAILED, gate="test")
        await shop.reach("sh-1", JobState.WORKING, 4)


async def test_an_integration_branch_that_is_sent_back_is_repaired_by_merging_and_stays_whole(town: Open) -> None:
    tip = "c" * 40
    request = unfinished(JobState.SUBMITTED, attempt=0).merge_request
    assert request is not None
    whole = request.model_copy(update={"head_sha": tip, "whole": tip})
    async with town(JobWorld(integrates_sha=tip, out_of_queue={"sh-1": whole})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.SUBMITTED, 0)
        await shop.judge("sh-1", VerdictKind.CONFLICT, files=("till.py",))
        await shop.reach("sh-1", JobState.WORKING, 1)
        note = shop.world.started[-1].notes[-1].text
        assert "merge origin/main into your branch (never rebase it)" in note
        await shop.submit_work("sh-1", 1)
        await shop.recorded("sh-1", "submitted", 2)
        requests = [write.merge_request for write in shop.world.writes if write.event == "submitted"]
        assert [(each.id, each.whole) for each in requests if each] == [("sh-1.0", tip), ("sh-1.1", tip)]


async def test_a_job_whose_change_was_cleared_says_so_in_its_story(town: Open) -> None:
    async with town(JobWorld(unfinished={"sh-1": unfinished(JobState.SUBMITTED)})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.SUBMITTED, 3)
        await shop.judge("sh-1", VerdictKind.RETURNED, cleared=True, detail="the merge queue was cleared")
        await shop.job("sh-1").result()
        assert shop.world.events("sh-1")[-2:] == ["cleared", "abandoned"]
