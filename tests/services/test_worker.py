"""The worker: everything is registered, one per town directory, and its sudden death costs little time."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import os
import pkgutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import activities
import worker
from ledger.store import Ledger
from models import names
from models.ledger.records import Rig
from models.names import WorkflowType
from services.supervisor.programs import WORKER
from services.supervisor.up_and_down import service_states
from services.temporal.client import connect
from services.town import Town
from services.worker.life import register_patiently
from services.worker.polling import patient
from tests.pace import DEADLINE_S
from tests.services.conftest import eventually
from workflows.registry import WORKFLOWS


def registered(workers: list[Worker]) -> Counter[str]:
    return Counter(method.__qualname__ for each in workers for method in each.config(active_config=True)["activities"])


def written() -> set[str]:
    """Every activity that the activities package defines."""
    found: set[str] = set()
    for module in pkgutil.walk_packages(activities.__path__, "activities."):
        for _, owner in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if owner.__module__ == module.name:
                functions = inspect.getmembers(owner, inspect.isfunction)
                found |= {f.__qualname__ for _, f in functions if hasattr(f, "__temporal_activity_definition")}
    return found


async def test_every_activity_is_registered_on_exactly_one_queue(running_town: Town) -> None:
    workers = worker.build_workers(await connect(running_town), running_town, host_only=False)
    names_of = registered(workers)
    assert set(names_of) == written()
    assert set(names_of.values()) == {1}


async def test_a_host_only_worker_leaves_the_towns_queues_alone(running_town: Town) -> None:
    host = running_town.file.host
    workers = worker.build_workers(await connect(running_town), running_town, host_only=True)
    of_the_host = {names.host_queue(host), names.gates_queue(host), names.watch_queue(host)}
    assert {each.task_queue for each in workers} == of_the_host


def test_every_workflow_that_has_a_name_is_registered() -> None:
    defined = {workflow._Definition.must_from_class(each).name for each in WORKFLOWS}
    assert set(WorkflowType) <= defined


def test_a_worker_is_closed_to_others_before_it_works(running_town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    async def serve(town: Town, host_only: bool) -> None:
        calls.append(f"served with {town.secrets['ledger_password']}")

    monkeypatch.setenv("GT_LEDGER_PASSWORD", "secret")
    monkeypatch.setattr(sys, "argv", ["worker", "--town", str(running_town.root)])
    monkeypatch.setattr(worker, "serve", serve)
    monkeypatch.setattr(worker, "forbid_tracing", lambda: calls.append("forbidden"))
    monkeypatch.setattr(worker, "leave_keyring", lambda: calls.append("without keys"))
    monkeypatch.setattr("services.supervisor.guard.enter", lambda lock: None)
    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    worker.main()
    assert calls == ["forbidden", "without keys", "served with secret"]


def test_a_second_worker_in_the_same_town_refuses_to_start(running_town: Town) -> None:
    argv = [sys.executable, "-P", "-m", "worker", "--town", str(running_town.root)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 5
    assert "error: another process" in done.stderr


async def test_a_rig_that_is_added_later_gets_its_workflows(running_town: Town) -> None:
    client = await connect(running_town)
    ledger = await asyncio.to_thread(Ledger.open, running_town.ledger_url())
    try:
        rig = Rig(name="late", url="file:///nowhere", prefix="lt", branch="main", created_at=datetime.now(UTC))
        await asyncio.to_thread(ledger.add_rig, rig)
        assert running_town.file.host in {host.name for host in await asyncio.to_thread(ledger.hosts)}
    finally:
        await asyncio.to_thread(ledger.close)
    await eventually("the rig's dispatcher", lambda: exists(client, names.dispatch_id("late")))


async def test_a_new_host_is_told_to_the_dispatchers_once_it_is_recorded(running_town: Town) -> None:
    client = await connect(running_town)
    file = running_town.file.model_copy(update={"host": "second"})

    def open_ledger() -> Ledger:
        return Ledger.open(running_town.ledger_url())

    ledger = await asyncio.to_thread(open_ledger)
    try:
        rig = Rig(name="glad", url="file:///nowhere", prefix="gl", branch="main", created_at=datetime.now(UTC))
        await asyncio.to_thread(ledger.add_rig, rig)
        await eventually("the town's worker to look after the rig", lambda: woken(client, "glad", 1))
        await register_patiently(client, dataclasses.replace(running_town, file=file), open_ledger)
        assert await woken(client, "glad", 2)
        known = {host.name for host in await asyncio.to_thread(ledger.hosts)}
    finally:
        await asyncio.to_thread(ledger.close)
    assert known == {running_town.file.host, "second"}


async def woken(client: Client, rig: str, times: int) -> bool:
    """Whether the rig's Dispatcher was told so often to look at the record; False too while there is none."""
    if not await exists(client, names.dispatch_id(rig)):
        return False
    history = client.get_workflow_handle(names.dispatch_id(rig)).fetch_history_events()
    told = [event.workflow_execution_signaled_event_attributes.signal_name async for event in history]
    return told.count("wake") == times


async def exists(client: Client, workflow_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return False
    return True


@workflow.defn
class CountWorkflow:
    """Waits for an activity that only a second attempt finishes."""

    @workflow.run
    async def run(self, queue: str) -> int:
        counted: int = await workflow.execute_activity(
            "count_slowly",
            task_queue=queue,
            result_type=int,
            start_to_close_timeout=timedelta(hours=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1)),
        )
        return counted


async def test_what_a_killed_worker_was_doing_is_retried_long_before_its_timeout(running_town: Town) -> None:
    client = await connect(running_town)
    async with patient(
        Worker(client, task_queue="count", workflows=[CountWorkflow], workflow_runner=UnsandboxedWorkflowRunner())
    ):
        queue = names.host_queue(running_town.file.host)
        handle = await client.start_workflow(CountWorkflow.run, queue, id="count", task_queue="count")
        await eventually("the activity to run", lambda: has_started_activity(client))
        pid = next(state.pid for state in service_states(running_town) if state.name == WORKER)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(handle.result(), DEADLINE_S) == 2


async def has_started_activity(client: Client) -> bool:
    described = await client.get_workflow_handle("count").describe()
    return any(each.HasField("last_started_time") for each in described.raw_description.pending_activities)
