"""Random restarts, resets and recoveries of the long-lived workflows with messages under way, on a real server.

The workers are a town's, the guard against stale queries included; the workflows are the real ones, what their
activities reach is not. GT_RESTART_SCHEDULES says how many schedules are tried, GT_RESTART_SEED which is the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import pytest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError

from activities.interceptor import ActivityConduct
from models import names
from models.job.messages import DecisionKind, RigName, SlingRequest, SlingResult, WorkEnded
from models.mayor.escalations import EscalationAck, EscalationCleared, EscalationResolve, EscalationStatus
from models.refinery.messages import PauseRequest, QueueItem, QueueItemRef, QueueStatus, Withdraw
from models.supervision.messages import DeaconPong, RestartWorkflow, WitnessPing, WitnessRecovered
from services.temporal import long_lived
from services.temporal.restarts import restart
from services.worker.polling import new_worker
from tests.services.conftest import eventually
from tests.temporal_server import client_of
from tests.workflows.job.job_world import JobWorld, PostBox
from tests.workflows.mayor.mayor_world import MayorWorld, told
from tests.workflows.probes import JobProbe, MayorsPost, Record
from tests.workflows.refinery.merge_world import MergeWorld, change, rig
from tests.workflows.supervision.deacon_world import TownWorld
from tests.workflows.supervision.witness_world import DeaconDouble, MayorsDesk, Watchtower, started
from workflows.registry import WORKFLOWS
from workflows.shared.sandbox import workflow_runner

SCHEDULES = int(os.environ.get("GT_RESTART_SCHEDULES", "10"))
FIRST = int(os.environ.get("GT_RESTART_SEED", "0"))
STEPS = 12
TRY_S = 15.0
TRIES = 4
ANSWER_S = 600.0
QUEUES = (names.CONTROL_QUEUE, names.host_queue("h1"), names.watch_queue("h1"), names.gates_queue("h1"))
pytestmark = pytest.mark.timeout(300 + 300 * SCHEDULES)


@dataclass
class Town:
    """One long-lived workflow, its worker that comes and goes, and what it was told."""

    client: Client
    seed: int
    random: Random
    told: list[asyncio.Task[None]] = field(default_factory=list)
    workers: contextlib.AsyncExitStack | None = None
    number: int = 0
    id: ClassVar[str]
    resets: ClassVar[bool] = True
    """whether what was told before a `reset` may be forgotten"""

    def activities(self) -> Sequence[Any]:
        raise NotImplementedError

    def next(self) -> str:
        """A bead that no other schedule has."""
        self.number += 1
        return f"sh-{self.seed}x{self.number}"

    async def begin(self) -> None:
        await long_lived.start(self.client, self.id)

    async def tell(self) -> None:
        """One message, random; what is acknowledged is noted."""
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        """After a reset."""

    # --- speaking to it -------------------------------------------------------------------------

    async def signal(self, name: str, *message: Any) -> None:
        """Until the server has taken it: between two runs of a closed one there is nobody."""
        while True:
            try:
                await self.client.get_workflow_handle(self.id).signal(name, *message)
            except RPCError:
                await asyncio.sleep(0.05)
            else:
                return

    async def update(self, name: str, message: Any, answer: type) -> Any:
        """Until it is answered, as a person would say it again."""
        while True:
            handle = self.client.get_workflow_handle(self.id)
            arguments = [] if message is None else [message]
            try:
                async with asyncio.timeout(TRY_S):
                    return await handle.execute_update(name, args=arguments, result_type=answer)
            except (RPCError, TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
                await asyncio.sleep(0.05)
            except WorkflowUpdateFailedError as error:
                if "completed" not in str(error.cause):
                    raise
                await asyncio.sleep(0.05)

    async def ask(self, name: str, answer: Any, *arguments: Any) -> Any:
        return await self.client.get_workflow_handle(self.id).query(name, args=list(arguments), result_type=answer)

    # --- what becomes of it ---------------------------------------------------------------------

    async def work(self) -> None:
        if self.workers is not None:
            return
        self.workers = contextlib.AsyncExitStack()
        activities = self.activities()
        town = new_worker(
            self.client, names.TOWN_QUEUE, activities, 50, interceptor=ActivityConduct(), threads=False,
            workflows=[*WORKFLOWS, JobProbe, PostBox], runner=workflow_runner("tests"),
        )  # fmt: skip
        await self.workers.enter_async_context(town)
        for queue in QUEUES:
            worker = new_worker(self.client, queue, activities, 50, interceptor=ActivityConduct(), threads=False)
            await self.workers.enter_async_context(worker)

    async def rest(self) -> None:
        if self.workers is not None:
            workers, self.workers = self.workers, None
            await workers.aclose()

    async def run(self) -> tuple[str, bool]:
        described = await self.client.get_workflow_handle(self.id).describe()
        return described.run_id, described.status is WorkflowExecutionStatus.RUNNING

    async def restart(self, **order: Any) -> None:
        """Tried again as the Deacon's activity is, where a busy server does not answer in time."""
        for _ in range(TRIES - 1):
            with contextlib.suppress(RPCError, TimeoutError):
                return await restart(self.client, RestartWorkflow(workflow_id=self.id, **order))
        return await restart(self.client, RestartWorkflow(workflow_id=self.id, **order))

    async def disturb(self) -> None:
        what = self.random.choice(["restart", "restart", "end", "end", "away", "back", "reset", "recover"])
        run_id, runs = await self.run()
        if what == "restart":
            await self.restart(run_id=run_id)
        elif what == "end":
            if runs:
                await self.client.get_workflow_handle(self.id, run_id=run_id).terminate("a test")
            for _ in range(self.random.randrange(3)):
                await asyncio.sleep(0)
            await self.restart()
        elif what == "away":
            await self.rest()
        elif what == "reset" and self.resets and self.random.random() < 0.3:
            await self.quiet()
            run_id, _ = await self.run()
            await self.restart(run_id=run_id, reset=True)
            self.forget()
        elif what == "recover":
            await self.recover()
        else:
            await self.work()

    async def recover(self) -> None:
        """Who has a command for it."""

    async def quiet(self) -> None:
        """Everything told so far is acknowledged."""
        await self.work()
        async with asyncio.timeout(ANSWER_S):
            await asyncio.gather(*self.told)
        self.told.clear()

    async def live(self) -> None:
        """The schedule."""
        await self.work()
        await self.begin()
        for _ in range(STEPS):
            if self.random.random() < 0.3:
                await self.disturb()
            else:
                self.told.append(asyncio.create_task(self.tell()))
            if self.random.random() < 0.5:
                await asyncio.sleep(self.random.random() * 0.1)  # so that some messages are taken in between
        await self.quiet()
        await self.check()

    async def leave(self) -> None:
        for task in self.told:
            task.cancel()
        await self.rest()
        async for found in self.client.list_workflows("ExecutionStatus = 'Running'"):
            with contextlib.suppress(RPCError):
                await self.client.get_workflow_handle(found.id, run_id=found.run_id).terminate("the schedule is over")


