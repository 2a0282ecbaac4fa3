"""A watcher's round: what cannot be asked keeps nobody from the rest of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities import cycle_checks, host_checks
from activities.cycle_checks import RoundActivities
from models import names
from models.errors import ErrorCode, GtError
from models.job.messages import RigFacts, RigName
from models.names import WorkflowType
from models.refinery.messages import ForeignCommit, ForeignFound
from models.settings import Settings
from models.supervision.messages import CheckedIn, CheckIn, LookAround, ProbeResult, TownFacts, WitnessPing
from services.temporal import long_lived
from tests.pace import DEADLINE_S
from tests.workflows.conftest import time_skipping, workers_of
from tests.workflows.refinery.merge_world import rig
from tests.workflows.supervision.deacon_world import TownWorld
from workflows.supervision.deacon import DeaconWorkflow


class Record:
    """Reads what it has; hangs until `go_on` while it is told to."""

    def __init__(self) -> None:
        self.readable = True
        self.go_on = threading.Event()
        self.go_on.set()

    def load_rig(self, asked: RigName) -> RigFacts:
        self._open()
        return RigFacts(rig=rig(), settings=Settings(), hosts=(asked.rig,))

    def town_facts(self) -> TownFacts:
        self._open()
        return TownFacts(settings=Settings(), hosts=("h1",))

    def _open(self) -> None:
        self.go_on.wait(DEADLINE_S)
        if not self.readable:
            raise GtError(ErrorCode.LEDGER_UNREACHABLE, "the ledger is down")


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is there has all the time that a busy machine takes to answer."""
    monkeypatch.setattr(cycle_checks, "CHECK_IN_S", DEADLINE_S)
    monkeypatch.setattr(cycle_checks, "READ_S", DEADLINE_S)
    monkeypatch.setattr(long_lived, "probe", partial(long_lived.probe, limit_s=DEADLINE_S))
    monkeypatch.setattr(host_checks, "ASK_S", DEADLINE_S)


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    async with time_skipping() as environment:
        yield environment


