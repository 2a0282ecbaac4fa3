"""A query that waits for a worker, on a real Temporal server: it must not move the workflow on."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.interceptor import ActivityConduct
from services.init_town import create_town
from services.temporal.client import connect
from services.temporal.query_retry import NOT_CAUGHT_UP, PatientQueries
from services.town import find_town
from services.worker.polling import new_worker, patient

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


def plain(client: Client) -> Worker:
    """A worker as the SDK makes it."""
    return patient(Worker(client, task_queue=QUEUE, workflows=[Clerk], workflow_runner=UnsandboxedWorkflowRunner()))


def ours(client: Client) -> Worker:
    """A worker as the town makes it."""
    return new_worker(
        client,
        QUEUE,
        [],
        1,
        interceptor=ActivityConduct(),
        threads=False,
        workflows=[Clerk],
        runner=UnsandboxedWorkflowRunner(),
    )


async def asked_while_nobody_works(
    client: Client, number: int
) -> tuple[WorkflowHandle[Clerk, None], asyncio.Task[list[str]]]:
    """A clerk whom a query waits for, and after that a signal; no worker runs."""
    async with plain(client):
        clerk = await client.start_workflow(Clerk.run, id=f"clerk-{uuid.uuid4()}", task_queue=QUEUE)
        assert await clerk.query(Clerk.heard) == []
    query = asyncio.create_task(clerk.query(Clerk.heard, rpc_timeout=timedelta(minutes=4)))
    # A moment for the query to be there first, longer each time; a round where it is not counts for nothing.
    await asyncio.sleep(0.1 * 1.1**number)
    await clerk.signal(Clerk.hear)
    return clerk, query


async def replayed(client: Client, clerk: WorkflowHandle[Clerk, None]) -> list[str]:
    async with plain(client):
        return await clerk.query(Clerk.heard)


async def test_without_a_guard_a_query_moves_the_workflow_on_at_a_time_that_no_replay_knows(port: int) -> None:
    """Why there is a guard; when this fails, the SDK is mended and the guard can go."""
    client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
    for number in range(ROUNDS):
        clerk, query = await asked_while_nobody_works(client, number)
        async with plain(client):
            await query
            first = await clerk.query(Clerk.heard)
        if first != await replayed(client, clerk):
            return
    raise AssertionError("a query did not move the workflow on in any round")


async def test_our_worker_refuses_such_a_query_our_client_asks_again_and_what_was_heard_replays(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="services.worker.stale_query_guard")
    client = await Client.connect(
        f"127.0.0.1:{port}", data_converter=pydantic_data_converter, interceptors=[PatientQueries()]
    )
    for number in range(ROUNDS):
        clerk, query = await asked_while_nobody_works(client, number)
        async with ours(client):
            answer = await query
            first = await clerk.query(Clerk.heard)
        assert len(first) == 1
        assert answer in ([], first)
        assert first == await replayed(client, clerk)
        if clerk.id in caplog.text:
            return
    raise AssertionError("the query never came before the task")


async def test_who_does_not_ask_again_is_told_to(port: int) -> None:
    client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
    for number in range(ROUNDS):
        _, query = await asked_while_nobody_works(client, number)
        async with ours(client):
            (answer,) = await asyncio.gather(query, return_exceptions=True)
        if isinstance(answer, WorkflowQueryFailedError):
            assert answer.message == NOT_CAUGHT_UP
            return
    raise AssertionError("the query never came before the task")


async def test_the_client_of_a_town_asks_again(tmp_path: Path) -> None:
    create_town(tmp_path, "test", "embedded")
    client = await connect(find_town(tmp_path), lazy=True)
    assert [type(each) for each in client.config()["interceptors"]] == [PatientQueries]
