"""A host whose worker is killed in the middle of a watch, on a real server, and back in time: it is not lost.

One that is lost, and found again: tests/e2e/test_two_hosts.py.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.worker import Worker

from models import names
from models.job.messages import WitnessStatus
from models.settings import HealthSettings, HostSettings, Settings
from services.worker.polling import patient
from tests.pace import DEADLINE_S
from tests.temporal_server import client_of, dev_server
from tests.workflows.probes import Record, eventually
from tests.workflows.refinery.merge_world import rig
from tests.workflows.supervision.witness_world import (
    DOUBLES,
    DeaconDouble,
    DispatchDouble,
    MayorsDesk,
    Witness,
    started,
)
from workflows.shared.sandbox import workflow_runner
from workflows.supervision.witness import WitnessWorkflow
from workflows.supervision.witness_state import WitnessState

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200
"""so that a worker which a busy machine starts slowly is back before it"""


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
        patient(Worker(
            client, task_queue=names.TOWN_QUEUE, workflows=DOUBLES,
            activities=[record.load_rig, DeaconDouble(record).check_in], workflow_runner=workflow_runner("tests"),
        )),
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


async def watches(witness: Witness, attempt: int = 1) -> bool:
    """Whether a worker holds the watch, in this attempt at it or a later one."""
    pending = (await witness.describe()).raw_description.pending_activities
    return any(
        each.activity_type.name == "watch_rig" and each.HasField("last_started_time") and each.attempt >= attempt
        for each in pending
    )


async def lost_hosts(witness: Witness) -> tuple[str, ...]:
    status: WitnessStatus = await witness.query(WitnessWorkflow.status)
    return status.lost_hosts


async def test_a_worker_that_is_back_before_the_limit_loses_nothing(server: int) -> None:
    desk = MayorsDesk()
    async with town(server, desk) as witness:
        with host(server) as process:
            await eventually(lambda: watches(witness), deadline_s=DEADLINE_S, what="the watch to be taken")
            process.kill()
            process.wait()
        with host(server):
            # Until the heartbeat timeout the server thinks that the first one goes on.
            await eventually(
                lambda: watches(witness, attempt=2), deadline_s=DEADLINE_S, what="the watch to be taken again"
            )
            assert await lost_hosts(witness) == ()
            assert desk.letters == []
