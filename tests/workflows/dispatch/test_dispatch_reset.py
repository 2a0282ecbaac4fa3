"""A dispatcher that is reset knows the slots of the jobs that run, and of the one that it was starting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import (
    DispatchFacts,
    DispatchFactsRequest,
    DispatchStatus,
    JobStarted,
    SlotGrant,
    SlotRequest,
    StartJob,
    UnfinishedJob,
)
from models.ledger.records import JobRow, JobState
from models.supervision.messages import RestartWorkflow
from policies.dispatch.allocation import Allocation
from services.temporal.restarts import restart
from tests.workflows.conftest import HOST, workers_of
from tests.workflows.job.job_world import NOW, JobWorld, PostBox, Town, rig
from workflows.dispatch.state import DispatchedJob
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow


@dataclass
class AnswerLost(JobWorld):
    """What `start_job` answers first never reaches the run that asked."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn
    async def start_job(self, order: StartJob) -> JobStarted:
        started = await super().start_job(order)
        if not self.begun.is_set():
            self.begun.set()
            await self.over.wait()
        return started


@pytest.mark.parametrize("recorded", [None, JobState.WAITING, JobState.WORKING])
async def test_a_reset_while_a_job_is_started_grants_its_slot_to_nobody_else(
    real_env: WorkflowEnvironment, recorded: JobState | None
) -> None:
    """However far the ledger has followed it."""
    world = AnswerLost(rig=rig(max_polecats=1))
    workflows = [DispatchWorkflow, PolecatWorkflow, PostBox]
    async with workers_of(real_env)(workflows=workflows, activities=world.activities):
        shop = await Town.open(real_env, world)
        asked = asyncio.create_task(shop.sling("sh-1"))
        await world.begun.wait()
        working = await shop.reach("sh-1", JobState.WORKING, 1)
        if recorded is not None:
            where = {"polecat": working.polecat, "host": HOST} if recorded is JobState.WORKING else {}
            world.unfinished["sh-1"] = UnfinishedJob(row=job_row("sh-1", recorded, **where))
        await restart(real_env.client, RestartWorkflow(workflow_id=names.dispatch_id("shop")))
        await shop.sling("sh-1")
        await shop.sling("sh-2")
        status: DispatchStatus = await shop.dispatch.query("status", result_type=DispatchStatus)
        known = {job.bead: (job.holds_slot, job.polecat, job.host) for job in status.jobs}
        assert known == {"sh-1": (True, working.polecat, HOST), "sh-2": (False, None, None)}
        asked.cancel()
        world.over.set()


@dataclass
class Recorded(JobWorld):
    """The ledger tells of the jobs that are not over."""

    rows: tuple[JobRow, ...] = ()

    @activity.defn
    async def dispatch_facts(self, request: DispatchFactsRequest) -> DispatchFacts:
        facts = await super().dispatch_facts(request)
        return facts.model_copy(update={"jobs": self.rows if request.jobs else ()})


async def test_a_dispatcher_that_starts_from_nothing_knows_the_jobs_that_run(real_env: WorkflowEnvironment) -> None:
    """A job that works announces itself every ten minutes; until then its slot would be granted to another."""
    world = Recorded(rig=rig(max_polecats=1))
    workflows = [DispatchWorkflow, PolecatWorkflow, PostBox]
    async with workers_of(real_env)(workflows=workflows, activities=world.activities):
        shop = await Town.open(real_env, world)
        await shop.sling("sh-1")
        working = await shop.reach("sh-1", JobState.WORKING, 1)
        lost = job_row("sh-9", JobState.WORKING, polecat="nux", host=HOST)
        world.rows = (job_row("sh-1", JobState.WORKING, polecat=working.polecat, host=HOST), lost)
        world.gone = {lost.workflow_id}
        order = RestartWorkflow(workflow_id=names.dispatch_id("shop"), reset=True)
        await restart(real_env.client, order)
        shop.dispatch = real_env.client.get_workflow_handle_for(DispatchWorkflow.run, order.workflow_id)
        await shop.sling("sh-2")
        status: DispatchStatus = await shop.dispatch.query("status", result_type=DispatchStatus)
        known = {job.bead: (job.holds_slot, job.polecat, job.host) for job in status.jobs}
        assert known == {"sh-1": (True, working.polecat, HOST), "sh-2": (False, None, None)}


def job_row(bead: str, state: JobState, **where: Any) -> JobRow:
    return JobRow(
        bead=bead, rig="shop", workflow_id=names.polecat_id("shop", bead), state=state, attempt=1, sequence=3,
        agent="true", started_at=NOW, updated_at=NOW, **where,
    )  # fmt: skip


SLOT = SlotGrant(polecat="toast", host=HOST, attempt=3)
OTHER = Allocation(bead="sh-1", polecat="nux", host="h2")


def test_a_job_holds_the_slot_that_it_began_with_whichever_is_kept_for_it_now() -> None:
    job = DispatchedJob(bead="sh-1", arrival=1)
    job.begin_with(SLOT, reserved=job.reserve(OTHER))
    assert (job.polecat, job.host, job.holds_slot, job.attempt, job.state) == (
        "toast",
        HOST,
        True,
        3,
        JobState.STARTING,
    )


def test_what_a_job_has_said_of_its_slot_holds() -> None:
    asks, ended = DispatchedJob(bead="sh-1", arrival=1), DispatchedJob(bead="sh-2", arrival=2)
    kept = asks.reserve(OTHER), ended.reserve(OTHER)
    asks.state, asks.holds_slot = JobState.WAITING, False
    asks.request = SlotRequest(bead="sh-1", priority=2, rework=True, polecat="toast", attempt=4)
    ended.state, ended.holds_slot = JobState.BLOCKED, False
    for job, reserved in zip((asks, ended), kept, strict=True):
        job.begin_with(SLOT, reserved)
        assert (job.holds_slot, job.attempt) == (False, 3)
