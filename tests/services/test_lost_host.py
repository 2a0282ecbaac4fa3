"""A host whose worker is killed in the middle of a watch, on a real server: lost in time, and found again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.worker import Worker

from models import names
from models.jobs import Restraint, WitnessStatus
from models.settings import HealthSettings, HostSettings, Settings
from tests.temporal_server import client_of, dev_server
from tests.workflows.merge_world import rig
from tests.workflows.probes import Record, eventually
from tests.workflows.witness_world import DOUBLES, DispatchDouble, MayorsDesk, Witness, started
from workflows.registry import workflow_runner
from workflows.witness import WitnessWorkflow
from workflows.witness_state import WitnessState

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 10
LATE_S = 40.0
"""beyond the limits themselves: what a loaded machine may take"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    with dev_server(tmp_path) as port:
        yield port


@contextlib.contextmanager
def host(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The host h2, watching."""
    process = subprocess.Popen([sys.executable, "-m", "tests.services.watching_host", str(port), "h2"], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def town(port: int, desk: MayorsDesk) -> AsyncIterator[Witness]:
    """A Witness with work on h2, whose own worker stays."""
    client = await client_of(port)
    settings = Settings(
        health=HealthSettings(check_interval=600, deacon_timeout=86400), hosts=HostSettings(timeout=TIMEOUT_S)
    )
    record = Record(rig=rig(), settings=settings, hosts=("h1", "h2"))
    async with (
        Worker(
            client, task_queue=names.TOWN_QUEUE, workflows=DOUBLES, activities=[record.load_rig],
            workflow_runner=workflow_runner(),
        ),
        Worker(client, task_queue=names.CONTROL_QUEUE, activities=desk.activities),
    ):  # fmt: skip
        queue = names.TOWN_QUEUE
        await client.start_workflow(DispatchDouble.run, id=names.dispatch_id("shop"), task_queue=queue)
        witness = await client.start_workflow(
            WitnessWorkflow.run,
            WitnessState(rig="shop", settings=settings),
            id=names.witness_id("shop"),
            task_queue=queue,
        )
        await witness.signal("work_started", started("sh-1", host="h2"))
        yield witness


async def watches(witness: Witness) -> bool:
    """Whether a worker holds the watch."""
    pending = (await witness.describe()).raw_description.pending_activities
    return any(each.activity_type.name == "watch_rig" and each.HasField("last_started_time") for each in pending)


async def lost_hosts(witness: Witness) -> tuple[str, ...]:
    status: WitnessStatus = await witness.query(WitnessWorkflow.status)
    return status.lost_hosts


async def test_a_host_killed_while_it_watches_is_lost_in_time_and_found_again(server: int) -> None:
    desk = MayorsDesk()
    async with town(server, desk) as witness:
        with host(server) as process:
            await eventually(lambda: watches(witness), deadline_s=60, what="the watch to be taken")
            process.kill()
            killed = time.monotonic()

            async def lost() -> bool:
                return await lost_hosts(witness) == ("h2",)

            # Heartbeat timeout, schedule-to-start of the retry, and of the look that confirms it.
            limits_s = 5 + TIMEOUT_S + 10
            await eventually(lost, deadline_s=limits_s + LATE_S, what="the loss")
            assert time.monotonic() - killed >= TIMEOUT_S, "not before its time"
        await eventually(lambda: _kinds(desk, ["host_lost"]), what="one alarm")
        with host(server):

            async def found() -> bool:
                return await lost_hosts(witness) == ()

            await eventually(found, deadline_s=60, what="its return")
            await eventually(lambda: _kinds(desk, []), what="the all-clear")
        client = await client_of(server)
        dispatch = client.get_workflow_handle(names.dispatch_id("shop"))
        told = await dispatch.query("restraints", result_type=list[Restraint])
        assert [restraint.lost_hosts for restraint in told] == [(), ("h2",), ()]
        assert told[-1] == Restraint()


async def test_a_worker_that_is_back_before_the_limit_loses_nothing(server: int) -> None:
    desk = MayorsDesk()
    async with town(server, desk) as witness:
        with host(server) as process:
            await eventually(lambda: watches(witness), deadline_s=60, what="the watch to be taken")
            process.kill()
            process.wait()
        with host(server):
            await asyncio.sleep(5)  # the heartbeat timeout: until then the server thinks that the watch goes on
            await eventually(lambda: watches(witness), deadline_s=60, what="the watch to be taken again")
            assert await lost_hosts(witness) == ()
            assert desk.letters == []


async def _kinds(desk: MayorsDesk, kinds: list[str]) -> bool:
    return desk.open_kinds == kinds
