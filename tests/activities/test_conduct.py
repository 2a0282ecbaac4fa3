"""What every activity shares, on a real server: it beats by itself, threaded or not, and its failures are typed."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.interceptor import ActivityConduct
from models.errors import ErrorCode, GtError
from services.worker.polling import HEARTBEAT_THROTTLE
from tests.temporal_server import client_of_namespace

LONG_S = 7.0
"""longer than the heartbeat timeout of the workflow below"""


@activity.defn
def work_in_a_thread() -> str:
    time.sleep(LONG_S)
    return "done"


@activity.defn
async def work_in_the_loop() -> str:
    await asyncio.sleep(LONG_S)
    return "done"


@activity.defn
def refuse() -> str:
    raise GtError(ErrorCode.NOT_FOUND, "there is no such rig", "gt rig list")


TOKEN = "gh" + "p_" + "a1" * 18


@activity.defn
def fail_with_a_secret() -> str:
    try:
        raise RuntimeError(f"remote: https://ada:{TOKEN}@example.com refused")
    except RuntimeError as cause:
        raise GtError(ErrorCode.GIT_FAILED, f"git said {TOKEN}", f"gt {TOKEN}") from cause


@activity.defn
def break_with_a_secret() -> str:
    raise ValueError(TOKEN)


@activity.defn
def answer_a_secret() -> str:
    return f"it printed {TOKEN}"


@workflow.defn
class OneActivityWorkflow:
    @workflow.run
    async def run(self, name: str) -> str:
        result: str = await workflow.execute_activity(
            name,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
            result_type=str,
        )
        return result


@pytest.fixture
async def client(temporal_port: int) -> Client:
    return await client_of_namespace(temporal_port)


async def run_one(client: Client, name: str, conduct: ActivityConduct | None = None) -> str:
    queue = str(uuid.uuid4())
    with ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[OneActivityWorkflow],
            activities=[
                *(work_in_a_thread, work_in_the_loop, refuse),
                *(fail_with_a_secret, break_with_a_secret, answer_a_secret),
            ],
            activity_executor=threads,
            interceptors=[conduct or ActivityConduct()],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        ):
            return await client.execute_workflow(OneActivityWorkflow.run, name, id=queue, task_queue=queue)


@pytest.mark.parametrize("name", ["work_in_a_thread", "work_in_the_loop"])
async def test_an_activity_that_outlasts_its_heartbeat_timeout_lives(client: Client, name: str) -> None:
    assert await run_one(client, name) == "done"


async def test_a_failure_reaches_the_workflow_with_code_level_and_hint(client: Client) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await run_one(client, "refuse")
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.details, cause.non_retryable) == ("not_found", ("L1", "gt rig list"), True)


async def test_what_an_activity_of_a_host_answers_is_kept_without_secrets(client: Client) -> None:
    shown = await run_one(client, "answer_a_secret", ActivityConduct(results=True))
    assert shown == "it printed [redacted: a GitHub token]"
    # The record's own text is people's.
    assert TOKEN in await run_one(client, "answer_a_secret")


@pytest.mark.parametrize("name", ["fail_with_a_secret", "break_with_a_secret"])
async def test_no_failure_is_kept_with_secrets_nor_are_its_causes(client: Client, name: str) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await run_one(client, name)
    told = ""
    error: BaseException | None = failed.value.cause
    while error is not None:
        if isinstance(error, FailureError):
            told += str(error.failure)
        error = error.__cause__
    assert "[redacted: " in told
    assert TOKEN not in told
