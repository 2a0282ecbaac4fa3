"""A town whose Temporal is a real server; the Deacon, the Mayor, the Refinery and the Witness are the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from temporalio.client import (
    Client,
    DescribeWorkflowInput,
    OutboundInterceptor,
    QueryWorkflowInput,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.interceptor import ActivityConduct
from activities.temporal import TownActivities
from ledger.store import Ledger
from models import names
from models.ledger.records import Bead, NewBead, Rig
from services.init_town import create_town
from services.temporal.query_retry import PatientQueries
from services.town import Town, load_town
from services.worker.polling import activities_of, patient
from tests.cli.living import standins
from tests.pace import DEADLINE_S
from tests.temporal_server import START_S, client_of, dev_server
from workflows.mayor.workflow import MayorWorkflow
from workflows.refinery.workflow import RefineryWorkflow
from workflows.shared.sandbox import workflow_runner
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.witness import WitnessWorkflow

PATIENCE = (
    *(
        "cli.frame.connect.CONNECT_S",
        "cli.frame.connect.ACCEPT_S",
        "cli.frame.connect.ANSWER_S",
        "cli.frame.connect.QUERY_S",
    ),
    *("cli.town.watchers.ANSWER_S", "cli.town.watchers.BACK_S", "cli.beads.close.WAKE_S", "cli.town.watchers.LOOK_S"),
)
"""for how long commands wait for a worker"""


AGAIN_S = 20.0
"""What runs and has no worker here is asked in vain."""


class Persistent(PatientQueries):
    """Asks again as well what was lost: a worker of an earlier test may have taken it, or the task before it."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Persistent(super().intercept_client(next))


class _Persistent(OutboundInterceptor):
    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        input.rpc_timeout = timedelta(seconds=10)
        deadline = time.monotonic() + AGAIN_S
        while True:
            try:
                return await super().query_workflow(input)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND or time.monotonic() > deadline:
                    raise
                looked_for = DescribeWorkflowInput(input.id, input.run_id, {}, None)
                if (await super().describe_workflow(looked_for)).status is not WorkflowExecutionStatus.RUNNING:
                    raise
            await asyncio.sleep(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Temporal server of this process's own."""
    with dev_server(tmp_path_factory.mktemp("temporal")) as port:
        yield port


@pytest.fixture
def town(tmp_path: Path, server: int) -> Town:
    """A town whose Temporal is this process's server."""
    made = create_town(tmp_path / "town", "test", "embedded").town
    text = tomlkit.parse(made.paths.config.read_text())
    text["temporal"]["port"] = server
    text["temporal"]["namespace"] = "default"
    made.paths.config.write_text(tomlkit.dumps(text))
    return load_town(made.root)


@pytest.fixture
def rig(ledger: Ledger, server: int) -> Iterator[Rig]:
    """A rig that no other test of this server has; none of its watchers outlives the test."""
    name = f"shop-{os.urandom(4).hex()}"
    yield ledger.add_rig(Rig(name=name, url="/nowhere", prefix="sh", branch="main", created_at=datetime.now(UTC)))

    async def end(client: Client) -> None:
        for workflow_id in (names.dispatch_id(name), names.refinery_id(name), names.witness_id(name)):
            with contextlib.suppress(RPCError):
                await client.get_workflow_handle(workflow_id).terminate("the test is over")

    on_server(server, end)


@pytest.fixture
def bead(ledger: Ledger, rig: Rig) -> Bead:
    return ledger.create_bead(NewBead(rig=rig.name, title="Fix the login"))


@pytest.fixture
def worker(server: int) -> Iterator[None]:
    """A worker whose dispatchers and jobs are stand-ins."""
    workflows = [standins.Dispatcher, standins.Job, DeaconWorkflow, MayorWorkflow, RefineryWorkflow, WitnessWorkflow]
    with working(server, workflows, standins.activities):
        yield


@contextlib.contextmanager
def working(port: int, workflows: list[type], activities: list[Any], asking: bool = False) -> Iterator[None]:
    """A worker in a thread, and commands of this process that wait for it however busy the machine is.

    Args:
        asking: with the real activities that ask Temporal itself.
    """
    started, stop = threading.Event(), threading.Event()

    async def work() -> None:
        client = await client_of(port)
        ours = activities_of(TownActivities(client)) if asking else []
        async with contextlib.AsyncExitStack() as stack:
            for queue in (names.TOWN_QUEUE, names.CONTROL_QUEUE):
                worker = Worker(
                    client,
                    task_queue=queue,
                    workflows=workflows if queue == names.TOWN_QUEUE else [],
                    activities=[*activities, *ours],
                    activity_executor=stack.enter_context(ThreadPoolExecutor(4)),
                    max_concurrent_activities=4,
                    interceptors=[ActivityConduct()],
                    workflow_runner=workflow_runner("tests"),
                    # The workflows of earlier tests are on this server too: a stale cache would confuse.
                    max_cached_workflows=0,
                )
                await stack.enter_async_context(patient(worker))
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert started.wait(START_S)
        with pytest.MonkeyPatch.context() as patch:
            for limit in PATIENCE:
                patch.setattr(limit, DEADLINE_S)
            patch.setattr("services.temporal.client.PatientQueries", Persistent)
            yield
    finally:
        stop.set()
        thread.join(START_S)
        on_server(port, end_watchers)
    assert not thread.is_alive()


async def end_watchers(client: Client) -> None:
    """The next test's worker may not have their code, and they would answer nobody for a while."""
    for workflow_id in (names.MAYOR_ID, names.DEACON_ID):
        with contextlib.suppress(RPCError):
            await client.get_workflow_handle(workflow_id).terminate("the test is over")


def on_server(port: int, conversation: Any) -> Any:
    async def talk() -> Any:
        return await conversation(await client_of(port))

    return asyncio.run(talk())


def wait_until_listed(town: Town, bead: str) -> None:
    """Visibility lags behind by up to a second."""
    from services.temporal.client import connect

    async def listed() -> bool:
        client = await connect(town)
        return [found.id async for found in client.list_workflows(f"GtBead = '{bead}'")] != []

    deadline = time.monotonic() + START_S
    while not asyncio.run(listed()):
        assert time.monotonic() < deadline, f"{bead} is not listed"
