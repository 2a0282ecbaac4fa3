"""The world around a Mayor under test: the record, the town's alert files, channels, services, dispatchers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode, Level
from models.job.messages import DecisionKind
from models.mayor.alerts import Alerting, Edge, Message, Notice, Notices
from models.mayor.escalations import (
    Escalation,
    EscalationAck,
    EscalationCleared,
    EscalationRef,
    EscalationResolve,
    EscalationStatus,
)
from models.refinery.messages import PauseRequest
from models.settings import Settings
from models.supervision.messages import RigWatch, ServiceName, TownFacts
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import JobProbe, eventually, runs_of
from tests.workflows.refinery.merge_world import START
from workflows.mayor.state import MayorState
from workflows.mayor.workflow import MayorWorkflow

Mayor = WorkflowHandle[MayorWorkflow, None]


@dataclass
class MayorWorld:
    """Everything that a Mayor's activities reach."""

    readable: bool = True
    """the ledger answers"""
    refuses: str = ""
    """an escalation that the ledger never takes"""
    slow: bool = False
    settings: Settings = field(default_factory=Settings)
    rigs: tuple[str, ...] = ("shop",)
    hosts: tuple[str, ...] = ()
    alerting: Alerting = field(default_factory=Alerting)
    refusals: dict[str, int] = field(default_factory=dict)
    """by channel: how many messages it refuses before it takes one"""
    restart_fails: str = ""

    rows: dict[str, EscalationStatus] = field(default_factory=dict)
    log: list[Notice] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    reads: int = 0

    # --- the ledger -----------------------------------------------------------------------------

    @activity.defn
    async def record_escalation(self, status: EscalationStatus) -> None:
        while self.slow:
            await asyncio.sleep(0.05)
        if status.id == self.refuses:
            raise ApplicationError("not a row", type=ErrorCode.INVALID_VALUE.value, non_retryable=True)
        self._need_ledger()
        self.rows[status.id] = status

    @activity.defn
    async def recorded_escalation(self, asked: EscalationRef) -> EscalationStatus:
        self._need_ledger()
        if asked.id not in self.rows:
            raise ApplicationError("no such row", type=ErrorCode.NOT_FOUND.value, non_retryable=True)
        return self.rows[asked.id]

    @activity.defn
    async def town_facts(self) -> TownFacts:
        self.reads += 1
        self._need_ledger()
        return TownFacts(
            settings=self.settings, rigs=dict.fromkeys(self.rigs, RigWatch(settings=self.settings)), hosts=self.hosts
        )

    def _need_ledger(self) -> None:
        if not self.readable:
            raise ApplicationError("the ledger is down", type=ErrorCode.LEDGER_UNREACHABLE.value)

    # --- the town's files and channels ------------------------------------------------------------

    @activity.defn
    async def read_alerting(self) -> Alerting:
        return self.alerting

    @activity.defn
    async def write_down(self, notices: Notices) -> None:
        known = {notice.id for notice in self.log}
        self.log += [notice for notice in notices.notices if notice.id not in known]

    @activity.defn
    async def send_message(self, message: Message) -> None:
        left = self.refusals.get(message.channel, 0)
        if left:
            self.refusals[message.channel] = left - 1
            raise ApplicationError("503", type=ErrorCode.CHANNEL_FAILED.value)
        if message.id not in {taken.id for taken in self.taken}:
            self.taken.append(message)

    # --- services -------------------------------------------------------------------------------

    @activity.defn
    async def restart_service(self, service: ServiceName) -> bool:
        if self.restart_fails:
            raise ApplicationError(self.restart_fails, type=ErrorCode.REFUSED.value, non_retryable=True)
        self.restarted.append(service.name)
        return True

    @property
    def activities(self) -> list[Callable[..., Any]]:
        return [
            self.record_escalation, self.recorded_escalation, self.town_facts, self.read_alerting, self.write_down,
            self.send_message, self.restart_service,
        ]  # fmt: skip

    def told(self) -> list[tuple[Edge, str]]:
        """(edge, escalation) of everything in the log, in order."""
        return [(notice.edge, notice.condition.partition(":")[2]) for notice in self.log]


