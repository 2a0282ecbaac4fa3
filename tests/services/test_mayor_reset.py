"""A Mayor whose code fails is reset, on a real Temporal server and a town's worker: nobody is decided about twice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.interceptor import ActivityConduct
from models import names
from models.job.messages import DecisionKind
from models.mayor.escalations import Escalation, EscalationResolve, EscalationStatus
from models.names import WorkflowType
from models.supervision.messages import ProbeResult, RestartWorkflow
from services.temporal import long_lived
from services.temporal.long_lived import Handle, probe
from services.temporal.restarts import restart
from services.worker.polling import new_worker
from tests.services.conftest import eventually
from tests.temporal_server import client_of
from tests.workflows.mayor.mayor_world import MayorWorld
from tests.workflows.probes import JobProbe
from workflows.mayor.workflow import MayorWorkflow
from workflows.shared.sandbox import workflow_runner

JOB = names.polecat_id("shop", "sh-1")
SHORT_S = 1.0


@workflow.defn(name=WorkflowType.MAYOR)
class BrokenMayor:
    @workflow.run
    async def run(self, state: dict[str, Any] | None = None) -> None:
        raise RuntimeError("a bug of the new version")


@workflow.defn(name=WorkflowType.MAYOR)
class OtherMayor:
    """A new version that cannot replay what the old one did."""

    @workflow.run
    async def run(self, state: dict[str, Any] | None = None) -> None:
        await workflow.sleep(timedelta(hours=1))


def town_worker(client: Client, activities: Sequence[Callable[..., Any]], mayor: type) -> Worker:
    return new_worker(
        client,
        names.TOWN_QUEUE,
        activities,
        10,
        interceptor=ActivityConduct(),
        threads=False,
        workflows=[mayor, JobProbe],
        runner=workflow_runner() if mayor is MayorWorkflow else UnsandboxedWorkflowRunner(),
    )


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    opened = await client_of(port)
    yield opened
    for workflow_id in (names.MAYOR_ID, JOB):
        await opened.get_workflow_handle(workflow_id).terminate()


def question(name: str, bead: str | None = None) -> Escalation:
    source, rig = (JOB, "shop") if bead else ("ada", None)
    return Escalation(
        id=name, kind="help", level="L2", source=source, rig=rig, bead=bead, message="?", opened_at=datetime.now(UTC)
    )


async def knows(mayor: Handle, *escalations: str) -> bool:
    listed = await mayor.query("escalations", result_type=list[EscalationStatus])
    return {status.id for status in listed} >= set(escalations)


@pytest.mark.parametrize(
    ("version", "resolved"),
    [
        pytest.param(BrokenMayor, [True, False], id="and keeps its answers"),
        pytest.param(OtherMayor, [False, False], id="and asks people again where it cannot replay its history"),
    ],
)
async def test_a_mayor_that_is_reset_does_not_tell_a_new_job_what_was_decided_about_the_old_one(
    client: Client, version: type, resolved: list[bool]
) -> None:
    activities = MayorWorld().activities
    async with Worker(client, task_queue=names.CONTROL_QUEUE, activities=activities):
        async with town_worker(client, activities, MayorWorkflow):
            mayor = await long_lived.start(client, names.MAYOR_ID)
            old = await client.start_workflow(JobProbe.run, id=JOB, task_queue=names.TOWN_QUEUE)
            await mayor.signal("escalate", question("sh-1.1.help", "sh-1"))
            await eventually("the question to be heard", lambda: knows(mayor, "sh-1.1.help"))
            answer = EscalationResolve(id="sh-1.1.help", action=DecisionKind.ABANDON, by="ada")
            await mayor.execute_update("resolve", answer, result_type=EscalationStatus)
            assert [one.kind for one in (await old.query(JobProbe.heard)).decisions] == [DecisionKind.ABANDON]
            await old.signal(JobProbe.end)
            await old.result()
            new = await client.start_workflow(JobProbe.run, id=JOB, task_queue=names.TOWN_QUEUE)
        run = (await client.get_workflow_handle(names.MAYOR_ID).describe()).run_id
        async with town_worker(client, activities, version):
            await client.get_workflow_handle(names.MAYOR_ID).signal("escalate", question("help-1"))

            async def wedged() -> bool:
                with contextlib.suppress(TimeoutError):  # of the server, on a busy machine
                    return (await probe(client, names.MAYOR_ID, SHORT_S)).result is ProbeResult.WEDGED
                return False

            await eventually("the failure", wedged)
        await restart(client, RestartWorkflow(workflow_id=names.MAYOR_ID, run_id=run or "", reason="wedged"))
        async with town_worker(client, activities, MayorWorkflow):
            again = client.get_workflow_handle(names.MAYOR_ID)
            await eventually("every message since", lambda: knows(again, "sh-1.1.help", "help-1"))
            listed = await again.query("escalations", result_type=list[EscalationStatus])
            assert sorted(status.resolved for status in listed) == sorted(resolved)
            assert (await new.query(JobProbe.heard)).decisions == ()
