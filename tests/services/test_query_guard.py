"""A query that waits for a worker, on a real Temporal server: it must not move the workflow on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner

from services.patient_queries import NOT_CAUGHT_UP, PatientQueries
from services.query_guard import QueryGuard
from tests.temporal_server import dev_server

pytestmark = pytest.mark.timeout(180)

ROUNDS = 40
"""In about every second one the new worker gets the query before the workflow task."""
QUEUE = "guarded"


@workflow.defn
class Clerk:
    """Notes when it hears something."""

    def __init__(self) -> None:
        self._heard: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def hear(self) -> None:
        self._heard.append(workflow.now().isoformat())

    @workflow.query
    def heard(self) -> list[str]:
        return self._heard


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with dev_server(tmp_path_factory.mktemp("temporal")) as opened:
        yield opened


@contextlib.asynccontextmanager
async def working(client: Client, runner: WorkflowRunner) -> AsyncIterator[None]:
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Clerk],
        workflow_runner=runner,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    ):
        yield


async def asked_while_nobody_works(client: Client) -> tuple[WorkflowHandle[Clerk, None], asyncio.Task[list[str]]]:
    """A clerk whom a query waits for, and after that a signal; no worker runs."""
    async with working(client, UnsandboxedWorkflowRunner()):
        clerk = await client.start_workflow(Clerk.run, id=f"clerk-{uuid.uuid4()}", task_queue=QUEUE)
        assert await clerk.query(Clerk.heard) == []
    query = asyncio.create_task(clerk.query(Clerk.heard, rpc_timeout=timedelta(seconds=20)))
    await asyncio.sleep(0.2)  # a moment for the query to be there first; a round where it is not counts for nothing
    await clerk.signal(Clerk.hear)
    return clerk, query


async def replayed(client: Client, clerk: WorkflowHandle[Clerk, None]) -> list[str]:
    async with working(client, UnsandboxedWorkflowRunner()):
        return await clerk.query(Clerk.heard)


async def test_without_a_guard_a_query_moves_the_workflow_on_at_a_time_that_no_replay_knows(port: int) -> None:
    """Why there is a guard; when this fails, the SDK is mended and the guard can go."""
    client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
    for _ in range(ROUNDS):
        clerk, query = await asked_while_nobody_works(client)
        async with working(client, UnsandboxedWorkflowRunner()):
            await query
            first = await clerk.query(Clerk.heard)
        if first != await replayed(client, clerk):
            return
    raise AssertionError("a query did not move the workflow on in any round")


async def test_with_a_guard_such_a_query_is_asked_again_and_what_was_heard_replays(port: int) -> None:
    client = await Client.connect(
        f"127.0.0.1:{port}", data_converter=pydantic_data_converter, interceptors=[PatientQueries()]
    )
    guard = QueryGuard(UnsandboxedWorkflowRunner())
    for _ in range(ROUNDS):
        clerk, query = await asked_while_nobody_works(client)
        async with working(client, guard):
            answer = await query
            first = await clerk.query(Clerk.heard)
        assert len(first) == 1
        assert answer in ([], first)
        assert first == await replayed(client, clerk)
        if guard.refused:
            return
    raise AssertionError("the query never came before the task")


async def test_who_does_not_ask_again_is_told_to(port: int) -> None:
    client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
    guard = QueryGuard(UnsandboxedWorkflowRunner())
    for _ in range(ROUNDS):
        _, query = await asked_while_nobody_works(client)
        async with working(client, guard):
            (answer,) = await asyncio.gather(query, return_exceptions=True)
        if isinstance(answer, WorkflowQueryFailedError):
            assert answer.message == NOT_CAUGHT_UP
            return
    raise AssertionError("the query never came before the task")
