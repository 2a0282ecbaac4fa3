"""The town's Schedules, and Boot by its Schedule with a real Deacon, on a real Temporal server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.client import Client, ScheduleIntervalSpec, ScheduleSpec
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.interceptor import ActivityConduct
from activities.notifications import NoticeActivities
from activities.temporal import TownActivities
from models import names
from models.mayor.alerts import AlertMirror
from models.mayor.escalations import Escalation
from models.settings import DeadmanSettings
from models.supervision.messages import BootReport
from models.town import TownPaths
from models.upkeep.verification import Problem, ProblemKind, TownLook
from services.notifications.files import AlertFiles
from services.temporal import long_lived
from services.temporal.schedules import SCHEDULES, keep_deadman, keep_schedules, run_now
from services.worker.polling import activities_of, patient
from tests.pace import DEADLINE_S
from tests.schedules import remove_schedules
from tests.schedules import silent_schedules as silent_schedules
from tests.services.conftest import eventually
from tests.sinks import http_sink
from tests.temporal_server import client_of
from workflows.shared.sandbox import workflow_runner
from workflows.supervision.boot import BootWorkflow
from workflows.supervision.deacon import DeaconWorkflow
from workflows.upkeep.deadman import DeadmanWorkflow
from workflows.upkeep.verify import VerifyWorkflow


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    client = await client_of(port)
    yield client
    await remove_schedules(client)


@contextlib.asynccontextmanager
async def working(client: Client) -> AsyncIterator[None]:
    async with (
        patient(
            Worker(
                client,
                task_queue=names.TOWN_QUEUE,
                workflows=[BootWorkflow, DeaconWorkflow],
                workflow_runner=workflow_runner(),
            )
        ),
        Worker(
            client,
            task_queue=names.CONTROL_QUEUE,
            activities=activities_of(TownActivities(client)),
            interceptors=[ActivityConduct()],
        ),
    ):
        yield


async def boot_now(client: Client) -> BootReport:
    """Trigger the Schedule and wait for what comes of it."""
    started = await run_now(client, names.BOOT_ID)
    assert started.workflow_id.startswith("boot-")
    return await client.get_workflow_handle_for(BootWorkflow.run, started.workflow_id, run_id=started.run_id).result()


@pytest.mark.document("6: Boot 狗每 5 分钟检查 Deacon")
async def test_every_schedule_is_created_once(client: Client) -> None:
    await keep_schedules(client)
    first = await client.get_schedule_handle(names.BOOT_ID).describe()
    await keep_schedules(client)
    again = await client.get_schedule_handle(names.BOOT_ID).describe()
    assert again.info.last_updated_at == first.info.last_updated_at
    assert first.schedule.spec.intervals[0].every == timedelta(minutes=5)


async def test_a_changed_one_is_brought_up_to_date_and_stays_paused(client: Client) -> None:
    await keep_schedules(client)
    handle = client.get_schedule_handle(names.BOOT_ID)
    await handle.pause(note="maintenance")
    hourly = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])
    await keep_schedules(client, [dataclasses.replace(SCHEDULES[0], spec=hourly)])
    described = await handle.describe()
    assert described.schedule.spec.intervals[0].every == timedelta(hours=1)
    assert (described.schedule.state.paused, described.schedule.state.note) == (True, "maintenance")


async def test_the_dead_man_s_switch_is_pinged_by_its_schedule_for_as_long_as_it_is_set(
    client: Client, tmp_path: Path
) -> None:
    files = AlertFiles(TownPaths(tmp_path))
    with http_sink() as outside:
        settings = DeadmanSettings(url=f"http://127.0.0.1:{outside.port}/ping", interval=10)
        files.refresh_mirror(lambda: AlertMirror(deadman=settings))
        await keep_deadman(client, settings)
        async with (
            patient(
                Worker(
                    client, task_queue=names.TOWN_QUEUE, workflows=[DeadmanWorkflow], workflow_runner=workflow_runner()
                )
            ),
            Worker(
                client,
                task_queue=names.CONTROL_QUEUE,
                activities=activities_of(NoticeActivities(tmp_path, "gt-none")),
                interceptors=[ActivityConduct()],
            ),
        ):

            async def pinged() -> bool:
                return outside.asked[:2] == ["/ping", "/ping"]

            await eventually("two pings", pinged)
    handle = client.get_schedule_handle(names.DEADMAN_ID)
    await keep_deadman(client, settings.model_copy(update={"interval": 600}))
    assert (await handle.describe()).schedule.spec.intervals[0].every == timedelta(minutes=10)
    for _ in range(2):
        await keep_deadman(client, DeadmanSettings())
    with pytest.raises(RPCError) as gone:
        await handle.describe()
    assert gone.value.status is RPCStatusCode.NOT_FOUND


@pytest.mark.document("6: Boot 狗每 5 分钟检查 Deacon")
@pytest.mark.usefixtures("silent_schedules")
async def test_boot_by_its_schedule_revives_the_deacon_and_remembers_it(client: Client) -> None:
    await keep_schedules(client)
    async with working(client):
        first = await boot_now(client)
        assert [step.ok for step in first.steps] == [False, False, True, True], first
        assert first.healthy
        second = await boot_now(client)
        assert [step.ok for step in second.steps] == [True] * 4
        assert second.restarts == first.restarts, "the Schedule hands on the last result"
        assert (await long_lived.probe(client, names.DEACON_ID, DEADLINE_S)).result == "answers"


@pytest.mark.usefixtures("silent_schedules")
async def test_starts_within_one_second_are_told_apart(client: Client) -> None:
    await keep_schedules(client)
    async with working(client):
        started = [await run_now(client, names.BOOT_ID) for _ in range(4)]
    assert len({start.run_id for start in started}) == 4


@pytest.mark.usefixtures("silent_schedules")
async def test_a_disagreement_is_told_once_over_two_looks_of_its_schedule(client: Client) -> None:
    await keep_schedules(client)
    letters: list[Escalation] = []

    @activity.defn(name="verify_town")
    async def look() -> TownLook:
        problem = Problem(kind=ProblemKind.LANDED_UNKNOWN, rig="shop", subject="sh-9", message="m", command="c")
        return TownLook(problems=(problem,))

    @activity.defn(name="tell_mayor")
    async def tell(escalation: Escalation) -> None:
        letters.append(escalation)

    async with (
        patient(
            Worker(
                client,
                task_queue=names.TOWN_QUEUE,
                workflows=[VerifyWorkflow],
                activities=[look],
                workflow_runner=workflow_runner(),
            )
        ),
        Worker(client, task_queue=names.CONTROL_QUEUE, activities=[tell]),
    ):
        memories = []
        for _ in range(2):
            started = await run_now(client, names.VERIFY_ID)
            handle = client.get_workflow_handle_for(VerifyWorkflow.run, started.workflow_id, run_id=started.run_id)
            memories.append(await handle.result())
    assert memories[0] == memories[1]
    assert [letter.subject for letter in letters] == ["landed_unknown/sh-9"]
