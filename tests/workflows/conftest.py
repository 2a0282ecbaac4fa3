"""A time-skipping server per test, and workers on the queues that the code names."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import GrpcCompression
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models import names
from services.polling import patient
from services.programs import temporal_settings
from tests.workflows.asking import AskAgain
from workflows.labels import SEARCH_ATTRIBUTES
from workflows.sandbox import workflow_runner

HOST = "h1"


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
        data_converter=pydantic_data_converter,
        interceptors=[AskAgain()],
    ) as environment:
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes={key.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD for key in SEARCH_ATTRIBUTES},
            )
        )
        yield environment


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    """One server per test: its clock may end years ahead, and one broken workflow freezes it."""
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
        dev_server_log_level="error",
        dev_server_extra_args=[
            *temporal_settings(),
            *(word for value in dynamic for word in ("--dynamic-config-value", value)),
        ],
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment


@pytest.fixture
async def real_env() -> AsyncIterator[WorkflowEnvironment]:
    """See `real_time`."""
    async with real_time() as environment:
        yield environment


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
                workflow_runner=workflow_runner(),
                workflow_failure_exception_types=[Exception],
                max_cached_workflows=max_cached_workflows,
            )
            await stack.enter_async_context(patient(town))
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
    from tests.workflows.refinery_yard import yard_in

    return yard_in(env, workers)


@pytest.fixture
def hall(env: WorkflowEnvironment, workers: WorkerBuilder) -> Any:
    """See `mayor_world.hall_in`."""
    from tests.workflows.mayor_world import hall_in

    return hall_in(env, workers)