def once(found: Sequence[str], wanted: set[str]) -> bool:
    """All that is wanted is there, and nothing twice."""
    counts = Counter(found)
    assert not [name for name, count in counts.items() if count > 1], f"twice: {counts}"
    return wanted <= set(found)


@dataclass
class MayorTown(Town):
    world: MayorWorld = field(default_factory=MayorWorld)
    heard: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    resolved: dict[str, str] = field(default_factory=dict)
    id = names.MAYOR_ID

    def activities(self) -> Sequence[Callable[..., Any]]:
        return self.world.activities

    async def tell(self) -> None:
        bead = self.next()
        name, kind = f"{bead}.1.help", self.random.randrange(4)
        probe = await self.client.start_workflow(
            JobProbe.run, id=names.polecat_id("shop", bead), task_queue=names.TOWN_QUEUE
        )
        await self.signal("escalate", told(name, bead=bead))
        self.heard.add(name)
        if kind == 1:
            await self.signal("cleared", EscalationCleared(id=name))
            self.resolved[name] = "cleared"
        elif kind == 2:
            await self.update("acknowledge", EscalationAck(id=name), EscalationStatus)
            self.acknowledged.add(name)
        elif kind == 3:
            order = EscalationResolve(id=name, action=DecisionKind.RETRY, by="ada")
            await self.update("resolve", order, EscalationStatus)
            self.resolved[name] = DecisionKind.RETRY.value

            async def followed() -> bool:
                return name in [one.escalation for one in (await probe.query(JobProbe.heard)).decisions]

            if self.workers is not None:
                await eventually(f"the job to hear of {name}", followed)

    async def check(self) -> None:
        async def holds() -> bool:
            listed: list[EscalationStatus] = await self.ask("escalations", list[EscalationStatus])
            by_id = {status.id: status for status in listed}
            return (
                once([status.id for status in listed], self.heard)
                and all(by_id[name].acked for name in self.acknowledged)
                and all(by_id[name].resolved for name in self.resolved)
                and self.heard - set(self.resolved) == {name for name, one in by_id.items() if not one.resolved}
            )

        await eventually(f"{self.heard}, {self.acknowledged}, {self.resolved}", holds)

    def forget(self) -> None:
        self.heard.clear()
        self.acknowledged.clear()
        self.resolved.clear()


