"""A town around the Deacon under test: what its looks find is the test's word, Witnesses are stand-ins that ping."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.base import Frozen
from models.errors import ErrorCode
from models.job.messages import RigName
from models.mayor.alerts import AlarmSigns, Notice
from models.mayor.escalations import EscalationCleared
from models.settings import HealthSettings, Settings
from models.supervision.messages import (
    DeaconStatus,
    HostSigns,
    LookAround,
    LookAt,
    LookedAround,
    Probe,
    ProbeResult,
    QueueSigns,
    RestartWorkflow,
    RigWatch,
    TownFacts,
    WatchedStatus,
    Wedged,
    WitnessPing,
)
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import MayorsPost
from workflows.supervision.deacon import DeaconWorkflow
from workflows.supervision.deacon_state import DeaconState

PINGS_A_RUN = 400


class PingerState(Frozen):
    rig: str
    every_s: int = 60
    number: int = 0
    patrols: bool = True
    hosts: tuple[str, ...] = ("h1",)
    """that it watches"""
    named: tuple[str, ...] = ()
    """hosts that the Deacon has named"""


@workflow.defn
class Pinger:
    """Runs under a Witness's id: pings the Deacon each interval while it is told to, and listens."""

    @workflow.init
    def __init__(self, state: PingerState) -> None:
        self._state = state
        self._silent = False

    @workflow.run
    async def run(self, state: PingerState) -> None:
        deacon = workflow.get_external_workflow_handle(names.DEACON_ID)
        for _ in range(PINGS_A_RUN):
            if not self._silent:
                self._amend(number=self._state.number + 1)
                ping = WitnessPing(
                    rig=state.rig,
                    witness=names.witness_id(state.rig),
                    number=self._state.number,
                    patrolled_at=workflow.now() if self._state.patrols else None,
                    has_work=True,
                    hosts=self._state.hosts,
                )
                with contextlib.suppress(ApplicationError):
                    await deacon.signal("witness_ping", ping)
            await workflow.sleep(state.every_s)
        workflow.continue_as_new(self._state)

    @workflow.signal
    def look_at(self, seen: LookAt) -> None:
        self._amend(named=(*self._state.named, seen.host))

    @workflow.signal
    def fall_silent(self) -> None:
        self._silent = True

    @workflow.signal
    def watch(self, hosts: tuple[str, ...]) -> None:
        self._amend(hosts=hosts)

    @workflow.signal
    def patrol(self, patrols: bool) -> None:
        self._amend(patrols=patrols)

    @workflow.query
    def state(self) -> PingerState:
        return self._state

    def _amend(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)


