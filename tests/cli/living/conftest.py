"""A town whose Temporal is a real server; the Deacon, the Mayor, the Refinery and the Witness are the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.interceptor import ActivityConduct
from activities.town import TownActivities
from ledger.store import Ledger
from models import names
from models.records import Bead, NewBead, Rig
from services.founding import create_town
from services.polling import activities_of, patient
from services.town import Town, load_town
from tests.cli.living import standins
from tests.temporal_server import START_S, client_of, dev_server
from workflows.deacon import DeaconWorkflow
from workflows.mayor import MayorWorkflow
from workflows.refinery import RefineryWorkflow
from workflows.sandbox import workflow_runner
from workflows.witness import WitnessWorkflow


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
    """A worker in a thread: the commands are processes of their own and the tests wait for them.

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
                    workflow_runner=workflow_runner(),
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
        yield
    finally:
        stop.set()
        thread.join(START_S)
    assert not thread.is_alive()


def on_server(port: int, conversation: Any) -> Any:
    async def talk() -> Any:
        return await conversation(await client_of(port))

    return asyncio.run(talk())


def wait_until_listed(town: Town, bead: str) -> None:
    """Visibility lags behind by up to a second."""
    from services.temporal import connect

    async def listed() -> bool:
        client = await connect(town)
        return [found.id async for found in client.list_workflows(f"GtBead = '{bead}'")] != []

    deadline = time.monotonic() + START_S
    while not asyncio.run(listed()):
        assert time.monotonic() < deadline, f"{bead} is not listed"