@dataclass
class Switched(Town):
    """One that people stop and start; the last that was answered holds."""

    stopped: bool = False
    switching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def switch(self) -> None:
        async with self.switching:
            stop = not self.stopped
            request = PauseRequest(reason="a test", by="ada") if stop else None
            await self.update("stop" if stop else "start", request, dict[str, Any])
            self.stopped = stop

    def forget(self) -> None:
        self.stopped = False


@dataclass
class DeaconTown(Switched):
    world: TownWorld = field(default_factory=TownWorld)
    pings: int = 0
    speaking: asyncio.Lock = field(default_factory=asyncio.Lock)
    id = names.DEACON_ID

    def activities(self) -> Sequence[Callable[..., Any]]:
        return self.world.activities

    async def tell(self) -> None:
        if self.random.random() < 0.4:
            await self.switch()
            return
        async with self.speaking:
            number = self.pings + 1
            ping = WitnessPing(rig="shop", witness=names.witness_id("shop"), number=number, has_work=False)
            await self.signal("witness_ping", ping)
            self.pings = number

    async def check(self) -> None:
        async def holds() -> bool:
            pong: DeaconPong = await self.ask("pong", DeaconPong, RigName(rig="shop"))
            status = await self.ask("status", dict[str, Any])
            return (pong.number, status["stopped"]) == (self.pings, self.stopped)

        await eventually(f"ping {self.pings}, stopped {self.stopped}", holds)

    def forget(self) -> None:
        super().forget()
        self.pings = 0


@dataclass
class WitnessTown(Switched):
    tower: Watchtower = field(default_factory=Watchtower)
    desk: MayorsDesk = field(default_factory=MayorsDesk)
    record: Record = field(default_factory=lambda: Record(rig=rig()))
    open: set[str] = field(default_factory=set)
    id = names.witness_id("shop")

    def activities(self) -> Sequence[Callable[..., Any]]:
        deacon = DeaconDouble(self.record, there=True)
        return [
            self.tower.watch_rig, self.tower.clean_up, self.record.load_rig, deacon.check_in, *self.desk.activities,
        ]  # fmt: skip

    async def tell(self) -> None:
        if self.random.random() < 0.3:
            await self.switch()
            return
        bead = self.next()
        ends = self.random.random() < 0.4
        await self.signal("work_started", started(bead))
        self.open.add(bead)
        if ends:
            await self.signal("work_ended", WorkEnded(bead=bead, attempt=1))
            self.open.discard(bead)

    async def recover(self) -> None:
        async def said() -> None:
            async with self.switching:
                await self.update("recover", None, WitnessRecovered)
                self.stopped = False

        self.told.append(asyncio.create_task(said()))

    async def check(self) -> None:
        async def holds() -> bool:
            state = await self.ask("state", dict[str, Any])
            return (set(state["work"]), state["stopped"]) == (self.open, self.stopped)

        await eventually(f"work {self.open}, stopped {self.stopped}", holds)

    def forget(self) -> None:
        super().forget()
        self.open.clear()


