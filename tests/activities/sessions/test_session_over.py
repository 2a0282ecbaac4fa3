"""What the Dispatcher and the Witness hear of a session that is over, on a real server: nobody runs them here."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from temporalio.client import Client

from activities.sessions.session_over import SessionOver
from models import names
from models.job.attempts import TakeWork
from models.job.messages import SlotReleased, WorkEnded
from models.ledger.records import JobState, Rig
from tests.temporal_server import client_of_namespace

RIG = Rig(name="shop", url="/srv/shop.git", prefix="sh", branch="main", created_at=datetime(2026, 1, 1, tzinfo=UTC))
TAKEN = TakeWork(rig=RIG, bead="sh-1", polecat="toast", attempt=2)


@pytest.fixture
async def client(temporal_port: int) -> Client:
    return await client_of_namespace(temporal_port)


async def begin(client: Client, workflow_id: str) -> None:
    await client.start_workflow("Anything", id=workflow_id, task_queue="nobody")


async def heard(client: Client, workflow_id: str, kind: type) -> list[tuple[str, object]]:
    """Names and contents of the signals that a workflow was sent."""
    found = []
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            found += [(signal.signal_name, *await client.data_converter.decode(signal.input.payloads, [kind]))]
    return found


async def test_both_hear_it_of_the_attempt_that_is_over(client: Client) -> None:
    for workflow_id in (names.dispatch_id("shop"), names.witness_id("shop")):
        await begin(client, workflow_id)
    assert await asyncio.to_thread(SessionOver(client).tell, TAKEN)
    released = SlotReleased(bead="sh-1", attempt=2, state=JobState.SUBMITTED)
    assert await heard(client, names.dispatch_id("shop"), SlotReleased) == [("slot_released", released)]
    assert await heard(client, names.witness_id("shop"), WorkEnded) == [
        ("work_ended", WorkEnded(bead="sh-1", attempt=2))
    ]


async def test_where_one_does_not_run_its_job_has_to_tell(client: Client) -> None:
    await begin(client, names.dispatch_id("shop"))
    assert not await asyncio.to_thread(SessionOver(client).tell, TAKEN)
