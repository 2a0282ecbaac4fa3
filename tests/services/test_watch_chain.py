"""The watch over workflows on a real Temporal server: the real Deacon and its real activities, rigs that are stand-ins.

It looks once a second, so that minutes become seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.cycle_checks import RoundActivities
from activities.host_checks import HostCheckActivities
from activities.interceptor import ActivityConduct
from activities.notifications import NoticeActivities
from activities.sessions.tmux import Tmux
from activities.temporal import TownActivities
from models import names
from models.errors import ErrorCode, GtError
from models.job.messages import RigFacts, RigName
from models.mayor.escalations import Escalation, EscalationCleared
from models.names import WorkflowType
from models.refinery.messages import QueueStatus
from models.settings import HealthSettings, Settings
from models.supervision.messages import CheckedIn, CheckIn, DeaconStatus, RigWatch, TownFacts, WitnessPing
from models.town import TownPaths
from services.temporal import long_lived
from services.worker.polling import activities_of, patient
from tests.services.conftest import eventually
from tests.temporal_server import client_of, dev_server
from workflows.shared import activity_options
from workflows.supervision.deacon import DeaconWorkflow

LIMIT_S = 15
SHORT_LIMITS = Settings(health=HealthSettings(check_interval=1, witness_timeout=LIMIT_S, patrol_timeout=LIMIT_S))
LONG_LIMITS = Settings(health=HealthSettings(check_interval=1, witness_timeout=3600, patrol_timeout=3600))
"""no machine is so busy that somebody who works is held to be silent"""
BROKEN: set[str] = set()
"""rigs whose Witness fails in its task"""
WITNESS = names.witness_id("shop")


@workflow.defn(name=WorkflowType.WITNESS)
class PingingWitness:
    """Checks in each second; fails at the next time while its rig is in BROKEN."""

    @workflow.init
    def __init__(self, state: RigName) -> None:
        self._rig = state.rig
        self._answered = 0
        """pings that the Deacon has answered"""

    @workflow.run
    async def run(self, state: RigName) -> None:
        for number in range(1, 1000):
            if state.rig in BROKEN:
                raise RuntimeError("a bug")
            ping = WitnessPing(
                rig=state.rig, witness=names.witness_id(state.rig), number=number, patrolled_at=workflow.now()
            )
            found: CheckedIn = await workflow.execute_local_activity_method(
                RoundActivities.check_in, CheckIn(ping=ping, read=True), **activity_options.check_in()
            )
            self._answered += found.pong is not None and found.pong.number == number
            await workflow.sleep(1)

    @workflow.query
    def answered(self) -> int:
        return self._answered

    @workflow.query
    def status(self) -> dict[str, bool]:
        return {"stopped": False}

    @workflow.query
    def state(self) -> RigName:
        return RigName(rig=self._rig)


@workflow.defn(name=WorkflowType.DISPATCH)
class IdleDispatcher:
    @workflow.run
    async def run(self, state: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def state(self) -> RigName:
        return RigName(rig="shop")


@workflow.defn(name=WorkflowType.REFINERY)
class IdleRefinery:
    @workflow.run
    async def run(self, state: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def state(self) -> RigName:
        return RigName(rig="shop")

    @workflow.query
    def queue(self) -> QueueStatus:
        return QueueStatus(rig="shop", target="main", paused=False)


@workflow.defn(name=WorkflowType.MAYOR)
class ListeningMayor:
    def __init__(self) -> None:
        self._told: list[str] = []
        self._over: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def escalate(self, escalation: Escalation) -> None:
        self._told.append(escalation.id)

    @workflow.signal
    def cleared(self, over: EscalationCleared) -> None:
        self._over.append(over.id)

    @workflow.query
    def letters(self) -> list[list[str]]:
        return [self._told, self._over]


@dataclass
class Record:
    settings: Settings = LONG_LIMITS
    readable: bool = True
    reads: list[bool] = field(default_factory=list)

    def town_facts(self) -> TownFacts:
        self.reads.append(self.readable)
        if not self.readable:
            raise GtError(ErrorCode.LEDGER_UNREACHABLE, "the ledger is down")
        return TownFacts(settings=self.settings, rigs={"shop": RigWatch(settings=self.settings)}, hosts=("h1",))

    def load_rig(self, asked: RigName) -> RigFacts:
        raise GtError(ErrorCode.LEDGER_UNREACHABLE, f"no facts of {asked.rig}")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with dev_server(tmp_path) as opened:
        yield opened


class Chain:
    """A town whose worker comes and goes."""

    def __init__(self, client: Client, root: Path) -> None:
        self.client = client
        self.record = Record()
        self._root = root

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        client, conduct = self.client, [ActivityConduct()]
        rounds = RoundActivities(client, self.record.load_rig, self.record.town_facts)
        control = [
            method
            for owner in (
                TownActivities(client),
                rounds,
                NoticeActivities(self._root, f"gt-{self._root.name}"),
            )
            for method in activities_of(owner)
        ]
        host = activities_of(HostCheckActivities("h1", TownPaths(self._root), Tmux(f"gt-{self._root.name}")))
        workflows = [DeaconWorkflow, PingingWitness, IdleDispatcher, IdleRefinery, ListeningMayor]
        async with (
            patient(
                Worker(
                    client,
                    task_queue=names.TOWN_QUEUE,
                    workflows=workflows,
                    activities=[rounds.check_in],
                    workflow_runner=UnsandboxedWorkflowRunner(),
                    sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
                )
            ),
            Worker(client, task_queue=names.CONTROL_QUEUE, activities=control, interceptors=conduct),
            Worker(client, task_queue=names.watch_queue("h1"), activities=host, interceptors=conduct),
        ):
            yield

    async def start(self) -> None:
        for name in (
            names.MAYOR_ID, names.dispatch_id("shop"), names.refinery_id("shop"), WITNESS, names.DEACON_ID,
        ):  # fmt: skip
            await long_lived.start(self.client, name)
        await eventually("everybody to be well", self.all_well)

    async def status(self) -> DeaconStatus:
        return await self.client.get_workflow_handle_for(DeaconWorkflow.run, names.DEACON_ID).query(
            DeaconWorkflow.status
        )

    async def all_well(self) -> bool:
        status = await self.status()
        return len(status.watched) == 4 and all(row.condition == "well" for row in status.watched)

    async def letters(self) -> tuple[list[str], list[str]]:
        told, over = await self.client.get_workflow_handle(names.MAYOR_ID).query("letters", result_type=list[list[str]])
        return told, over

    async def run_of(self, workflow_id: str) -> str:
        return (await self.client.get_workflow_handle(workflow_id).describe()).run_id or ""


@pytest.fixture
async def chain(port: int, tmp_path: Path) -> AsyncIterator[Chain]:
    yield Chain(await client_of(port), tmp_path)
    BROKEN.clear()


@pytest.mark.document("1: 异常时自动触发恢复")
async def test_whoever_is_gone_is_brought_back_within_seconds_and_nobody_is_bothered(chain: Chain) -> None:
    async with chain.working():
        await chain.start()
        for name in (names.refinery_id("shop"), names.dispatch_id("shop"), WITNESS):
            gone = await chain.run_of(name)
            await chain.client.get_workflow_handle(name).terminate()

            async def back(name: str = name, gone: str = gone) -> bool:
                return await chain.run_of(name) != gone

            await eventually(f"{name} to come back", back)
        await eventually("everybody to be well", chain.all_well)
        assert await chain.letters() == ([], [])

        async def answered() -> bool:
            return bool(await chain.client.get_workflow_handle(WITNESS).query("answered"))

        await eventually("a ping to be answered", answered)


async def test_a_witness_whose_code_fails_is_restarted_once_then_a_persons_and_cleared_once_it_is_repaired(
    chain: Chain,
) -> None:
    async with chain.working():
        await chain.start()
        first = await chain.run_of(WITNESS)
        BROKEN.add("shop")

        async def escalated() -> bool:
            return len((await chain.letters())[0]) == 1

        await eventually("the Mayor to hear", escalated)
        ((told,), _) = await chain.letters()
        assert told.startswith("witness_down/witness/shop/")
        second = await chain.run_of(WITNESS)
        assert second != first
        row = next(row for row in (await chain.status()).watched if row.workflow_id == WITNESS)
        assert (row.condition, row.restarts) == ("down", 1)
        assert "fails again" in row.reason
        BROKEN.clear()

        async def cleared() -> bool:
            return (await chain.letters())[1] == [told]

        await eventually("the end to be told", cleared)
        assert await chain.run_of(WITNESS) == second, "it went on by itself"


async def test_a_worker_that_was_away_for_longer_than_every_limit_accuses_nobody(chain: Chain) -> None:
    chain.record.settings = SHORT_LIMITS
    async with chain.working():
        await chain.start()
    runs = [await chain.run_of(name) for name in (WITNESS, names.refinery_id("shop"), names.MAYOR_ID)]
    await asyncio.sleep(LIMIT_S + 1)  # of real time
    async with chain.working():
        cycles = (await chain.status()).cycles

        async def judged() -> bool:
            return (await chain.status()).cycles >= cycles + 6

        await eventually("six cycles", judged)
        await eventually("everybody to be well", chain.all_well)
        assert await chain.letters() == ([], [])
    assert runs == [await chain.run_of(name) for name in (WITNESS, names.refinery_id("shop"), names.MAYOR_ID)]


async def test_with_the_ledger_down_the_mayor_is_reached_and_hears_when_it_is_back(chain: Chain) -> None:
    async with chain.working():
        await chain.start()
        chain.record.readable = False

        async def told() -> bool:
            return [name.partition("/")[0] for name in (await chain.letters())[0]] == ["dolt_down"]

        await eventually("the Mayor to hear", told)
        chain.record.readable = True

        async def over() -> bool:
            letters = await chain.letters()
            return letters[0] == letters[1]

        await eventually("the end to be told", over)