@dataclass
class TownWorld(MayorsPost):
    """What the Deacon's activities meet."""

    settings: Settings = field(default_factory=Settings)
    rigs: tuple[str, ...] = ("shop",)
    readable: bool = True
    reachable: bool = True
    """the Mayor and the workflows can be asked"""
    found: dict[str, ProbeResult] = field(default_factory=dict)
    """by workflow id, where it is not an answer"""
    stopped: set[str] = field(default_factory=set)
    heals: bool = True
    """a restart sets right what was found"""
    restarts: list[RestartWorkflow] = field(default_factory=list)
    on_restart: Callable[[str], None] | None = None
    cleared: list[EscalationCleared] = field(default_factory=list)
    announced: list[Notice] = field(default_factory=list)
    """what people were told directly"""
    channel_refuses: bool = False
    """one channel takes nothing of that"""
    refused: list[Notice] = field(default_factory=list)
    channel_may_answer: asyncio.Event | None = None
    """None: it answers at once"""
    hosts: tuple[str, ...] = ("h1",)
    disk_percent: float | None = 50.0
    clock_ahead_s: float = 0.0
    alarm: AlarmSigns | None = None
    crowds: tuple[str, ...] = ()
    """rigs with sessions on each host"""
    queues: dict[str, QueueSigns] = field(default_factory=dict)
    """by rig"""
    wedged: tuple[Wedged, ...] | None = ()
    rescues: list[Wedged] = field(default_factory=list)
    rescue_fails: bool = False
    rescue_may_end: asyncio.Event | None = None
    """None: each ends at once"""

    @activity.defn
    async def look_around(self, asked: LookAround) -> LookedAround:
        return self.seen(asked)

    def seen(self, asked: LookAround) -> LookedAround:
        facts = TownFacts(
            settings=self.settings,
            rigs={rig: RigWatch(settings=self.settings) for rig in self.rigs},
            hosts=self.hosts,
        )
        return LookedAround(
            facts=facts if self.readable else None,
            unread="" if self.readable else "the ledger is down",
            probes=tuple(self._probe(workflow_id) for workflow_id in asked.ids) if self.reachable else None,
            queues=tuple(self.queues[rig] for rig in asked.rigs if rig in self.queues),
            wedged=self.wedged,
        )

    def _probe(self, workflow_id: str) -> Probe:
        result = self.found.get(workflow_id, ProbeResult.ANSWERS)
        return Probe(
            workflow_id=workflow_id, result=result, run_id=f"run of {workflow_id}", stopped=workflow_id in self.stopped
        )

    @activity.defn
    async def restart(self, order: RestartWorkflow) -> None:
        self.restarts.append(order)
        if self.heals:
            self.found.pop(order.workflow_id, None)
            if self.on_restart:
                self.on_restart(order.workflow_id)

    @activity.defn
    async def rescue(self, wedged: Wedged) -> bool:
        self.rescues.append(wedged)
        await _hang(self.rescue_may_end)
        if self.rescue_fails:
            raise ApplicationError("the dispatcher does not answer", non_retryable=True)
        return True

    @activity.defn
    async def look_at_host(self) -> HostSigns:
        host = activity.info().task_queue.partition(".")[2]
        if self.disk_percent is None:
            raise ApplicationError("the file system does not answer", non_retryable=True)
        now = activity.info().scheduled_time
        return HostSigns(
            host=host,
            disk_percent=self.disk_percent,
            at=now + timedelta(seconds=self.clock_ahead_s),
            steady_s=now.timestamp(),
            steady_since="boot",
            rigs=self.crowds,
            alarm=self.alarm,
        )

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        self.cleared.append(cleared)

    @activity.defn
    async def announce(self, notice: Notice) -> None:
        if self.channel_refuses:
            self.refused.append(notice)
            await _hang(self.channel_may_answer)
            raise ApplicationError("channel slack: 503", type=ErrorCode.CHANNEL_FAILED.value, non_retryable=True)
        self.announced.append(notice)

    @property
    def activities(self) -> list[Callable[..., object]]:
        return [
            self.look_around, self.restart, self.tell_mayor, self.clear_escalation, self.look_at_host, self.announce,
            self.rescue,
        ]  # fmt: skip

    def restarted(self) -> list[str]:
        return [order.workflow_id for order in self.restarts]


async def _hang(until: asyncio.Event | None) -> None:
    """Beat as a hanging activity does."""
    while until is not None and not until.is_set():
        activity.heartbeat()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), 1)


@dataclass
class DeaconTown:
    """The Deacon that runs in a world, and the Witness of its rig."""

    env: WorkflowEnvironment
    world: TownWorld
    deacon: WorkflowHandle[DeaconWorkflow, None]

    async def pinger(self, rig: str = "shop", every_s: int = 60) -> WorkflowHandle[Pinger, None]:
        """A Witness that pings; the one that ran before is ended."""
        handle = self.env.client.get_workflow_handle(names.witness_id(rig))
        with contextlib.suppress(Exception):
            await handle.terminate()
        return await self.env.client.start_workflow(
            Pinger.run,
            PingerState(rig=rig, every_s=every_s),
            id=names.witness_id(rig),
            task_queue=names.TOWN_QUEUE,
        )

    async def status(self) -> DeaconStatus:
        return await self.deacon.query(DeaconWorkflow.status)

    async def heard(self, rig: str = "shop") -> int:
        """The number of the Witness's last ping that the Deacon says it has heard."""
        return (await self.deacon.query(DeaconWorkflow.pong, RigName(rig=rig))).number

    async def watched(self, workflow_id: str) -> WatchedStatus:
        return next(row for row in (await self.status()).watched if row.workflow_id == workflow_id)

    async def pass_time(self, time: timedelta) -> None:
        """Let virtual time pass."""
        await self.env.sleep(time)


@contextlib.asynccontextmanager
async def town_with(
    env: WorkflowEnvironment, workers: WorkerBuilder, world: TownWorld, patience: int = 1000
) -> AsyncIterator[DeaconTown]:
    """A Deacon that runs in `world`, and hands over after `patience` messages."""
    async with workers(workflows=[DeaconWorkflow, Pinger], activities=world.activities):
        deacon = await env.client.start_workflow(
            DeaconWorkflow.run, DeaconState(patience=patience), id=names.DEACON_ID, task_queue=names.TOWN_QUEUE
        )
        yield DeaconTown(env, world, deacon)


def settings(**health: int) -> Settings:
    return Settings(health=HealthSettings(**health))
