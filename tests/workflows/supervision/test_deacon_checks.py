"""The Deacon's town checks under time skipping: what begins is told once, what ends is taken back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models import names
from models.mayor.alerts import AlarmSigns, AlertType, Outage
from models.refinery.messages import PauseRequest
from models.settings import HostSettings, Settings
from models.supervision.messages import ProbeResult, QueueSigns, Wedged, WitnessPing
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from tests.workflows.supervision.deacon_world import DeaconTown, Pinger, PingerState, TownWorld
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.deacon_state import DeaconState

START = datetime(2026, 3, 1, tzinfo=UTC)
Open = Callable[..., contextlib.AbstractAsyncContextManager[DeaconTown]]


@workflow.defn
class DispatcherProbe:
    """Runs under a dispatcher's id and only listens."""

    def __init__(self) -> None:
        self._heard: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def pause(self, request: PauseRequest) -> None:
        self._heard.append(f"pause by {request.by}: {request.reason}")

    @workflow.signal
    def resume(self, request: PauseRequest | None = None) -> None:
        self._heard.append(f"resume by {request.by if request else ''}")

    @workflow.query
    def heard(self) -> list[str]:
        return self._heard


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(world: TownWorld, patience: int = 1000) -> AsyncIterator[DeaconTown]:
        async with workers(workflows=[DeaconWorkflow, DispatcherProbe, Pinger], activities=world.activities):
            deacon = await env.client.start_workflow(
                DeaconWorkflow.run, DeaconState(patience=patience), id=names.DEACON_ID, task_queue=names.TOWN_QUEUE
            )
            here = DeaconTown(env, world, deacon)
            await here.pinger()
            yield here

    return start


def told(world: TownWorld) -> list[str]:
    return [letter.kind for letter in world.letters]


async def failing(here: DeaconTown) -> list[str]:
    return [check.key for check in (await here.status()).checks if not check.ok]


@pytest.mark.document("1: Deacon 监控系统健康")
async def test_a_healthy_town_has_checks_and_no_alarms(town: Open) -> None:
    world = TownWorld(queues={"shop": QueueSigns(rig="shop", mark="a")})
    async with town(world) as here:
        await here.pass_time(timedelta(hours=2))
        assert world.letters == []
        keys = {check.key for check in (await here.status()).checks}
        assert keys == {
            "dolt_down", "host_lost/h1", "disk_full/h1", "disk_full/h1/stop", "clock/h1", "refinery_stalled/shop",
        }  # fmt: skip


async def test_a_ledger_that_is_down_is_told_to_the_mayor_once_and_taken_back(town: Open) -> None:
    world = TownWorld()
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=2))
        world.readable = False
        await here.pass_time(timedelta(hours=1))
        assert told(world) == ["dolt_down"]
        assert (world.letters[0].severity, world.letters[0].level) == ("critical", "L3")
        assert await failing(here) == ["dolt_down"]
        world.readable = True
        await here.pass_time(timedelta(minutes=3))
        assert [cleared.id for cleared in world.cleared] == [world.letters[0].id]
        world.readable = False
        await here.pass_time(timedelta(minutes=10))
        assert told(world) == ["dolt_down"] * 2
        assert world.letters[0].id != world.letters[1].id, "a new episode has an id of its own"


async def test_a_ledger_that_was_never_readable_is_told_too(town: Open) -> None:
    world = TownWorld(readable=False)
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=10))
        assert told(world) == ["dolt_down"]


async def test_a_ledger_that_cannot_be_read_is_read_again_in_seconds_and_told(town: Open) -> None:
    world = TownWorld()
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=2))
        world.readable = False
        await here.pass_time(timedelta(seconds=90))
        assert told(world) == ["dolt_down"], "not a whole cycle later: by then a minute's outage is over"


