"""Workers as this project runs them: their limits, and running several as one process until it is told to stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio.client import Client
from temporalio.worker import Interceptor, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from services.worker.stale_query_guard import QueryGuard

log = logging.getLogger(__name__)

DRAIN = timedelta(seconds=10)
"""What activities get to end by themselves after SIGTERM; supervisord's stopwaitsecs is longer."""
STICKY = timedelta(seconds=1)
"""A killed worker's workflows go to another one after this, instead of 10 s (docs/temporal.md)."""
HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""Cancellation travels with heartbeats, so this bounds how late it arrives."""


STALL_S = 8
"""A workflow task that stands still for so long is taken for a deadlock: more than a busy machine or a collection of
garbage lets a sound one stand still. Longer than TASK_TIMEOUT too: what is late for the server is done again, and
is nothing worse than late; a workflow that is interrupted as deadlocked may stay stuck. So one that loops for ever
has tasks that time out: a long-lived one is found by its probe, a job by nobody (docs/decisions/0019)."""


def activities_of(owner: object) -> list[Callable[..., Any]]:
    """Every activity that is a method of `owner`; one of another that it merely holds is none."""
    return [
        method
        for _, method in inspect.getmembers(owner, inspect.ismethod)
        if method.__self__ is owner and hasattr(method, "__temporal_activity_definition")
    ]


def new_worker(
    client: Client,
    queue: str,
    activities: Sequence[Callable[..., Any]],
    at_once: int,
    *,
    interceptor: Interceptor,
    threads: bool = True,
    workflows: Sequence[type] = (),
    runner: WorkflowRunner | None = None,
) -> Worker:
    """A worker on one queue.

    Args:
        client: shared by every worker of the process.
        queue: the task queue.
        activities: bound methods.
        at_once: activities at a time, and threads for those that block.
        interceptor: conduct that every activity shares.
        threads: False when every activity is async.
        workflows: workflow classes, for a queue that has workflow tasks.
        runner: their sandbox; default: the SDK's own.
    """
    worker = Worker(
        client,
        task_queue=queue,
        activities=activities,
        workflows=workflows,
        workflow_runner=QueryGuard(runner or SandboxedWorkflowRunner()),
        activity_executor=ThreadPoolExecutor(at_once, thread_name_prefix=queue) if threads else None,
        max_concurrent_activities=at_once,
        interceptors=[interceptor],
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=DRAIN,
        # By default the SDK reads the code of every module and hashes it: an eighth of a second of each start.
        build_id=version("gastown-temporal"),
    )
    return patient(worker)


def patient(worker: Worker) -> Worker:
    """The same worker, which takes no workflow for deadlocked before `STALL_S`.

    The SDK's 2 s are over on a machine where fifty agents compile. It then interrupts the workflow wherever it
    stands, often cannot evict it afterwards, and that workflow stays stuck until the worker is restarted. There is
    no public setting for it.
    """
    of_workflows = worker._workflow_worker
    if of_workflows is not None and of_workflows._deadlock_timeout_seconds is not None:
        of_workflows._deadlock_timeout_seconds = STALL_S
    return worker


async def run_until_stopped(workers: Sequence[Worker], beside: Sequence[Awaitable[None]]) -> None:
    """Poll until SIGTERM or SIGINT, then drain.

    Args:
        workers: shut down together, so that draining takes as long as the slowest.
        beside: what runs as long as they do; cancelled first.

    Raises:
        BaseExceptionGroup: a worker or a companion failed; the process ought to end and be started again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        polling = [group.create_task(worker.run()) for worker in workers]
        companions = [group.create_task(_forever(work)) for work in beside]
        await stop.wait()
        log.info("draining")
        for companion in companions:
            companion.cancel()
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*polling)


async def _forever(work: Awaitable[None]) -> None:
    await work
