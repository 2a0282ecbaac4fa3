"""Servers that skip time, and workers on the queues that the code names."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import GrpcCompression
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models import names
from services.supervisor.programs import temporal_settings
from tests.pace import DEADLINE_S
from tests.temporal_server import client_of_namespace
from tests.workflows.asking import AskAgain
from tests.workflows.skipping import SkippingEnvironment
from workflows.shared.sandbox import workflow_runner

HOST = "h1"
START = timedelta(seconds=DEADLINE_S)
"""what a server may take to start on a busy machine; the SDK's own limit is 5 s"""
STALL_S = 60
"""A workflow task that takes this long is taken for a deadlock: a machine may be busier than a town's ever is."""
PIECE = timedelta(minutes=10)
Sleep = Callable[[timedelta | float], Coroutine[Any, Any, None]]


def installed(program: str) -> str:
    """Path of a program of this Python environment, else of PATH."""
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    assert found, f"{program} is not installed: see CONTRIBUTING.md"
    return found


@contextlib.asynccontextmanager
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server with its search attributes."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=installed("temporal-test-server"),
        test_server_startup_timeout=START,
        data_converter=pydantic_data_converter,
        interceptors=[AskAgain()],
    ) as environment:
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes=dict.fromkeys(
                    names.SEARCH_ATTRIBUTES.values(), IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
                ),
            )
        )
        address = environment.client.service_client.config.target_host
        quiet = await Client.connect(address, keep_alive_config=None)
        environment.sleep = patient_sleep(quiet)  # type: ignore[method-assign, assignment]
        yield environment


def patient_sleep(client: Client) -> Sleep:
    """The environment's, some minutes a call, each of which may take longer than the SDK's 30 s: a busy machine may
    have much to work off meanwhile.

    Args:
        client: one that sends no keep-alive pings. gRPC for Java ends a connection at the third ping within five
            minutes on which it had nothing to send, so the SDK's own (every 30 s) end any call of 90 s with
            "transport error".
    """

    async def sleep(duration: timedelta | float) -> None:
        left = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        while left > timedelta(0):
            request = SleepRequest()
            request.duration.FromTimedelta(min(left, PIECE))
            await client.test_service.unlock_time_skipping_with_sleep(request, timeout=timedelta(seconds=DEADLINE_S))
            left -= PIECE

    return sleep


@pytest.fixture
async def env(request: pytest.FixtureRequest, temporal_port: int) -> AsyncIterator[WorkflowEnvironment]:
    """A Java server that skips time, of the test's own: one broken workflow freezes it, its clock may end years ahead.

    With the mark `own_clocks` a namespace of a real server (docs/decisions/0028).
    """
    if request.node.get_closest_marker("own_clocks"):
        yield SkippingEnvironment(await client_of_namespace(temporal_port))
        return
    async with time_skipping() as environment:
        yield environment


@contextlib.asynccontextmanager
async def real_time(*dynamic: str) -> AsyncIterator[WorkflowEnvironment]:
    """A real server with a town's settings, for what the time-skipping one cannot do: it loses a workflow whose
    activity ends in the moment in which it is cancelled.

    Args:
        dynamic: more of its dynamic configuration, `KEY=JSON`.
    """
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=installed("temporal"),
        dev_server_startup_timeout=START,
        dev_server_log_level="error",
        dev_server_extra_args=[
            *temporal_settings(),
            *(word for value in dynamic for word in ("--dynamic-config-value", value)),
        ],
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment


@pytest.fixture
async def real_env(temporal_port: int) -> WorkflowEnvironment:
    """A namespace of a real server, in real time."""
    config = (await client_of_namespace(temporal_port)).config()
    config["interceptors"] = [AskAgain()]
    return WorkflowEnvironment.from_client(Client(**config))


WorkerBuilder = Callable[..., contextlib.AbstractAsyncContextManager[None]]


@pytest.fixture
def workers(env: WorkflowEnvironment) -> WorkerBuilder:
    """See `workers_of`."""
    return workers_of(env)


def workers_of(env: WorkflowEnvironment, *, cores: bool = True) -> WorkerBuilder:
    """`async with workers(workflows=[…], activities=[…]):` — the town, control and host queues.

    Without `cores` no gate is ever taken.

    Every activity is offered on every queue; the code's options choose. A bug in workflow code
    fails the workflow instead of retrying its task for ever.
    """

    @contextlib.asynccontextmanager
    async def run(
        *,
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (),
        hosts: Sequence[str] = (HOST,),
        max_cached_workflows: int = 1000,
    ) -> AsyncIterator[None]:
        client = await env.connect_client(
            data_converter=pydantic_data_converter, grpc_compression=GrpcCompression.NONE
        )  # as a town's own
        async with contextlib.AsyncExitStack() as stack:
            town = Worker(
                client,
                task_queue=names.TOWN_QUEUE,
                workflows=workflows,
                activities=activities,
                workflow_runner=workflow_runner("tests"),
                workflow_failure_exception_types=[Exception],
                max_cached_workflows=max_cached_workflows,
            )
            of_workflows = town._workflow_worker
            assert of_workflows is not None
            of_workflows._deadlock_timeout_seconds = STALL_S
            await stack.enter_async_context(town)
            queues = [names.CONTROL_QUEUE]
            of_a_host = (names.host_queue, names.watch_queue, *([names.gates_queue] if cores else []))
            queues += [queue(host) for host in hosts for queue in of_a_host]
            for task_queue in queues if activities else []:
                await stack.enter_async_context(Worker(client, task_queue=task_queue, activities=activities))
            yield

    return run


@pytest.fixture
def yard(env: WorkflowEnvironment, workers: WorkerBuilder) -> Any:
    """See `refinery_yard.yard_in`."""
    from tests.workflows.refinery.refinery_yard import yard_in

    return yard_in(env, workers)


@pytest.fixture
def hall(env: WorkflowEnvironment, workers: WorkerBuilder) -> Any:
    """See `mayor_world.hall_in`."""
    from tests.workflows.mayor.mayor_world import hall_in

    return hall_in(env, workers)
