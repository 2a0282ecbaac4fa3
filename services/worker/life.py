"""What a worker does beside polling: connect patiently, clear up after its predecessor, show that it is
ready, and keep the long-lived workflows started.

Nothing here ends the worker: what fails is logged and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecution
from temporalio.exceptions import ApplicationError
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from ledger.store import Ledger
from models.errors import GtError, Level
from models.ledger.records import Host
from models.mayor.alerts import AlertType, Priority
from models.mayor.escalations import Escalation, SourceReset
from models.town import StoreEngine
from services.notifications.files import AlertFiles
from services.place import Place, say_gone
from services.ports import LOOPBACK
from services.temporal.client import (
    connect,
    register_search_attributes,
    start_rig_workflows,
    start_schedules,
    start_town_workflows,
    wake_dispatchers,
)
from services.temporal.long_lived import tell_mayor
from services.temporal.schedules import verify_soon
from services.town import Town
from services.worker import readiness
from services.worker.ledger_head import head_path, lost_commit

log = logging.getLogger(__name__)

RETRY_S = 0.5
CONNECT_S = 2.0
"""Short: towards a server that is just starting the SDK waits longer and longer between its own tries."""
RIGS_EVERY_S = 10.0
"""How soon the workflows of a rig that was added while Temporal was down are started."""
CLEAR_UP_S = 3.0
"""Clearing up saves seconds, so it may cost no more."""
GONE_EVERY_S = 5.0
GONE_S = 20.0
"""A directory that is not there for so long was deleted or moved. The supervisor, where there is one, ends before."""
SETTLE_S = 20.0
"""What the last worker left is taken up by then, and a difference means something."""
LEDGER_EVERY_S = 10.0
"""An embedded ledger that lost commits is found within this, and people hear of it within 30 s."""
_ROLLED_BACK = "ledger."
_AT_ONCE = 8


def worker_identity(town: Town) -> str:
    """What the server shows of this worker: host, town and incarnation."""
    return f"{town.file.host}@{town.file.id}#{os.getpid()}"


def metrics_runtime(town: Town) -> Runtime:
    """The SDK's runtime, which logs, with a Prometheus port where one is configured."""
    port = town.file.worker.metrics_port
    if port is None:
        return Runtime.default()
    return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=f"{LOOPBACK}:{port}")))


async def connect_patiently(town: Town, identity: str, runtime: Runtime) -> Client:
    """A client of a namespace that exists and knows our search attributes, whenever that comes to be."""
    waiting = ""
    while True:
        try:
            client = await connect(town, identity=identity, timeout_s=CONNECT_S, runtime=runtime)
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=5)
            )
            await register_search_attributes(client, client.namespace)
        except (GtError, RPCError) as error:
            if str(error) != waiting:
                log.warning("waiting for Temporal: %s", error)
            waiting = str(error)
            await asyncio.sleep(RETRY_S)
        else:
            return client


async def clear_up_after_predecessor(client: Client, town: Town) -> int:
    """Fail what a killed worker of this very directory was doing, so that it is retried at once.

    Without it each such activity waits for its heartbeat or start-to-close timeout. Runs before this worker
    polls; only what the dead incarnation itself had taken is failed, and a retry is what would come anyway.

    Returns:
        How many activities were failed.
    """
    dead = readiness.last_worker(town)
    if dead is None or dead.lives() or dead.identity == worker_identity(town):
        return 0
    failed = 0
    try:
        async with asyncio.timeout(CLEAR_UP_S):
            limit = asyncio.Semaphore(_AT_ONCE)
            running = [found async for found in client.list_workflows("ExecutionStatus = 'Running'")]
            counts = await asyncio.gather(*(_fail_orphans(client, found, dead.identity, limit) for found in running))
            failed = sum(counts)
    except (TimeoutError, RPCError) as error:
        log.warning("clearing up after %s: %s", dead.identity, error or "no time left")
    if failed:
        log.info("failed %d activities of %s, for their retry", failed, dead.identity)
    return failed


async def _fail_orphans(client: Client, found: WorkflowExecution, identity: str, limit: asyncio.Semaphore) -> int:
    failed = 0
    async with limit:
        described = await client.get_workflow_handle(found.id, run_id=found.run_id).describe()
        for pending in described.raw_description.pending_activities:
            if pending.last_worker_identity != identity or not pending.HasField("last_started_time"):
                continue
            handle = client.get_async_activity_handle(
                workflow_id=found.id, run_id=found.run_id, activity_id=pending.activity_id
            )
            with contextlib.suppress(RPCError):
                await handle.fail(ApplicationError("its worker died", type="worker_died"))
                failed += 1
    return failed


async def end_without(town: Town) -> None:
    """Wait until the town's directory is gone, then end this process as SIGTERM does."""
    place = Place(town.root)
    while True:
        await asyncio.sleep(GONE_EVERY_S)
        with contextlib.suppress(OSError):
            if place.gone_s() >= GONE_S:
                break
    say_gone(town.root, "its worker")
    os.kill(os.getpid(), signal.SIGTERM)


