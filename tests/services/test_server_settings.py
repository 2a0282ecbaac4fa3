"""What the town's Temporal server is told at its start, measured on that server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import psutil
import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from models import names
from services.supervisor.programs import TEMPORAL, programs
from services.worker.polling import patient
from tests.services.conftest import eventually, scratch_town
from tests.temporal_server import client_of, wait_for_server

HOST = names.host_queue("h1")
MANY, FEW = 80, 8
TRIES = 30
TIMER_S, RETRY_S = 0.5, 0.7
"""less than a server as it comes takes for them, which holds each back by a second"""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server that is started as `gt up` starts it."""
    with scratch_town("embedded") as town:
        (argv,) = [program.argv for program in programs(town) if program.name == TEMPORAL]
        port = town.file.temporal.port
        assert port is not None
        with (town.paths.logs / "temporal.log").open("wb") as log:
            process = subprocess.Popen(argv, cwd=town.root, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            asyncio.run(wait_for_server(port))
            yield port
        finally:
            process.terminate()
            process.wait(120)


@pytest.fixture
async def client(server: int) -> Client:
    return await client_of(server)


def answers_to(port: int, host: str) -> int | None:
    """The status of an answer to a question of the HTTP API; None: no HTTP is spoken there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/api/v1/namespaces", headers={"Host": host})
        return connection.getresponse().status
    return None


def test_the_http_api_serves_nobody(server: int) -> None:
    (process,) = (
        psutil.Process(each.pid)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == server and each.pid
    )
    listening = [each for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    ports = {each.laddr.port for each in listening if each.laddr}
    for host in ("gastown.example", f"127.0.0.1:{server}"):
        answers = [answers_to(port, host) for port in ports]
        assert 403 in answers, "its port is one of these"
        assert answers.count(200) <= 1, "the Web UI has one of its own"


@workflow.defn
class Step:
    """One step on the host, as a job takes it."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "serve", task_queue=HOST, start_to_close_timeout=timedelta(minutes=1), heartbeat_timeout=None
        )


@workflow.defn
class ShortTimer:
    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(milliseconds=1))


@workflow.defn
class ShortRetry:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "fail_once",
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200)),
        )


WORKFLOWS: list[type] = [Step, ShortTimer, ShortRetry]


async def backlog(client: Client) -> int:
    """Steps that wait on the host's queue."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=HOST),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    return int((await client.workflow_service.describe_task_queue(request)).stats.approximate_backlog_count)


async def test_a_rig_with_few_steps_waits_for_few_of_one_with_many(client: Client) -> None:
    served: list[str] = []

    @activity.defn
    async def serve() -> None:
        served.append(activity.info().priority.fairness_key or "")

    async def begin(rig: str, steps: int) -> None:
        for number in range(steps):
            await client.start_workflow(
                Step.run, id=f"{rig}-{number}", task_queue=names.TOWN_QUEUE, priority=Priority(fairness_key=rig)
            )

    async def waits(steps: int) -> bool:
        return await backlog(client) >= steps

    runner = UnsandboxedWorkflowRunner()
    worker = Worker(client, task_queue=names.TOWN_QUEUE, workflows=WORKFLOWS, workflow_runner=runner)
    async with patient(worker):
        await begin("large", MANY)
        await eventually("the steps of the one to wait", lambda: waits(MANY))
        await begin("small", FEW)
        await eventually("the steps of the other to wait", lambda: waits(MANY + FEW))
        one_by_one = Worker(
            client,
            task_queue=HOST,
            activities=[serve],
            max_concurrent_activities=1,
            max_concurrent_activity_task_polls=1,
        )
        async with one_by_one:

            async def done() -> bool:
                return len(served) == MANY + FEW

            await eventually("all to be served", done)
    places = [place for place, rig in enumerate(served, start=1) if rig == "small"]
    print("places of the small rig's steps:", places)
    assert places[-1] <= 3 * FEW


async def test_timers_and_retries_are_not_held_back(client: Client) -> None:
    """The shortest of some: a busy machine may hold back any of them."""

    @activity.defn
    async def fail_once() -> None:
        if activity.info().attempt == 1:
            failed.append(asyncio.get_running_loop().time())
            raise ApplicationError("once", category=ApplicationErrorCategory.BENIGN)
        again.append(asyncio.get_running_loop().time())

    failed: list[float] = []
    again: list[float] = []
    waits: list[float] = []
    async with patient(
        Worker(
            client,
            task_queue=names.TOWN_QUEUE,
            workflows=WORKFLOWS,
            activities=[fail_once],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
    ):
        for number in range(TRIES):
            await client.execute_workflow(ShortRetry.run, id=f"retry-{number}", task_queue=names.TOWN_QUEUE)
            timer = await client.start_workflow(ShortTimer.run, id=f"timer-{number}", task_queue=names.TOWN_QUEUE)
            await timer.result()
            at = {event.event_type: event.event_time.ToNanoseconds() async for event in timer.fetch_history_events()}
            begun, fired = at[EventType.EVENT_TYPE_TIMER_STARTED], at[EventType.EVENT_TYPE_TIMER_FIRED]
            waits.append((fired - begun) / 1e9)
            retries = [later - sooner for sooner, later in zip(failed, again, strict=True)]
            if min(waits) < TIMER_S and min(retries) < RETRY_S:
                break
    print(
        "timers of 1 ms:", [round(wait, 3) for wait in waits], "retries after 200 ms:", [round(r, 3) for r in retries]
    )
    assert min(waits) < TIMER_S
    assert min(retries) < RETRY_S
