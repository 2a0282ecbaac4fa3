"""A person's order to clean up, and errands to a host: what is asked of whom, and what the person is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from cli.frame.connect import as_gt_error
from models import names
from models.errors import ErrorCode
from models.mayor.mail import Message
from models.supervision.host_requests import DeliverLetter, Errand, ErrandResult, Nudge
from models.upkeep.cleanup import (
    CleanupAction,
    CleanupKind,
    CleanupOrder,
    CleanupReport,
    InspectPolecats,
    PolecatsFound,
)
from tests.policies.upkeep.test_cleanup_plan import job
from tests.workflows.conftest import HOST, WorkerBuilder
from tests.workflows.job.job_world import NOW, PostBox, rig
from tests.workflows.upkeep.cleanup_world import CleanupWorld
from workflows.upkeep.cleanup import CleanupWorkflow
from workflows.upkeep.host_request import ErrandWorkflow


@pytest.fixture
def world() -> CleanupWorld:
    return CleanupWorld()


@pytest.fixture
async def running(world: CleanupWorld, workers: WorkerBuilder) -> AsyncIterator[CleanupWorld]:
    async with workers(workflows=[CleanupWorkflow, ErrandWorkflow, PostBox], activities=world.activities):
        yield world


async def clean(env: WorkflowEnvironment, kind: CleanupKind, **more: object) -> CleanupReport:
    order = CleanupOrder.model_validate({"rig": rig(), "kind": kind, "hosts": (HOST,), "cause": "ada", **more})
    report: CleanupReport = await env.client.execute_workflow(
        CleanupWorkflow.run, order, id=names.cleanup_id("shop", "x"), task_queue=names.TOWN_QUEUE
    )
    return report


async def test_a_zombie_is_cleaned_and_the_person_told_where_its_work_is(
    env: WorkflowEnvironment, running: CleanupWorld
) -> None:
    (item,) = (await clean(env, CleanupKind.ZOMBIES)).items
    assert (item.action, item.parked_ref, item.kept_reason) == (
        CleanupAction.CLEAN, "refs/gastown/parked/sh-1/2", "",
    )  # fmt: skip
    (request,) = running.cleaned
    assert (request.bead, request.attempt, request.force) == ("sh-1", 2, False)
    assert request.cause == "ada: the job of sh-1 is over"


async def test_a_dry_run_asks_and_does_nothing(env: WorkflowEnvironment, running: CleanupWorld) -> None:
    (item,) = (await clean(env, CleanupKind.ZOMBIES, dry_run=True)).items
    assert item.action is CleanupAction.CLEAN
    assert running.cleaned == []


async def test_by_force_the_job_is_asked_to_let_go_and_the_rest_is_cleaned_after_it_has(
    env: WorkflowEnvironment, running: CleanupWorld
) -> None:
    running.jobs["sh-1"] = job(host=HOST)
    box = await env.client.start_workflow(PostBox.run, id=names.polecat_id("shop", "sh-1"), task_queue=names.TOWN_QUEUE)
    report = await clean(env, CleanupKind.POLECAT, polecat="toast", force=True)
    assert [item.action for item in report.items] == [CleanupAction.REASSIGN, CleanupAction.CLEAN]
    assert await box.query("signals", result_type=list[str]) == ["decision"]
    assert running.asked == running.lets_go_after + 1
    assert [request.force for request in running.cleaned] == [True]


async def test_a_job_that_does_not_let_go_in_time_is_told_of(env: WorkflowEnvironment, running: CleanupWorld) -> None:
    running.jobs["sh-1"] = job(host=HOST, health="stuck")
    running.lets_go_after = 10_000
    await env.client.start_workflow(PostBox.run, id=names.polecat_id("shop", "sh-1"), task_queue=names.TOWN_QUEUE)
    (item,) = (await clean(env, CleanupKind.STUCK)).items
    assert "has not let go" in item.kept_reason
    assert running.cleaned == []


async def test_what_cannot_be_cleaned_is_kept_and_the_next_one_is_still_done(
    env: WorkflowEnvironment, running: CleanupWorld
) -> None:
    running.refuse = "no space left"
    running.found.append(running.found[0].model_copy(update={"polecat": "nux"}))
    report = await clean(env, CleanupKind.ZOMBIES)
    assert [item.kept_reason for item in report.items] == ["no space left"] * 2
    assert len(running.cleaned) == 2


async def test_a_host_that_does_not_answer_is_named(
    env: WorkflowEnvironment, world: CleanupWorld, workers: WorkerBuilder
) -> None:
    @activity.defn(name="inspect_polecats")
    async def away(_request: InspectPolecats) -> PolecatsFound:
        raise ApplicationError("tmux does not answer", "L2", "", type="tmux_failed", non_retryable=True)

    others = [one for one in world.activities if one != world.inspect_polecats]
    async with workers(workflows=[CleanupWorkflow], activities=[*others, away]):
        report = await clean(env, CleanupKind.ZOMBIES)
    assert (report.items, report.unreached) == ((), (HOST,))


async def test_an_errand_ends_with_the_hosts_answer_or_its_refusal(
    env: WorkflowEnvironment, running: CleanupWorld
) -> None:
    errand = Errand(host=HOST, task=Nudge(rig="shop", polecat="toast", text="go on"))

    async def run(number: int, errand: Errand = errand) -> ErrandResult:
        result: ErrandResult = await env.client.execute_workflow(
            ErrandWorkflow.run, errand, id=names.errand_id(str(number)), task_queue=names.TOWN_QUEUE
        )
        return result

    assert await run(1) == ErrandResult()
    assert running.nudged == [errand.task.model_copy(update={"letter": names.errand_id("1")})]
    letter = Message(id="m1", sender="ada", recipient="shop/toast", subject="Hello", body="", sent_at=NOW)
    mail = DeliverLetter(rig="shop", polecat="toast", bead="sh-1", attempt=2, letter=letter)
    assert await run(3, Errand(host=HOST, task=mail)) == ErrandResult(delivered=True)
    running.refuse = "toast has no living session"
    with pytest.raises(WorkflowFailureError) as failed:
        await run(2)
    told = as_gt_error(failed.value)
    assert (told.code, told.message, told.hint) == (ErrorCode.REFUSED, running.refuse, "gt polecat list")
