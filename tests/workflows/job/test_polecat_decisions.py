"""Which decisions a job follows: each once, and none about what is over or about the bead's earlier life."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from models.job.messages import Decision, DecisionKind, ObservationKind, SlingRequest, VerdictKind
from models.ledger.records import JobState, MergeRequest
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.job.job_world import NOW, JobWorld, PostBox, Town
from tests.workflows.probes import eventually, runs_of
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.state import PolecatState
from workflows.job.workflow import PolecatWorkflow

Open = Callable[..., contextlib.AbstractAsyncContextManager[Town]]

RETRY = Decision(kind=DecisionKind.RETRY, reason="mended")
ABANDON = Decision(kind=DecisionKind.ABANDON, reason="not worth it")


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: JobWorld | None = None) -> AsyncIterator[Town]:
        world = world or JobWorld()
        async with workers(workflows=[DispatchWorkflow, PolecatWorkflow, PostBox], activities=world.activities):
            yield await Town.open(env, world)

    return start


def about(decision: Decision, escalation: str, **more: object) -> Decision:
    return decision.model_copy(update={"escalation": escalation, **more})


async def recorded(shop: Town, *events: str) -> None:
    """Wait until the job's story ends so."""

    async def so() -> bool:
        return shop.world.events("sh-1")[-len(events) :] == list(events)

    await eventually(so, what=f"{events} to be recorded")


async def stuck(shop: Town, attempt: int) -> str:
    """The agent of this attempt is stuck. Returns: the escalation about it."""
    await shop.reach("sh-1", JobState.WORKING, attempt)
    await shop.observe("sh-1", ObservationKind.STUCK, detail="no progress")
    await recorded(shop, "stuck")
    return f"sh-1.{attempt}.polecat_stuck"


async def test_a_decision_that_is_told_again_ends_no_healthy_session(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        decided = about(RETRY, await stuck(shop, 1))
        await shop.decide("sh-1", decided)
        await shop.decide("sh-1", decided)
        await recorded(shop, "starting", "working")
        await shop.decide("sh-1", decided)
        await recorded(shop, "decision_without_effect")
        assert (await shop.reach("sh-1", JobState.WORKING, 2)).restarts == 0
        assert [start.attempt for start in shop.world.started] == [1, 2]


async def test_a_decision_about_the_bead_s_earlier_life_is_dropped(town: Open) -> None:
    async with town(JobWorld(highest_attempt=3)) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 4)
        await recorded(shop, "working")
        await shop.decide("sh-1", about(ABANDON, "sh-1.3.help", tellings=("sh-1.3.help", "sh-1.2.help")))
        await recorded(shop, "working", "decision_without_effect")
        assert (await shop.status("sh-1")).state is JobState.WORKING
        assert "sh-1.3.help, which is over" in shop.world.writes[-1].detail


async def test_a_decision_finds_the_job_under_whichever_of_its_ids_the_job_has_open(town: Open) -> None:
    """The Mayor's case began in the bead's earlier life, or with a telling that is over."""
    async with town(JobWorld(highest_attempt=1)) as shop:
        await shop.sling("sh-1")
        fault = await stuck(shop, 2)
        await shop.decide("sh-1", about(RETRY, "sh-1.1.polecat_stuck", tellings=("sh-1.1.polecat_stuck", fault)))
        await shop.reach("sh-1", JobState.WORKING, 3)


async def test_an_agent_s_question_can_be_answered_although_another_attempt_has_begun(town: Open) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await shop.observe("sh-1", ObservationKind.HELP, detail="which database?", intent="help-1.json")
        await recorded(shop, "help")
        await shop.escalated("help")
        await shop.observe("sh-1", ObservationKind.DIED, exit_code=1)
        await shop.reach("sh-1", JobState.WORKING, 2)
        await shop.decide("sh-1", about(ABANDON, shop.world.letters[0].id))
        await shop.job("sh-1").result()
        assert shop.world.events("sh-1")[-1] == "abandoned"


@pytest.mark.parametrize(("earlier", "followed"), [(timedelta(days=1), False), (timedelta(days=-1), True)])
async def test_what_somebody_else_reported_counts_if_it_was_reported_in_the_job_s_life(
    town: Open, earlier: timedelta, followed: bool
) -> None:
    async with town() as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.WORKING, 1)
        await recorded(shop, "working")
        opened = shop.world.writes[0].at - earlier
        await shop.decide("sh-1", about(RETRY, "polecat_exhausted-1a2b", opened_at=opened))
        await shop.reach("sh-1", JobState.WORKING, 2 if followed else 1)
        await recorded(shop, *(["starting", "working"] if followed else ["decision_without_effect"]))


async def test_a_fault_that_was_told_in_an_earlier_run_can_be_decided_in_a_later_one_and_once(
    env: WorkflowEnvironment, town: Open
) -> None:
    async with town() as shop:
        admission = await shop.world.admit_bead(SlingRequest(bead="sh-1", rig="shop"))
        job = await env.client.start_workflow(
            PolecatWorkflow.run,
            PolecatState(admission=admission, patience=3),
            id="polecat/shop/sh-1",
            task_queue="town",
        )
        decided = about(RETRY, await stuck(shop, 1))
        first = await runs_of(job)
        await shop.observe("sh-1", ObservationKind.STALE)

        async def handed_over() -> bool:
            return await runs_of(job) != first and "stale" in shop.world.events("sh-1")

        await eventually(handed_over, what="the next run")
        await shop.decide("sh-1", decided)
        await shop.reach("sh-1", JobState.WORKING, 2)
        for _ in range(4):
            await shop.decide("sh-1", decided)
        await recorded(shop, *["decision_without_effect"] * 4)
        assert (await shop.status("sh-1")).attempt == 2


async def test_a_change_that_was_handed_in_again_is_not_given_up_by_its_earlier_return(town: Open) -> None:
    """A Refinery whose code failed clears its queue once more, of what had been in it then."""
    handed_in = MergeRequest(
        id="sh-1.1", rig="shop", bead="sh-1", title="x", polecat="toast", attempt=1, branch="gt/sh-1",
        head_sha="a" * 40, target="main", submitted_at=NOW,
    )  # fmt: skip
    async with town(JobWorld(highest_attempt=1, out_of_queue={"sh-1": handed_in})) as shop:
        await shop.sling("sh-1")
        await shop.reach("sh-1", JobState.SUBMITTED, 1)
        await shop.judge("sh-1", VerdictKind.RETURNED, cleared=True, submitted_at=handed_in.submitted_at)
        await shop.merge("sh-1")
        assert "abandoned" not in shop.world.events("sh-1")
        assert shop.world.events("sh-1")[-1] == "merged"
