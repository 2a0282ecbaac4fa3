"""An update that meets a workflow whose worker was killed again and again is accepted by the next worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from services.temporal.updates import accepted
from services.worker.polling import patient
from tests.pace import DEADLINE_S
from tests.services.conftest import eventually
from tests.workflows.conftest import real_time

FAILURES = 3
"""After so many failed tasks in a row the server refuses updates at once."""


class Broken:
    """Whether the workflow's code fails, as it looks to the server when workers die in its tasks."""

    now = True


@workflow.defn
class CountingWorkflow:
    def __init__(self) -> None:
        self._told = 0

    @workflow.run
    async def run(self) -> None:
        if Broken.now:
            raise RuntimeError("the worker dies here")
        await workflow.wait_condition(lambda: False)

    @workflow.update
    def add(self, number: int) -> int:
        self._told += number
        return self._told


def failed_often(handle: WorkflowHandle[Any, Any]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        described = await handle.describe()
        return bool(described.raw_description.pending_workflow_task.attempt > FAILURES)

    return look


async def test_it_is_accepted_once_as_soon_as_the_workflow_goes_on_again() -> None:
    Broken.now = True
    async with (
        real_time() as env,
        patient(
            Worker(
                env.client,
                task_queue="count",
                workflows=[CountingWorkflow],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
        ),
    ):
        handle: WorkflowHandle[Any, Any] = await env.client.start_workflow(
            CountingWorkflow.run, id="count", task_queue="count"
        )
        await eventually("its tasks to have failed", failed_often(handle))
        with pytest.raises(RPCError, match="Workflow Task in failed state"):
            await handle.execute_update("add", 1)
        asked = asyncio.create_task(accepted(handle, "add", [2], int))
        Broken.now = False
        assert await (await asyncio.wait_for(asked, DEADLINE_S)).result() == 2
        assert await handle.execute_update("add", 1) == 3
