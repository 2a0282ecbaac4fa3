"""How long a worker lets a workflow stand still before it takes it for deadlocked."""

from __future__ import annotations

import time

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from services.polling import STALL_S, patient
from tests.workflows.conftest import real_time

SDK_LIMIT_S = 2


def hold_up(seconds: float) -> None:
    time.sleep(seconds)


@workflow.defn
class StallWorkflow:
    @workflow.run
    async def run(self, seconds: float) -> str:
        hold_up(seconds)
        return "went on"


async def stall(client: Client, seconds: float) -> tuple[str, list[EventType.ValueType]]:
    worker = Worker(client, task_queue="stall", workflows=[StallWorkflow], workflow_runner=UnsandboxedWorkflowRunner())
    async with patient(worker):
        handle = await client.start_workflow(StallWorkflow.run, seconds, id="stall", task_queue="stall")
        answer = await handle.result()
        return answer, [event.event_type async for event in handle.fetch_history_events()]


async def test_a_workflow_that_a_busy_machine_holds_up_is_not_taken_for_deadlocked() -> None:
    async with real_time() as env:
        answer, events = await stall(env.client, SDK_LIMIT_S + 1)
    assert answer == "went on"
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in events


def test_the_limit_ends_before_the_server_gives_the_task_to_another_worker() -> None:
    assert SDK_LIMIT_S < STALL_S < 10
