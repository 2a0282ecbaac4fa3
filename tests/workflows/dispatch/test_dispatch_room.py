"""More beads than a dispatcher can carry: what does not fit waits in the ledger, and goes on when there is room."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import (
    Admission,
    DispatchFacts,
    DispatchFactsRequest,
    DispatchStatus,
    JobOrder,
    JobStarted,
    SlingRequest,
    SlotRequest,
    StartJob,
)
from models.ledger.records import BeadStatus, JobState, JobWrite
from policies.dispatch.room import job_bytes
from tests.workflows.conftest import workers_of
from tests.workflows.job.job_world import JobWorld, PostBox, Town, rig
from tests.workflows.probes import eventually, runs_of
from workflows.dispatch.state import DispatchedJob, DispatchState
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

DISPATCHER = names.dispatch_id("shop")


@dataclass
class Ledger(JobWorld):
    """Knows which beads wait for room, as the ledger does: by the last write about each."""

    def last_writes(self) -> dict[str, JobWrite]:
        return {write.bead: write for write in self.writes}

    def waiting(self) -> list[str]:
        return [bead for bead, write in self.last_writes().items() if write.workflow_id == DISPATCHER]

    @activity.defn
    async def admit_bead(self, request: SlingRequest) -> Admission:
        admission = await super().admit_bead(request)
        last = self.last_writes().get(request.bead)
        known = {"waited_for_room": request.bead in self.waiting(), "highest_sequence": last.sequence if last else 0}
        return admission.model_copy(update=known)

    @activity.defn
    async def dispatch_facts(self, request: DispatchFactsRequest) -> DispatchFacts:
        facts = await super().dispatch_facts(request)
        urgent_first = sorted(self.waiting(), key=lambda bead: self.priorities.get(bead, 2))
        return facts.model_copy(update={"waiting": tuple(urgent_first[: request.waiting])})


@contextlib.asynccontextmanager
async def town(
    env: WorkflowEnvironment, world: Ledger, fit: int = 0, state: DispatchState | None = None
) -> AsyncIterator[Town]:
    """A rig whose dispatcher can carry so many jobs."""
    workflows = [DispatchWorkflow, PolecatWorkflow, PostBox]
    async with workers_of(env)(workflows=workflows, activities=world.activities):
        for place in (names.refinery_id("shop"), names.witness_id("shop")):
            await env.client.start_workflow(PostBox.run, id=place, task_queue=names.TOWN_QUEUE)
        state = state or DispatchState(rig="shop", capacity=fit * job_bytes(rig().whereabouts, ()))
        dispatch = await env.client.start_workflow(
            DispatchWorkflow.run, state, id=DISPATCHER, task_queue=names.TOWN_QUEUE
        )
        yield Town(env, world, dispatch)


async def known(shop: Town) -> set[str]:
    status: DispatchStatus = await shop.dispatch.query("status", result_type=DispatchStatus)
    return {job.bead for job in status.jobs}


async def reached(shop: Town, bead: str, state: JobState) -> None:
    """As `Town.reach`, of a job that may not be there yet."""

    async def there() -> bool:
        with contextlib.suppress(RPCError):
            return (await shop.status(bead)).state is state
        return False

    await eventually(there, what=f"{bead} to be {state}")


async def test_one_too_many_waits_in_the_ledger_and_the_most_urgent_goes_on_by_itself(
    real_env: WorkflowEnvironment,
) -> None:
    world = Ledger(priorities={"sh-4": 0})
    async with town(real_env, world, fit=2) as shop:
        for bead in ("sh-1", "sh-2"):
            assert (await shop.sling(bead)).note == ""
            await shop.reach(bead, JobState.WORKING)
        for bead in ("sh-3", "sh-4", "sh-3"):
            told = await shop.sling(bead)
            assert told.state is JobState.WAITING
            assert told.note == f"shop has 2 unfinished jobs, as many as fit: {bead} waits in the ledger for room"
        assert world.events("sh-3") == world.events("sh-4") == ["waits_for_room"]
        assert world.last_writes()["sh-3"].bead_status is BeadStatus.HOOKED
        assert await known(shop) == {"sh-1", "sh-2"}
        await shop.dispatch.execute_update("cancel", JobOrder(bead="sh-1"))

        async def room() -> bool:
            return await known(shop) == {"sh-2"}

        await eventually(room, what="room")
        # Its cycle of a minute would do.
        await shop.dispatch.signal("wake")
        await reached(shop, "sh-4", JobState.WORKING)
        assert await known(shop) == {"sh-2", "sh-4"}
        assert world.waiting() == ["sh-3"]


@dataclass
class SlowLedger(Ledger):
    """Its `start_job` is back when the Dispatcher has dealt with the request of the job that it started."""

    asked_first: str = ""

    @activity.defn
    async def start_job(self, order: StartJob) -> JobStarted:
        started = await super().start_job(order)
        if started.runs and order.sling.bead == self.asked_first:
            job = activity.client().get_workflow_handle(names.polecat_id("shop", self.asked_first))

            async def asked() -> bool:
                events = [event.event_type async for event in job.fetch_history_events()]
                return EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED in events

            await eventually(asked, what="its request for a slot")
            # Whoever answers a query has dealt with the signals before it.
            await activity.client().get_workflow_handle(DISPATCHER).query("status", result_type=DispatchStatus)
        return started


async def test_a_bead_that_waits_in_the_ledger_can_be_cancelled(real_env: WorkflowEnvironment) -> None:
    world = SlowLedger(asked_first="sh-2")
    async with town(real_env, world, fit=1) as shop:
        await shop.sling("sh-1")
        await shop.sling("sh-2")
        await shop.dispatch.execute_update("cancel", JobOrder(bead="sh-2", reason="not now"))
        await reached(shop, "sh-2", JobState.ABANDONED)
        await shop.job("sh-2").result()
        assert world.last_writes()["sh-2"].bead_status is BeadStatus.DEFERRED
        assert not [request for request in world.started if request.bead == "sh-2"]
        told = [
            event.signal_external_workflow_execution_initiated_event_attributes
            async for event in shop.dispatch.fetch_history_events()
            if event.event_type == EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED
        ]
        names_told = [one.signal_name for one in told if one.workflow_execution.workflow_id.endswith("/sh-2")]
        assert names_told[:2] == ["decision", "decision"], "nobody was there to hear the first"


async def test_what_waits_in_the_ledger_is_found_by_a_dispatcher_that_was_reset(real_env: WorkflowEnvironment) -> None:
    world = Ledger()
    async with town(real_env, world, fit=1) as shop:
        await shop.sling("sh-1")
        await shop.sling("sh-2")
        await shop.dispatch.terminate("reset")
        await real_env.client.start_workflow(
            DispatchWorkflow.run, DispatchState(rig="shop"), id=DISPATCHER, task_queue=names.TOWN_QUEUE
        )
        await reached(shop, "sh-2", JobState.WORKING)


async def test_a_dispatcher_that_is_full_hands_over(real_env: WorkflowEnvironment) -> None:
    """At the real bound, on the server that takes no message above 2 MB."""
    far = rig().model_copy(update={"url": f"/srv/{'deep/' * 20}shop.git"})
    state = full(far.whereabouts)
    async with town(real_env, Ledger(rig=far), state=state) as shop:
        before = await runs_of(shop.dispatch)
        for number in (1, 2):
            assert "as many as fit" in (await shop.sling(f"sh-{number}")).note

        async def handed_over() -> bool:
            return await runs_of(shop.dispatch) != before

        await eventually(handed_over, what="the next run")
        assert len(await known(shop)) == len(state.jobs)


def full(whereabouts: str) -> DispatchState:
    """As many jobs as fit, each as large as it may become: it waits for a slot that it does not get."""
    state = DispatchState(rig="shop", patience=2, pauses={"ada": "not now"})
    host, dependencies = f"{'h' * 60}.example.org", tuple(f"sh-{'d' * 8}{number}" for number in range(3))
    for number in range(state.capacity // job_bytes(whereabouts, ())):
        bead = f"sh-{number:012d}"
        state.jobs[bead] = DispatchedJob(bead=bead, arrival=number, attempt=12, rig_known=whereabouts)
    assert not state.room
    for job in state.jobs.values():
        request = SlotRequest(
            bead=job.bead, priority=2, rework=True, polecat="p" * 40, host=host, avoid_polecat="q" * 40,
            avoid_host=host, attempt=13, rig_known=whereabouts,
        )  # fmt: skip
        job.request, job.polecat, job.host, job.open_dependencies = request, "p" * 40, host, dependencies
    return state


@pytest.mark.parametrize("url", ["/srv/shop.git", f"https://example.org/{'x' * 900}.git"])
def test_a_full_dispatcher_fits_into_a_message(url: str) -> None:
    state = full(f"main of {url}")
    assert len(state.jobs) > 400
    assert len(state.model_dump_json().encode()) < 1_900_000
