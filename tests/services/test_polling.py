"""How long a worker lets a workflow stand still before it takes it for deadlocked."""

from __future__ import annotations

import time
from datetime import timedelta

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from models.supervision.messages import TASK_TIMEOUT
from services.worker.polling import STALL_S, patient
from tests.workflows.conftest import real_time

SDK_LIMIT_S = 2


HELD_UP: list[float] = []


def hold_up(seconds: float, *, once: bool) -> None:
    if not (once and HELD_UP):
        HELD_UP.append(seconds)
        time.sleep(seconds)


@workflow.defn
class StallWorkflow:
    @workflow.run
    async def run(self, seconds: float, once: bool) -> str:
        hold_up(seconds, once=once)
        return "went on"


async def stall(
    client: Client, seconds: float, *, once: bool = False, task_timeout: timedelta = TASK_TIMEOUT
) -> tuple[str, list[EventType.ValueType]]:
    worker = Worker(client, task_queue="stall", workflows=[StallWorkflow], workflow_runner=UnsandboxedWorkflowRunner())
    async with patient(worker):
        handle = await client.start_workflow(
            StallWorkflow.run, args=[seconds, once], id="stall", task_queue="stall", task_timeout=task_timeout
        )
        answer = await handle.result()
        return answer, [event.event_type async for event in handle.fetch_history_events()]


async def test_a_workflow_that_a_busy_machine_holds_up_is_not_taken_for_deadlocked() -> None:
    async with real_time() as env:
        answer, events = await stall(env.client, SDK_LIMIT_S + 1)
    assert answer == "went on"
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in events


async def test_one_that_is_held_up_for_longer_than_the_server_waits_is_done_again() -> None:
    """And not taken for deadlocked: an interrupted workflow may stay stuck."""
    assert TASK_TIMEOUT.total_seconds() < STALL_S
    late = timedelta(seconds=SDK_LIMIT_S + 1)
    HELD_UP.clear()
    async with real_time() as env:
        answer, events = await stall(env.client, late.total_seconds(), once=True, task_timeout=late / 2)
    assert answer == "went on"
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT in events
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in events
