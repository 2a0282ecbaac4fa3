"""Reports to the Mayor and questions about workflows, against a real Temporal dev server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.temporal import TownActivities
from models import names
from models.errors import Level
from models.job.messages import WorkflowIds
from models.mayor.escalations import Escalation, EscalationCleared, EscalationStatus
from models.supervision.messages import ProbeResult, RestartWorkflow
from services.temporal import long_lived
from tests.pace import DEADLINE_S
from tests.temporal_server import client_of_namespace
from workflows.mayor.workflow import MayorWorkflow
from workflows.shared.sandbox import workflow_runner


@pytest.fixture
async def client(temporal_port: int) -> Client:
    """Of a namespace of its own: the Mayor's id is the same in every test."""
    return await client_of_namespace(temporal_port)


def report(name: str) -> Escalation:
    return Escalation(
        id=name,
        kind="gate_broken",
        level=Level.L3.value,
        source="refinery/shop",
        message="the gate is broken",
        opened_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


async def escalations(client: Client) -> list[EscalationStatus]:
    async with Worker(
        client,
        task_queue=names.TOWN_QUEUE,
        workflows=[MayorWorkflow],
        workflow_runner=workflow_runner(),
    ):
        return await client.get_workflow_handle_for(MayorWorkflow.run, names.MAYOR_ID).query(MayorWorkflow.escalations)


async def test_a_mayor_who_takes_a_report_and_does_not_work_is_seen_not_to_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = TownActivities(client)
    assert (await ActivityEnvironment().run(town.look_at_mayor)).result is ProbeResult.ABSENT
    await ActivityEnvironment().run(town.tell_mayor, report("one"))
    assert (await ActivityEnvironment().run(town.look_at_mayor)).result is ProbeResult.SILENT
    monkeypatch.setattr(long_lived, "probe", partial(long_lived.probe, limit_s=DEADLINE_S))
    async with Worker(
        client, task_queue=names.TOWN_QUEUE, workflows=[MayorWorkflow], workflow_runner=workflow_runner()
    ):
        assert (await ActivityEnvironment().run(town.look_at_mayor)).result is ProbeResult.ANSWERS


async def test_a_report_starts_an_absent_mayor_and_later_ones_find_the_same(client: Client) -> None:
    town = TownActivities(client)
    for name in ("one", "two", "one"):
        await ActivityEnvironment().run(town.tell_mayor, report(name))
    runs = [execution.run_id async for execution in client.list_workflows("WorkflowId = 'mayor'")]
    assert len(runs) <= 1, "visibility may lag, but there is never a second run"
    assert [status.id for status in await escalations(client)] == ["one", "two"]


async def test_that_a_fault_is_over_reaches_the_mayor_that_runs(client: Client) -> None:
    town = TownActivities(client)
    await ActivityEnvironment().run(town.tell_mayor, report("one"))
    await ActivityEnvironment().run(town.clear_escalation, EscalationCleared(id="one", reason="it passes again"))
    history = await client.get_workflow_handle(names.MAYOR_ID).fetch_history()
    signals = [event.workflow_execution_signaled_event_attributes.signal_name for event in history.events]
    assert [name for name in signals if name] == ["escalate", "cleared"]


async def test_a_kill_after_the_report_and_its_retry_are_one_escalation(client: Client, tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from temporalio.client import Client\n"
        "from temporalio.contrib.pydantic import pydantic_data_converter\n"
        "from activities.temporal import TownActivities\n"
        "from models.mayor.escalations import Escalation\n"
        "async def main():\n"
        "    address, namespace, document = sys.argv[1:]\n"
        "    client = await Client.connect(address, namespace=namespace, data_converter=pydantic_data_converter)\n"
        "    await TownActivities(client).tell_mayor(Escalation.model_validate_json(document))\n"
        "asyncio.run(main())\n"
        # The client's threads outlive it and may abort an interpreter that shuts down.
        "os._exit(0)\n"
    )
    address = client.service_client.config.target_host
    command = [sys.executable, "-c", script, address, client.namespace, report("one").model_dump_json()]
    environment = os.environ | {"GT_CRASH_POINT": "mayor.told", "GT_CRASH_MARK": str(tmp_path / "mark")}
    ends = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=Path(__file__).parents[2])
        ends.append(await process.wait())
    assert ends == [-signal.SIGKILL, 0]
    assert [status.id for status in await escalations(client)] == ["one"]


async def test_only_workflows_that_run_are_named_in_the_order_asked(client: Client) -> None:
    started: list[WorkflowHandle[MayorWorkflow, None]] = [
        await client.start_workflow(MayorWorkflow.run, id=f"job-{number}", task_queue=names.TOWN_QUEUE)
        for number in range(25)
    ]
    await started[3].terminate()
    asked = WorkflowIds(ids=("absent", *(f"job-{number}" for number in reversed(range(25)))))
    answer = await ActivityEnvironment().run(TownActivities(client).running_workflows, asked)
    assert answer.ids == tuple(f"job-{number}" for number in reversed(range(25)) if number != 3)


async def test_one_that_is_gone_is_brought_back_with_what_it_knew(client: Client) -> None:
    town = TownActivities(client)
    await ActivityEnvironment().run(town.tell_mayor, report("one"))
    assert [status.id for status in await escalations(client)] == ["one"]
    await client.get_workflow_handle(names.MAYOR_ID).terminate()
    async with Worker(
        client, task_queue=names.TOWN_QUEUE, workflows=[MayorWorkflow], workflow_runner=workflow_runner()
    ):
        await ActivityEnvironment().run(town.restart, RestartWorkflow(workflow_id=names.MAYOR_ID))
    assert [status.id for status in await escalations(client)] == ["one"]