async def test_an_outage_that_an_alarm_has_found_between_two_looks_is_told_and_over_with_the_next(town: Open) -> None:
    world = TownWorld(alarm=AlarmSigns(tells=(AlertType.DOLT_DOWN,)))
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=2))
        away = Outage(type=AlertType.DOLT_DOWN, since=START, until=START + timedelta(seconds=40), title="dolt of h1")
        world.alarm = AlarmSigns(tells=(AlertType.DOLT_DOWN,), outages=(away,))
        await here.pass_time(timedelta(hours=1))
        assert told(world) == ["dolt_down"]
        assert "dolt of h1: since 00:00:00 UTC until 00:00:40" in world.letters[0].message
        assert world.letters[0].announced, "people heard of it from the alarm"
        assert [cleared.id for cleared in world.cleared] == [world.letters[0].id]
        lasting = away.model_copy(update={"since": START + timedelta(hours=1), "until": None})
        world.alarm = AlarmSigns(tells=(AlertType.DOLT_DOWN,), outages=(away, lasting))
        await here.pass_time(timedelta(minutes=5))
        assert await failing(here) == ["dolt_down"]
        assert len(world.cleared) == 1


async def test_people_hear_from_the_deacon_of_what_no_alarm_tells(town: Open) -> None:
    world = TownWorld(alarm=AlarmSigns(tells=(AlertType.DISK_FULL,)))
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=2))
        world.readable, world.disk_percent = False, 90
        await here.pass_time(timedelta(minutes=5))
        assert {letter.kind: letter.announced for letter in world.letters} == {"dolt_down": False, "disk_full": True}


@pytest.mark.document("2: 磁盘空间不足")
async def test_a_full_disk_alarms_pauses_the_dispatchers_and_is_taken_back_when_cured(
    env: WorkflowEnvironment, town: Open
) -> None:
    world = TownWorld()
    async with town(world) as here:
        dispatcher: WorkflowHandle[DispatcherProbe, None] = await env.client.start_workflow(
            DispatcherProbe.run, id=names.dispatch_id("shop"), task_queue=names.TOWN_QUEUE
        )
        await here.pass_time(timedelta(minutes=2))
        world.disk_percent = 90
        await here.pass_time(timedelta(minutes=10))
        assert told(world) == ["disk_full"]
        assert world.letters[0].severity == "high"
        assert await dispatcher.query(DispatcherProbe.heard) == ["resume by deacon"], (
            "an earlier Deacon's pause is over"
        )
        world.disk_percent = 96
        await here.pass_time(timedelta(minutes=10))
        assert [letter.severity for letter in world.letters] == ["high", "critical"]
        assert all(letter.subject.startswith("h1") for letter in world.letters)
        heard = await dispatcher.query(DispatcherProbe.heard)
        assert set(heard[1:]) == {"pause by deacon: the disk of h1 is full"}
        assert len(heard) > 2, "said again each cycle, to whom it was lost"
        world.disk_percent = 50
        await here.pass_time(timedelta(minutes=10))
        heard = await dispatcher.query(DispatcherProbe.heard)
        assert [word for word in heard if word.startswith("resume")] == ["resume by deacon"] * 2
        assert {cleared.id for cleared in world.cleared} == {letter.id for letter in world.letters}


async def test_a_deacon_that_is_reset_takes_back_the_pause_of_the_one_before_once_there_is_room(
    env: WorkflowEnvironment, town: Open
) -> None:
    """It starts from nothing, and nobody else may take that pause back."""
    world = TownWorld(disk_percent=96)
    async with town(world) as here:
        dispatcher: WorkflowHandle[DispatcherProbe, None] = await env.client.start_workflow(
            DispatcherProbe.run, id=names.dispatch_id("shop"), task_queue=names.TOWN_QUEUE
        )
        await here.pass_time(timedelta(minutes=5))
        heard = await dispatcher.query(DispatcherProbe.heard)
        assert set(heard) == {"pause by deacon: the disk of h1 is full"}, "while it is full nothing is taken back"
        await here.deacon.terminate("gt deacon reset")
        await env.client.start_workflow(DeaconWorkflow.run, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE)
        world.disk_percent = 50
        await here.pass_time(timedelta(minutes=5))
        told_since = (await dispatcher.query(DispatcherProbe.heard))[len(heard) :]
        assert told_since == ["resume by deacon"]


async def test_a_deacon_that_is_stopped_lets_the_dispatchers_go(env: WorkflowEnvironment, town: Open) -> None:
    world = TownWorld(disk_percent=96)
    async with town(world) as here:
        dispatcher: WorkflowHandle[DispatcherProbe, None] = await env.client.start_workflow(
            DispatcherProbe.run, id=names.dispatch_id("shop"), task_queue=names.TOWN_QUEUE
        )
        await here.pass_time(timedelta(minutes=3))
        await here.deacon.execute_update(DeaconWorkflow.stop, PauseRequest(by="ada"))
        await here.pass_time(timedelta(minutes=3))
        heard = await dispatcher.query(DispatcherProbe.heard)
        assert heard[0].startswith("pause")
        assert heard[-1] == "resume by deacon"