async def show_readiness(client: Client, town: Town, identity: str, queues: Iterable[tuple[str, bool]]) -> None:
    """Announce this worker once the server sees it poll, and beat from then on; returns never.

    Args:
        client: of the namespace.
        town: where to announce.
        identity: what the server shows of this worker.
        queues: (task queue, whether it takes workflow tasks too).
    """
    kinds = [
        (queue, kind)
        for queue, workflows in queues
        for kind in (TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
        if workflows or kind is TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    ]
    for queue, kind in kinds:
        while not await _polls(client, queue, kind, identity):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.1)
    readiness.announce(town, identity)
    log.info("ready: %s", identity)
    while True:
        await asyncio.sleep(readiness.BEAT_S)
        readiness.beat(town)


async def _polls(client: Client, queue: str, kind: TaskQueueType.ValueType, identity: str) -> bool:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    try:
        answer = await client.workflow_service.describe_task_queue(request, timeout=timedelta(seconds=5))
    except RPCError:
        return False
    return any(poller.identity == identity for poller in answer.pollers)


async def keep_started(client: Client, town: Town, open_ledger: Callable[[], Ledger]) -> None:
    """Register this host, start the town's workflows and Schedules, and each rig's workflows, once per worker.

    Returns never.

    A rig is looked after once: what a person stops later stays stopped.
    """
    started: set[str] = set()
    complaint = ""
    while True:
        try:
            await start_town_workflows(client)
            await start_schedules(client, AlertFiles(town.paths).mirror().deadman)
            ledger = await asyncio.to_thread(open_ledger)
            try:
                await asyncio.to_thread(_register_host, town, ledger)
                complaint = ""
                await _start_new_rigs(client, ledger, started)
            finally:
                await asyncio.to_thread(ledger.close)
        except GtError as error:
            if error.message != complaint:
                log.warning("long-lived workflows: %s", error.message)
            complaint = error.message
            await asyncio.sleep(RETRY_S)


async def _start_new_rigs(client: Client, ledger: Ledger, started: set[str]) -> None:
    """Start the workflows of every rig that is not in `started` yet, and of those to come; returns never.

    A Dispatcher that ran already may have read the record before this host was in it.
    """
    while True:
        for rig in await asyncio.to_thread(ledger.rigs):
            if rig.name not in started:
                await start_rig_workflows(client, rig.name)
                await wake_dispatchers(client, [rig.name])
                started.add(rig.name)
        await asyncio.sleep(RIGS_EVERY_S)


async def watch_embedded_ledger(client: Client, town: Town) -> None:
    """Tell the Mayor, once, when the ledger lacks what it had: its file was truncated or swapped. Returns never."""
    told: str | None = None
    """not known: what an earlier worker has told may be over since"""
    while True:
        await asyncio.sleep(LEDGER_EVERY_S)
        try:
            lost = await asyncio.to_thread(_look_at_ledger, town)
            if lost and lost != told:
                await tell_mayor(client, _rolled_back(town, lost))
                log.error("the ledger lacks commit %s, which it had", lost)
            elif told != "" and not lost:
                await tell_mayor(client, SourceReset(source=town.file.host))
            told = lost
        except (GtError, OSError, RPCError) as error:
            log.warning("the look at the ledger failed: %s", error)


def _look_at_ledger(town: Town) -> str:
    # Opened anew: what is open already may go on with what it had read.
    with contextlib.closing(Ledger.open(town.ledger_url(), create=False)) as ledger:
        return lost_commit(ledger, town.paths)


def _rolled_back(town: Town, lost: str) -> Escalation:
    return Escalation(
        id=_ROLLED_BACK + lost,
        kind=AlertType.DISAGREEMENT.value,
        level=Level.L3.value,
        severity=Priority.CRITICAL.value,
        source=town.file.host,
        subject="ledger",
        message="the ledger was truncated or swapped for an older copy: it lacks a commit that it had",
        evidence=f"{town.paths.doltlite_file} lacks commit {lost}, noted in {head_path(town.paths)}. Put the file back,"
        " or see what is missing with `bd verify`; where it is to stay as it is, remove that note.",
        opened_at=datetime.now(UTC),
    )


async def verify_after_start(client: Client) -> None:
    """Have Dolt, git and Temporal compared: the last worker was killed, perhaps, and the ledger may be an older one."""
    await asyncio.sleep(SETTLE_S)
    while not await verify_soon(client):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(RETRY_S)


async def register_patiently(client: Client, town: Town, open_ledger: Callable[[], Ledger]) -> None:
    """Make this host known, so that the town's rigs place work here; tried again until record and Temporal answer."""
    if town.file.store.engine is StoreEngine.EMBEDDED:
        log.warning("no work is placed on %s: another machine's embedded ledger is out of reach", town.file.host)
        return
    complaint = ""
    while True:
        try:
            ledger = await asyncio.to_thread(open_ledger)
            try:
                await asyncio.to_thread(_register_host, town, ledger)
                await wake_dispatchers(client, [rig.name for rig in await asyncio.to_thread(ledger.rigs)])
            finally:
                await asyncio.to_thread(ledger.close)
        except GtError as error:
            if error.message != complaint:
                log.warning("%s is not known to the town yet: %s", town.file.host, error.message)
            complaint = error.message
            await asyncio.sleep(RETRY_S)
        else:
            return


def _register_host(town: Town, ledger: Ledger) -> None:
    ledger.register_host(Host(name=town.file.host, cores=os.cpu_count() or 1, registered_at=datetime.now(UTC)))
