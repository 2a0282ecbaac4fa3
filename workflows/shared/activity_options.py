"""How each activity is called: queue, time limits and retries, in one table.

Figures: the time limits of docs/temporal.md (measured with the Python SDK on two cores).
Durable steps retry for ever with a capped delay, because giving up loses work; what needs a
person is noticed by policy, not by an exhausted retry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy

from models import names

FOREVER = RetryPolicy(
    initial_interval=timedelta(seconds=0.2),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
)
BRIEFLY = RetryPolicy(
    initial_interval=timedelta(seconds=0.2),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=2),
    maximum_attempts=4,
)
PATIENTLY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=60),
)
BOUNDED = RetryPolicy(
    initial_interval=timedelta(seconds=0.5),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=5,
)
"""of a merge's host work: what fails then is looked at by the merge, which knows whom to blame and whom to call"""
HEARTBEAT_TIMEOUT = timedelta(seconds=5)


class LocalOptions(TypedDict, total=False):
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    retry_policy: RetryPolicy


class ActivityOptions(TypedDict, total=False):
    task_queue: str
    start_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


def ledger_write() -> ActivityOptions:
    """The outbox: waits out any outage of the ledger."""
    return {
        "task_queue": names.TOWN_QUEUE,
        "start_to_close_timeout": timedelta(seconds=30),
        "retry_policy": FOREVER,
    }


def ledger_write_at_once() -> LocalOptions:
    """The same within a workflow task, which it holds: far shorter than that may take, and tried once."""
    return {"schedule_to_close_timeout": timedelta(seconds=2), "retry_policy": RetryPolicy(maximum_attempts=1)}


def ledger_ask() -> ActivityOptions:
    """A question whose asker can live with «unreachable»."""
    return {
        "task_queue": names.TOWN_QUEUE,
        "start_to_close_timeout": timedelta(seconds=10),
        "schedule_to_close_timeout": timedelta(seconds=20),
        "retry_policy": BRIEFLY,
    }


def job_start() -> ActivityOptions:
    """The same, and the end of the bead's last job, which is about to come, is waited for."""
    return ledger_ask() | {
        "start_to_close_timeout": timedelta(seconds=20),
        "schedule_to_close_timeout": timedelta(seconds=30),
    }


def control() -> ActivityOptions:
    """Messages to the Mayor and questions to Temporal: never behind a slow database."""
    return {
        "task_queue": names.CONTROL_QUEUE,
        "start_to_close_timeout": timedelta(seconds=10),
        "retry_policy": FOREVER,
    }


def sending() -> ActivityOptions:
    """What people are sent: waits out any outage of their services, and asks them no more than once a minute."""
    return {
        "task_queue": names.CONTROL_QUEUE,
        "start_to_close_timeout": timedelta(seconds=90),
        "retry_policy": PATIENTLY,
    }


def control_briefly() -> ActivityOptions:
    """The same for who comes back to it by itself."""
    return {**control(), "schedule_to_close_timeout": timedelta(seconds=20), "retry_policy": BRIEFLY}


def check_in() -> LocalOptions:
    """A local activity: it holds the workflow's task, so it is short, and the next cycle is its retry."""
    return {"start_to_close_timeout": timedelta(seconds=5), "retry_policy": RetryPolicy(maximum_attempts=1)}


def pings(limit: timedelta) -> ActivityOptions:
    """Bounded pings and restarts of workflows: many of them, or a patient one; who asks asks again."""
    return {
        "task_queue": names.CONTROL_QUEUE,
        "start_to_close_timeout": limit,
        "schedule_to_close_timeout": limit + timedelta(seconds=20),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BRIEFLY,
    }


def deadman_ping() -> ActivityOptions:
    """Told in time or not at all: the next ping comes by itself."""
    return {
        "task_queue": names.CONTROL_QUEUE,
        "start_to_close_timeout": timedelta(seconds=15),
        "schedule_to_close_timeout": timedelta(minutes=1),
        "retry_policy": BRIEFLY,
    }


def ledger_upkeep() -> ActivityOptions:
    """Garbage of a large ledger takes minutes; who looks comes again in an hour."""
    return {
        "task_queue": names.TOWN_QUEUE,
        "start_to_close_timeout": timedelta(minutes=45),
        "schedule_to_close_timeout": timedelta(minutes=50),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BRIEFLY,
    }


def verification() -> ActivityOptions:
    """Every rig's remote is read, each for minutes at most; who looks comes again in an hour."""
    return {
        "task_queue": names.TOWN_QUEUE,
        "start_to_close_timeout": timedelta(minutes=20),
        "schedule_to_close_timeout": timedelta(minutes=25),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BRIEFLY,
    }


def service_restart() -> ActivityOptions:
    """A stop that may take its whole grace, and a start."""
    return {
        "task_queue": names.CONTROL_QUEUE,
        "start_to_close_timeout": timedelta(minutes=2),
        "retry_policy": BRIEFLY,
    }


def host_work(host: str) -> ActivityOptions:
    """git and tmux on one host. Work waits for the host; a lost host is the patrol's to notice."""
    return {
        "task_queue": names.host_queue(host),
        "start_to_close_timeout": timedelta(minutes=10),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": FOREVER,
    }


def merge_work(host: str) -> ActivityOptions:
    """git's part of a merge: `workflows.refinery.hosts` says what follows when it fails."""
    return host_work(host) | {"retry_policy": BOUNDED}


def errand(host: str) -> ActivityOptions:
    """Host work that a person waits for: a host that does not take it soon counts as away."""
    return {
        "task_queue": names.host_queue(host),
        "start_to_close_timeout": timedelta(minutes=10),
        "schedule_to_start_timeout": timedelta(seconds=20),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BRIEFLY,
    }


def host_ask(host: str, patience: timedelta) -> ActivityOptions:
    """The same, for what can do without a host that does not begin within `patience`."""
    return host_work(host) | {"schedule_to_start_timeout": patience}


def gates(host: str, total: timedelta) -> ActivityOptions:
    """All gates at one commit; `total` is the sum of the gates' own limits. They may wait long for a core."""
    return {
        "task_queue": names.gates_queue(host),
        "start_to_close_timeout": total + timedelta(minutes=10),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BOUNDED,
    }


def cleanup(host: str) -> ActivityOptions:
    """What is left of a polecat goes; the next survey sees whether it did."""
    return {
        "task_queue": names.host_queue(host),
        "start_to_close_timeout": timedelta(minutes=10),
        "schedule_to_close_timeout": timedelta(minutes=20),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": BRIEFLY,
    }


def watch(host: str, interval: timedelta, host_timeout: timedelta) -> ActivityOptions:
    """The patrol's long poll. A watch that no worker takes within `host_timeout` ends as schedule-to-start timeout."""
    return {
        "task_queue": names.watch_queue(host),
        "start_to_close_timeout": interval + timedelta(seconds=30),
        "schedule_to_start_timeout": host_timeout,
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": FOREVER,
    }


def look_at_host(host: str, patience: timedelta) -> ActivityOptions:
    """A look that any worker of the host answers at once; one that nobody takes within `patience` means a lost host."""
    return {
        "task_queue": names.watch_queue(host),
        "schedule_to_start_timeout": patience,
        "start_to_close_timeout": timedelta(seconds=10),
        "retry_policy": BRIEFLY,
    }