@workflow.defn
class DispatchProbe:
    """Runs under a dispatcher's id and remembers what the Mayor orders."""

    def __init__(self) -> None:
        self._orders: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def pause(self, request: PauseRequest) -> None:
        self._orders.append(f"pause by {request.by}: {request.reason}")

    @workflow.signal
    def resume(self, request: PauseRequest) -> None:
        self._orders.append(f"resume by {request.by}")

    @workflow.query
    def orders(self) -> list[str]:
        return self._orders


@dataclass
class Hall:
    """A running Mayor and its world."""

    env: WorkflowEnvironment
    world: MayorWorld
    mayor: Mayor

    sent: set[str] = field(default_factory=set)

    async def escalate(self, *escalations: Escalation) -> None:
        for escalation in escalations:
            await self.mayor.signal(MayorWorkflow.escalate, escalation)
            self.sent.add(escalation.id)

    async def _heard(self, escalation: str) -> None:
        """This test server may hand over an update before signals that were sent earlier."""
        if escalation in self.sent:
            await heard(self.mayor, escalation)

    async def clear(self, *ids: str) -> None:
        for identity in ids:
            await self.mayor.signal(MayorWorkflow.cleared, EscalationCleared(id=identity))

    async def resolve(self, escalation: str, action: DecisionKind, by: str = "ada") -> EscalationStatus:
        await self._heard(escalation)
        request = EscalationResolve(id=escalation, action=action, by=by)
        status: EscalationStatus = await self.mayor.execute_update("resolve", request, result_type=EscalationStatus)
        return status

    async def acknowledge(self, escalation: str) -> EscalationStatus:
        await self._heard(escalation)
        status: EscalationStatus = await self.mayor.execute_update(
            "acknowledge", EscalationAck(id=escalation), result_type=EscalationStatus
        )
        return status

    async def next_run(self, earlier: set[str]) -> str:
        """The run that follows those, once it has begun."""

        async def later() -> str | None:
            current = await runs_of(self.mayor)
            return None if current in earlier else current

        return str(await eventually(later, what="the next run"))

    async def listed(self) -> list[EscalationStatus]:
        return await self.mayor.query(MayorWorkflow.escalations)

    async def one(self, escalation: str) -> EscalationStatus:
        return next(status for status in await self.listed() if status.id == escalation)

    async def until(self, check: Callable[[], Any], what: str = "it") -> None:
        """Wait in real time until the world looks like this."""

        async def done() -> bool:
            return bool(check())

        await eventually(done, what=what)


def told(name: str, *, bead: str | None = "sh-1", **changes: object) -> Escalation:
    """An agent's cry for help, unless told otherwise."""
    values: dict[str, object] = {
        "id": name, "kind": "help", "level": Level.L2.value, "source": f"polecat/shop/{bead}" if bead else "ada",
        "rig": "shop" if bead else None, "bead": bead, "message": "which database?", "opened_at": START,
    }  # fmt: skip
    return Escalation.model_validate(values | changes)


async def heard(mayor: WorkflowHandle[Any, Any], escalation: str) -> None:
    """Wait until the Mayor has taken a telling of this id in."""

    async def known() -> bool:
        state: MayorState = await mayor.query("state", result_type=MayorState)
        return state.find(escalation) is not None

    await eventually(known, what=f"the Mayor to hear of {escalation}")


async def refused(update: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await update
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause


Open = Callable[..., contextlib.AbstractAsyncContextManager[Hall]]


async def start_dispatcher(env: WorkflowEnvironment, rig: str = "shop") -> WorkflowHandle[DispatchProbe, None]:
    return await env.client.start_workflow(DispatchProbe.run, id=names.dispatch_id(rig), task_queue=names.TOWN_QUEUE)


async def start_mayor(env: WorkflowEnvironment, state: Any = None) -> Mayor:
    return await env.client.start_workflow(
        MayorWorkflow.run, *([state] if state else []), id=names.MAYOR_ID, task_queue=names.TOWN_QUEUE
    )


def hall_in(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """A Mayor in his hall: `async with hall(world, state) as town:`."""

    @contextlib.asynccontextmanager
    async def start(world: MayorWorld | None = None, state: MayorState | None = None) -> AsyncIterator[Hall]:
        world = world or MayorWorld()
        async with workers(workflows=[MayorWorkflow, JobProbe, DispatchProbe], activities=world.activities):
            yield Hall(env, world, await start_mayor(env, state))

    return start