@workflow.defn(name=WorkflowType.WITNESS)
class GarbledWitness:
    """As one of another version may be: it runs, and nobody understands its answers."""

    @workflow.run
    async def run(self, asked: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def status(self) -> list[int]:
        return [1]


@workflow.defn(name=WorkflowType.REFINERY)
class GarbledRefinery:
    @workflow.run
    async def run(self, asked: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def queue(self) -> list[int]:
        return [1]


def activities_with(client: Client, record: Record) -> RoundActivities:
    return RoundActivities(client, record.load_rig, record.town_facts)


async def check_in(ours: RoundActivities, number: int, *, read: bool = True) -> CheckedIn:
    ping = WitnessPing(rig="shop", witness=names.witness_id("shop"), number=number)
    return await ActivityEnvironment().run(ours.check_in, CheckIn(ping=ping, read=read))


async def start_deacon(client: Client) -> None:
    await client.start_workflow(DeaconWorkflow.run, id=names.DEACON_ID, task_queue=names.TOWN_QUEUE)


async def test_a_deacon_that_runs_answers_each_ping_with_its_number(env: WorkflowEnvironment) -> None:
    ours = activities_with(env.client, Record())
    async with workers_of(env)(workflows=[DeaconWorkflow], activities=TownWorld().activities):
        await start_deacon(env.client)
        for number in (1, 2, 3):
            found = await check_in(ours, number)
            assert found.pong is not None
            assert found.pong.number == number
            assert found.facts is not None
            assert (found.facts.hosts, found.unread) == (("shop",), "")
        assert (await check_in(ours, 4, read=False)).facts is None


async def test_a_deacon_that_is_gone_or_that_nobody_works_on_does_not_answer_and_the_settings_are_read(
    env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycle_checks, "CHECK_IN_S", 1.0)
    ours = activities_with(env.client, Record())
    gone = await check_in(ours, 1)
    await start_deacon(env.client)
    left_alone = await check_in(ours, 2)
    assert (gone.pong, left_alone.pong) == (None, None)
    assert gone.facts is not None
    assert left_alone.facts is not None


async def test_a_record_that_fails_or_hangs_keeps_no_ping_from_its_answer(
    env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record()
    ours = activities_with(env.client, record)
    async with workers_of(env)(workflows=[DeaconWorkflow], activities=TownWorld().activities):
        await start_deacon(env.client)
        record.readable = False
        failed = await check_in(ours, 1)
        assert (failed.facts, failed.unread) == (None, "the ledger is down")
        assert failed.pong is not None
        record.go_on.clear()
        monkeypatch.setattr(cycle_checks, "CHECK_IN_S", 8.0)
        hung = await check_in(ours, 2)
        record.go_on.set()
        assert "does not answer within" in hung.unread
        assert hung.pong is not None


async def test_a_look_around_finds_who_answers_also_with_the_record_down(
    env: WorkflowEnvironment,
) -> None:
    record = Record()
    ours = activities_with(env.client, record)
    asked = LookAround(ids=(names.MAYOR_ID, names.DEACON_ID), rigs=("shop",))
    async with workers_of(env)(workflows=[DeaconWorkflow], activities=TownWorld().activities):
        await start_deacon(env.client)
        for readable, unread in ((True, ""), (False, "the ledger is down")):
            record.readable = readable
            found = await ActivityEnvironment().run(ours.look_around, asked)
            assert (found.facts is not None, found.unread) == (readable, unread)
            assert found.probes is not None
            assert [(probe.workflow_id, probe.result) for probe in found.probes] == [
                (names.MAYOR_ID, ProbeResult.ABSENT),
                (names.DEACON_ID, ProbeResult.ANSWERS),
            ]
            assert found.queues == (), "there is no Refinery to ask"


async def test_one_whose_answers_nobody_understands_is_found_wedged_and_spoils_the_look_at_nobody_else(
    env: WorkflowEnvironment,
) -> None:
    ours = activities_with(env.client, Record())
    ids = (names.witness_id("shop"), names.refinery_id("shop"), names.DEACON_ID)
    async with workers_of(env)(
        workflows=[DeaconWorkflow, GarbledWitness, GarbledRefinery], activities=TownWorld().activities
    ):
        for workflow_id in ids:
            await long_lived.start(env.client, workflow_id)
        found = await ActivityEnvironment().run(ours.look_around, LookAround(ids=ids, rigs=("shop",)))
        assert found.facts is not None
        assert found.probes is not None
        witness, refinery, deacon = found.probes
        assert (witness.result, refinery.result, deacon.result) == (
            ProbeResult.WEDGED,
            ProbeResult.ANSWERS,
            ProbeResult.ANSWERS,
        )
        assert witness.run_id, "the fence for a restart"
        assert "its answer cannot be read" in witness.detail
        assert found.queues == ()


@workflow.defn(name=WorkflowType.REFINERY)
class ToldRefinery:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @workflow.run
    async def run(self, asked: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def foreign_found(self, found: ForeignFound) -> None:
        self.told.append(" ".join(commit.subject for commit in found.commits))

    @workflow.query
    def heard(self) -> list[str]:
        return self.told


async def test_a_check_in_has_the_target_looked_at_and_tells_the_refinery_of_what_is_new(
    env: WorkflowEnvironment,
) -> None:
    finds: list[tuple[str, ...] | None] = [("one",), None, ("one",), ("one", "two"), ()]
    looked = 0

    def look(asked: RigFacts) -> tuple[ForeignCommit, ...]:
        nonlocal looked
        found = finds[looked]
        looked += 1
        if found is None:
            raise GtError(ErrorCode.REMOTE_UNREACHABLE, "away")
        return tuple(ForeignCommit(target="main", sha=name * 10, subject=name, author="Ada <a@b>") for name in found)

    ours = RoundActivities(env.client, Record().load_rig, Record().town_facts, look)
    async with workers_of(env)(workflows=[ToldRefinery], activities=[]):
        refinery = env.client.get_workflow_handle(names.refinery_id("shop"))
        await long_lived.start(env.client, names.refinery_id("shop"))
        for number, heard in enumerate((["one"], ["one"], ["one"], ["one", "one two"], ["one", "one two"]), 1):
            await check_in(ours, number, read=False)
            while ours.is_looking("shop"):
                await asyncio.sleep(0.01)
            assert (looked, await refinery.query(ToldRefinery.heard)) == (number, heard)
