"""Starting a job, against a real Temporal server: nobody works on it here."""

from __future__ import annotations

import dataclasses

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.job_start import DESCRIPTION_LENGTH, JobStartActivities
from models.job.messages import Admission, JobStarted, SlingRequest, SlotGrant, StartJob
from tests.temporal_server import client_of_namespace
from tests.workflows.job.job_world import JobWorld
from workflows.job.state import PolecatState

SLOT = SlotGrant(polecat="toast", host="h1")
SLING = SlingRequest(bead="sh-1", rig="shop")


@pytest.fixture
async def client(temporal_port: int) -> Client:
    return await client_of_namespace(temporal_port)


async def start(client: Client, order: StartJob, admission: Admission | None = None, call: str = "1") -> JobStarted:
    known = admission or await JobWorld().admit_bead(order.sling)

    async def admit(_request: SlingRequest) -> Admission:
        return known

    environment = ActivityEnvironment(client)
    environment.info = dataclasses.replace(environment.info, activity_id=call)
    started: JobStarted = await environment.run(JobStartActivities(client, admit).start_job, order)
    return started


async def begun_with(client: Client) -> PolecatState:
    history = await client.get_workflow_handle("polecat/shop/sh-1").fetch_history()
    given = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (state,) = await client.data_converter.decode(given, [PolecatState])
    assert isinstance(state, PolecatState)
    return state


async def test_a_retry_after_a_kill_knows_the_run_that_it_has_started(client: Client) -> None:
    order = StartJob(sling=SLING, slot=SLOT)
    first, again = await start(client, order), await start(client, order)
    assert (first.runs, first.new, first.granted) == (again.runs, again.new, again.granted) == (True, True, True)
    other = await start(client, order, call="2")
    assert (other.runs, other.new, other.granted) == (True, False, False)
    assert (await begun_with(client)).grant == SLOT.model_copy(update={"attempt": 1})


async def test_a_job_that_waits_for_a_dependency_takes_no_slot(client: Client) -> None:
    admission = (await JobWorld().admit_bead(SLING)).model_copy(update={"open_dependencies": ("sh-9",)})
    started = await start(client, StartJob(sling=SLING, slot=SLOT), admission)
    assert (started.new, started.granted) == (True, False)
    assert (await begun_with(client)).grant is None


async def test_nothing_starts_where_there_is_no_room_for_it(client: Client) -> None:
    started = await start(client, StartJob(sling=SLING, slot=SLOT, room=10))
    assert not started.runs
    assert [found async for found in client.list_workflows()] == []


async def test_a_job_carries_a_description_that_fits_into_a_message(client: Client) -> None:
    admission = await JobWorld().admit_bead(SLING)
    long = admission.bead.model_copy(update={"description": "x" * 3_000_000})
    await start(client, StartJob(sling=SLING), admission.model_copy(update={"bead": long}))
    carried = (await begun_with(client)).admission.bead.description
    assert len(carried) < DESCRIPTION_LENGTH + 100
    assert carried.endswith("(cut here; `bd show sh-1` has all of it)")