@dataclass
class QueueTown(Switched):
    """A Refinery that is paused: its queue and what people say to it."""

    record: Record = field(default_factory=lambda: Record(rig=rig()))
    post: MayorsPost = field(default_factory=MayorsPost)
    world: MergeWorld = field(default_factory=MergeWorld)
    queued: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    id = names.refinery_id("shop")

    def activities(self) -> Sequence[Callable[..., Any]]:
        record, post = self.record, self.post
        return [
            *self.world.activities, record.queue_facts, record.rename_branch, post.tell_mayor, post.clear_escalation,
        ]  # fmt: skip

    async def begin(self) -> None:
        await super().begin()
        await self.update("pause", PauseRequest(reason="a test", by="ada"), QueueStatus)

    async def tell(self) -> None:
        bead, kind = self.next(), self.random.randrange(4)
        request = change(bead)
        await self.signal("submit", request)
        self.queued.add(request.id)
        if kind == 1:
            await self.update("skip", QueueItemRef(id=request.id), QueueItem)
            self.held.add(request.id)
        elif kind == 2:
            await self.signal("withdraw", Withdraw(merge_request=request.id, bead=bead, attempt=1))
            self.queued.discard(request.id)
        elif kind == 3:
            await self.switch()

    async def check(self) -> None:
        async def holds() -> bool:
            queue: QueueStatus = await self.ask("queue", QueueStatus)
            status = await self.ask("status", dict[str, Any])
            found = [item.id for item in queue.items]
            held = {item.id for item in queue.items if item.state == "held"}
            return (
                once(found, self.queued)
                and set(found) == self.queued
                and held == self.held
                and queue.paused
                and (status["state"] == "stopped") == self.stopped
            )

        await eventually(f"queue {self.queued}, held {self.held}, stopped {self.stopped}", holds)

    resets = False
    """A pause of before would not hold after it."""


@dataclass
class MergingTown(QueueTown):
    """A Refinery at its work: merges are under way whatever becomes of it."""

    async def begin(self) -> None:
        await Town.begin(self)

    async def tell(self) -> None:
        request = change(self.next())
        await self.signal("submit", request)
        self.queued.add(request.bead)

    async def check(self) -> None:
        async def holds() -> bool:
            queue: QueueStatus = await self.ask("queue", QueueStatus)
            return once(self.world.landed, self.queued) and not queue.items

        await eventually(f"{self.queued} to land once", holds, ANSWER_S * 2)


@dataclass
class DispatchTown(Town):
    world: JobWorld = field(default_factory=JobWorld)
    slung: set[str] = field(default_factory=set)
    paused: bool = False
    pausing: asyncio.Lock = field(default_factory=asyncio.Lock)
    id = names.dispatch_id("shop")
    resets = False
    """A pause of before would not hold after it."""

    def activities(self) -> Sequence[Any]:
        return self.world.activities

    async def begin(self) -> None:
        for place in (names.refinery_id("shop"), names.witness_id("shop")):
            await self.client.start_workflow(PostBox.run, id=place, task_queue=names.TOWN_QUEUE)
        await super().begin()

    async def tell(self) -> None:
        if self.random.random() < 0.3:
            async with self.pausing:
                pause = not self.paused
                await self.signal("pause" if pause else "resume", PauseRequest(reason="a test", by="ada"))
                self.paused = pause
            return
        bead = self.next()
        answer: SlingResult = await self.update("sling", SlingRequest(bead=bead, rig="shop"), SlingResult)
        assert answer.bead == bead
        self.slung.add(bead)

    async def check(self) -> None:
        async def holds() -> bool:
            status = await self.ask("status", dict[str, Any])
            return once([job["bead"] for job in status["jobs"]], self.slung) and status["paused"] == self.paused

        await eventually(f"{self.slung}, paused {self.paused}", holds)
        for bead in self.slung:
            query = f"WorkflowId = '{names.polecat_id('shop', bead)}'"
            runs = [found.status async for found in self.client.list_workflows(query)]
            assert runs == [WorkflowExecutionStatus.RUNNING]


TOWNS: tuple[Callable[..., Town], ...] = (
    MayorTown, WitnessTown, QueueTown, DispatchTown, DeaconTown, MergingTown,
)  # fmt: skip


@pytest.fixture
async def client(port: int) -> Client:
    return await client_of(port)


async def test_no_acknowledged_answer_is_lost_and_none_applied_twice(
    client: Client, record_property: Callable[[str, object], None]
) -> None:
    for seed in range(FIRST, FIRST + SCHEDULES):
        town = TOWNS[seed % len(TOWNS)](client, seed, Random(seed))
        try:
            await _named(f"schedule {seed} of {type(town).__name__}", town.live())
        finally:
            await town.leave()
    record_property("schedules", SCHEDULES)


async def _named(name: str, schedule: Awaitable[None]) -> None:
    try:
        await schedule
    except (Exception, asyncio.CancelledError) as error:
        error.add_note(name)
        raise
    print(name, "holds", flush=True)
