"""Starting a job, against a real Temporal server: nobody works on it here."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.job_start import DESCRIPTION_LENGTH, JobStartActivities
from models.job.messages import Admission, JobStarted, SlingRequest, SlotGrant, StartJob, UnfinishedJob
from models.ledger.records import JobRow, JobState
from tests.temporal_server import client_of_namespace
from tests.workflows.job.job_world import NOW, JobWorld
from workflows.job.state import PolecatState

SLOT = SlotGrant(polecat="toast", host="h1")
SLING = SlingRequest(bead="sh-1", rig="shop")


@pytest.fixture
async def client(temporal_port: int) -> Client:
    return await client_of_namespace(temporal_port)


async def start(client: Client, order: StartJob, admission: Admission | None = None) -> JobStarted:
    known = admission or await JobWorld().admit_bead(order.sling)

    async def admit(_request: SlingRequest) -> Admission:
        return known

    started: JobStarted = await ActivityEnvironment(client).run(JobStartActivities(client, admit).start_job, order)
    return started


async def begun_with(client: Client) -> PolecatState:
    history = await client.get_workflow_handle("polecat/shop/sh-1").fetch_history()
    given = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (state,) = await client.data_converter.decode(given, [PolecatState])
    assert isinstance(state, PolecatState)
    return state


def order(**more: Any) -> StartJob:
    return StartJob(**{"sling": SLING, "key": "1", "slot": SLOT} | more)


def unfinished(admission: Admission, state: JobState) -> Admission:
    row = JobRow(
        bead="sh-1", rig="shop", workflow_id="polecat/shop/sh-1", state=state, attempt=1, sequence=1, started_at=NOW,
        updated_at=NOW,
    )  # fmt: skip
    return admission.model_copy(update={"unfinished": UnfinishedJob(row=row), "highest_attempt": 1})


async def test_a_repeat_knows_the_run_that_was_started_and_what_it_began_with(client: Client) -> None:
    """After a kill, or a reset of the dispatcher, which may keep another slot for it by then."""
    began = SLOT.model_copy(update={"attempt": 1})
    first = await start(client, order())
    assert (first.runs, first.new, first.slot) == (True, True, began)
    followed = unfinished(first.admission, JobState.WAITING)
    other_slot = SlotGrant(polecat="nux", host="h2")
    for repeat, admission in [(order(), None), (order(slot=other_slot, room=0), None), (order(slot=None), followed)]:
        again = await start(client, repeat, admission)
        assert (again.runs, again.new, again.slot) == (True, True, began)
    assert (await begun_with(client)).grant == began
    other = await start(client, order(key="2"))
    assert (other.runs, other.new, other.slot) == (True, False, None)
    told_first = await start(client, order(key="2"), followed)
    assert (told_first.runs, told_first.admission) == (False, followed)


async def test_a_job_that_waits_for_a_dependency_takes_no_slot(client: Client) -> None:
    admission = (await JobWorld().admit_bead(SLING)).model_copy(update={"open_dependencies": ("sh-9",)})
    started = await start(client, order(), admission)
    assert (started.new, started.slot) == (True, None)
    assert (await begun_with(client)).grant is None


async def test_nothing_starts_where_there_is_no_room_for_it(client: Client) -> None:
    started = await start(client, order(room=10))
    assert not started.runs
    assert [found async for found in client.list_workflows()] == []


async def test_a_job_carries_a_description_that_fits_into_a_message(client: Client) -> None:
    admission = await JobWorld().admit_bead(SLING)
    long = admission.bead.model_copy(update={"description": "x" * 3_000_000})
    await start(client, order(slot=None), admission.model_copy(update={"bead": long}))
    carried = (await begun_with(client)).admission.bead.description
    assert len(carried) < DESCRIPTION_LENGTH + 100
    assert carried.endswith("(cut here; `bd show sh-1` has all of it)")