async def test_a_queue_that_stands_is_told_and_taken_back_when_it_moves(town: Open) -> None:
    world = TownWorld(queues={"shop": QueueSigns(rig="shop", waiting=3, mark="a")})
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=4))
        assert world.letters == []
        await here.pass_time(timedelta(minutes=4))
        assert told(world) == ["refinery_stalled"]
        assert world.letters[0].rig == "shop"
        world.queues["shop"] = QueueSigns(rig="shop", waiting=2, mark="b")
        await here.pass_time(timedelta(minutes=2))
        assert len(world.cleared) == 1


async def test_a_clock_set_forward_is_noted_and_accuses_nobody(town: Open) -> None:
    world = TownWorld()
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=5))
        world.clock_ahead_s = 3600
        await here.pass_time(timedelta(minutes=5))
        assert [(letter.kind, letter.severity) for letter in world.letters] == [("escalation", "low")]
        assert world.restarts == []
        world.clock_ahead_s = 0
        await here.pass_time(timedelta(minutes=5))
        assert len(world.cleared) == 1


async def test_a_host_that_cannot_tell_its_disk_is_neither_lost_nor_full(town: Open) -> None:
    world = TownWorld(disk_percent=None)
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=30))
        assert world.letters == []


async def test_a_host_without_a_worker_is_lost_and_found_again(env: WorkflowEnvironment, town: Open) -> None:
    world = TownWorld(hosts=("h1", "h9"), settings=Settings(hosts=HostSettings(timeout=10)))
    async with town(world) as here:

        async def lost() -> bool:
            return "host_lost" in told(world)

        # No time is skipped while an activity waits for a worker, so these are ten real seconds.
        await eventually(lost)
        (letter,) = world.letters
        assert (letter.level, letter.subject) == ("L4", "h9")
        assert "host_lost/h9" in await failing(here)
        async with Worker(env.client, task_queue=names.watch_queue("h9"), activities=[world.look_at_host]):
            await here.pass_time(timedelta(minutes=5))

            async def found() -> bool:
                return [cleared.id for cleared in world.cleared] == [letter.id]

            await eventually(found)


@pytest.mark.parametrize(
    ("crowds", "hosts", "named"), [(("shop",), (), True), (("shop",), ("h1",), False), (("barn",), (), False)]
)
async def test_a_witness_hears_of_a_host_with_sessions_of_its_rig_that_it_does_not_watch(
    town: Open, crowds: tuple[str, ...], hosts: tuple[str, ...], named: bool
) -> None:
    async with town(TownWorld(crowds=crowds)) as here:
        witness = here.env.client.get_workflow_handle(names.witness_id("shop"))
        await witness.signal("watch", hosts)
        await here.pass_time(timedelta(minutes=4))
        state: PingerState = await witness.query("state", result_type=PingerState)
        assert set(state.named) == ({"h1"} if named else set())


async def test_open_alarms_survive_handing_over_and_are_not_told_again(town: Open) -> None:
    world = TownWorld(disk_percent=90)
    async with town(world, patience=20) as here:
        first = await runs_of(here.deacon)
        await here.pass_time(timedelta(hours=2))
        here.deacon = here.env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)
        assert await runs_of(here.deacon) != first
        assert told(world) == ["disk_full"]
        world.disk_percent = 10
        await here.pass_time(timedelta(minutes=5))
        assert [cleared.id for cleared in world.cleared] == [world.letters[0].id]


async def test_a_host_that_has_left_the_town_ends_its_alarms(town: Open) -> None:
    world = TownWorld(disk_percent=90)
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=5))
        assert told(world) == ["disk_full"]
        world.hosts = ()
        await here.pass_time(timedelta(minutes=5))
        assert [cleared.reason for cleared in world.cleared] == ["it is not in the town any more"]


# --- jobs and merges whose code fails -------------------------------------------------------------

JOB = Wedged(workflow_id=names.polecat_id("shop", "sh-1"), run_id="r1")


async def test_a_job_whose_code_fails_is_set_going_again_once_and_a_person_is_told_when_it_fails_again(
    town: Open,
) -> None:
    world = TownWorld()
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=2))
        world.wedged = (JOB,)
        await here.pass_time(timedelta(seconds=90))
        assert (world.rescues, told(world)) == ([JOB], []), "the town has mended it by itself"
        world.wedged = ()
        await here.pass_time(timedelta(minutes=2))
        world.wedged = (JOB.model_copy(update={"run_id": "r2"}),)
        await here.pass_time(timedelta(hours=1))
        assert (world.rescues, told(world)) == ([JOB], ["escalation"])
        assert JOB.workflow_id in world.letters[0].message
        world.wedged = None
        await here.pass_time(timedelta(minutes=5))
        assert world.cleared == [], "a look that says nothing ends nothing"
        world.wedged = ()
        await here.pass_time(timedelta(minutes=3))
        assert [cleared.id for cleared in world.cleared] == [world.letters[0].id]


async def test_what_cannot_be_set_going_again_now_is_tried_again_although_nothing_runs_that_could_be_found(
    town: Open,
) -> None:
    world = TownWorld(wedged=(JOB,), rescue_fails=True)
    async with town(world) as here:
        await here.pass_time(timedelta(minutes=3))
        world.wedged = ()
        before = len(world.rescues)
        await here.pass_time(timedelta(minutes=3))
        assert len(world.rescues) > before > 0
        world.rescue_fails = False
        await here.pass_time(timedelta(minutes=3))
        done = len(world.rescues)
        await here.pass_time(timedelta(minutes=3))
        assert len(world.rescues) == done
        assert told(world) == []


async def test_many_jobs_are_set_going_again_in_one_cycle_and_where_nobody_answers_the_cycle_still_ends(
    town: Open,
) -> None:
    many = tuple(Wedged(workflow_id=names.polecat_id("shop", f"sh-{number}"), run_id="r1") for number in range(25))
    world = TownWorld(wedged=many, rescue_fails=True)
    async with town(world) as here:
        await here.pass_time(timedelta(seconds=30))

        async def ten_in_each_cycle() -> bool:
            return len(world.rescues) == 10 * (await here.status()).cycles

        await eventually(ten_in_each_cycle, what="ten in each cycle, and nobody else to be asked")
        world.rescue_fails = False
        world.rescues.clear()
        await here.pass_time(timedelta(minutes=2))
        assert set(world.rescues) == set(many)
        assert len(world.rescues) == len(many)


async def test_a_rescue_that_takes_long_keeps_the_deacon_from_nothing(town: Open) -> None:
    """The dispatcher that cannot rebuild a job is wedged itself, and is mended by a Deacon that looks on."""
    world = TownWorld(wedged=(JOB,), rescue_may_end=asyncio.Event())
    async with town(world) as here:

        async def under_way() -> bool:
            return bool(world.rescues)

        await eventually(under_way)
        world.found[names.dispatch_id("shop")] = ProbeResult.WEDGED

        async def restarted() -> bool:
            return names.dispatch_id("shop") in world.restarted()

        # No time is skipped while an activity is under way, so the second look comes after five real seconds.
        await eventually(restarted)
        assert world.rescues == [JOB], "one at a time"
        assert world.rescue_may_end is not None
        world.rescue_may_end.set()
        await here.pass_time(timedelta(minutes=5))
        assert (world.rescues, world.letters) == ([JOB], [])


async def test_a_run_hands_over_when_its_rescues_have_ended_and_none_is_done_twice(town: Open) -> None:
    world = TownWorld(wedged=(JOB,), rescue_may_end=asyncio.Event())
    async with town(world, patience=3) as here:

        async def under_way() -> bool:
            return bool(world.rescues)

        await eventually(under_way)
        first = await runs_of(here.deacon)
        for number in range(3):
            ping = WitnessPing(rig="shop", witness=names.witness_id("shop"), number=number)
            await here.deacon.signal(DeaconWorkflow.witness_ping, ping)
        assert (await here.heard(), await runs_of(here.deacon)) == (2, first)
        assert world.rescue_may_end is not None
        world.rescue_may_end.set()
        here.deacon = here.env.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID)

        async def handed_over() -> bool:
            return await runs_of(here.deacon) != first

        await eventually(handed_over)
        await here.pass_time(timedelta(minutes=5))
        assert world.rescues == [JOB]
