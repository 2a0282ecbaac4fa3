"""A Witness under test: what can be seen on each host is the test's to say, jobs and Deacon only listen."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.attempts import WatchReport, WatchRig, observation_key
from models.job.health import Diagnosis, HealthKind, HealthReport, Sighting, Zombie
from models.job.messages import (
    Observation,
    ObservationKind,
    Restraint,
    RigName,
    WitnessStatus,
    WorkEnded,
    WorkflowIds,
    WorkStarted,
)
from models.mayor.escalations import Escalation, EscalationCleared
from models.settings import HealthSettings, HostSettings, RecoverySettings, Settings
from models.supervision.messages import CheckedIn, CheckIn, DeaconPong, WitnessPing
from models.upkeep.cleanup import CleanedUp, CleanUp
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import Job, JobProbe, Record, eventually
from tests.workflows.refinery.merge_world import rig
from workflows.supervision.witness import WitnessWorkflow
from workflows.supervision.witness_state import WitnessState

Witness = WorkflowHandle[WitnessWorkflow, None]


def died(bead: str, attempt: int = 1, host: str = "h1", **facts: Any) -> Observation:
    values = {"bead": bead, "polecat": "toast", "host": host, "attempt": attempt, "kind": ObservationKind.DIED}
    return Observation.model_validate(values | facts)


def started(bead: str, attempt: int = 1, host: str = "h1") -> WorkStarted:
    return WorkStarted(bead=bead, polecat="toast", host=host, attempt=attempt)


def seen_as(kind: HealthKind = HealthKind.HEALTHY, attempt: int = 1) -> HealthReport:
    """What a survey says of one attempt's session."""
    return HealthReport(
        polecat="toast",
        attempt=attempt,
        sighting=Sighting(started=True, present=True, heartbeat_age_s=3.0),
        diagnosis=Diagnosis(kind=kind, rule="a rule"),
    )


def zombie(bead: str, attempt: int = 1, age_s: float = 60.0) -> Zombie:
    return Zombie(rig="shop", polecat="toast", bead=bead, attempt=attempt, session_lives=True, age_s=age_s)


@dataclass
class Watchtower:
    """What can be seen on each host. Answers at once: the pace belongs to the workflow."""

    seen: dict[str, list[Observation]] = field(default_factory=dict)
    living: dict[str, tuple[str, ...]] = field(default_factory=dict)
    health: dict[str, dict[str, HealthReport]] = field(default_factory=dict)
    zombies: dict[str, tuple[Zombie, ...]] = field(default_factory=dict)
    zombies_if_over: dict[str, tuple[Zombie, ...]] = field(default_factory=dict)
    """open attempts, which are zombies where the watch was told that they are over"""
    policy_error: str = ""
    forged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """by host"""
    rounds: Counter[str] = field(default_factory=Counter)
    asked: list[WatchRig] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    broken: bool = False
    forgetful: bool = False
    """reports what it was told is known, and claims that nothing is present"""
    cleaned: list[CleanUp] = field(default_factory=list)
    kept_reason: str = ""
    """why nothing can be cleaned up"""

    @activity.defn
    async def watch_rig(self, request: WatchRig) -> WatchReport:
        self.rounds[request.host] += 1
        self.asked.append(request)
        while request.host in self.hanging:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if self.broken:
            raise ApplicationError("tmux is not installed", type="program_missing", non_retryable=True)
        here = self.seen.get(request.host, [])
        over = [
            each
            for each in self.zombies_if_over.get(request.host, ())
            if request.superseded.get(each.bead, 0) >= each.attempt
        ]
        living = self.living.get(request.host, ())
        if self.forgetful:
            return WatchReport(observations=tuple(here), living=living)
        return WatchReport(
            observations=tuple(seen for seen in here if observation_key(seen) not in request.known),
            present=tuple(observation_key(seen) for seen in here),
            living=living,
            heartbeat_age_s=dict.fromkeys(living, 3.0),
            progress_age_s=dict.fromkeys(living, 7.0),
            health=self.health.get(request.host, {}),
            zombies=(*self.zombies.get(request.host, ()), *over),
            policy_error=self.policy_error,
            forged=self.forged.get(request.host, ()),
        )

    @activity.defn
    async def clean_up(self, request: CleanUp) -> CleanedUp:
        self.cleaned.append(request)
        if not self.kept_reason:
            gone = (request.polecat, request.bead, request.attempt)
            for host, zombies in self.zombies.items():
                self.zombies[host] = tuple(each for each in zombies if (each.polecat, each.bead, each.attempt) != gone)
        return CleanedUp(session_ended=True, worktree_freed=not self.kept_reason, kept_reason=self.kept_reason)


@dataclass
class MayorsDesk:
    """What the Mayor is told, and which workflows run."""

    letters: list[Escalation] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    away: bool = False
    """nothing reaches him"""

    @activity.defn
    async def tell_mayor(self, escalation: Escalation) -> None:
        self._reach()
        self.letters.append(escalation)

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        self._reach()
        self.cleared.append(cleared.id)

    def _reach(self) -> None:
        if self.away:
            raise ApplicationError("RPCError: Temporal is busy")

    @activity.defn
    async def running_workflows(self, asked: WorkflowIds) -> WorkflowIds:
        return WorkflowIds(ids=tuple(name for name in asked.ids if name in self.running))

    @property
    def activities(self) -> list[Callable[..., object]]:
        return [self.tell_mayor, self.clear_escalation, self.running_workflows]

    @property
    def open_kinds(self) -> list[str]:
        return [letter.kind for letter in self.letters if letter.id not in self.cleared]


@dataclass
class DeaconDouble:
    """The Deacon, and the record beside it, as a check-in finds them."""

    record: Record
    there: bool = False
    pings: list[WitnessPing] = field(default_factory=list)
    """those that it heard"""
    answers: bool = True

    @activity.defn
    async def check_in(self, request: CheckIn) -> CheckedIn:
        facts, unread = None, ""
        if request.read:
            try:
                facts = await self.record.load_rig(RigName(rig=request.ping.rig))
            except ApplicationError as error:
                unread = error.message
        if self.there:
            self.pings.append(request.ping)
        pong = DeaconPong(number=request.ping.number) if self.there and self.answers else None
        return CheckedIn(pong=pong, facts=facts, unread=unread)


@workflow.defn
class DispatchDouble:
    """Runs under the dispatcher's id and remembers what it is held to."""

    def __init__(self) -> None:
        self._restraints: list[Restraint] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def restrain(self, restraint: Restraint) -> None:
        self._restraints.append(restraint)

    @workflow.signal(dynamic=True)
    def other(self, _name: str, _message: Sequence[RawValue]) -> None:
        return None

    @workflow.query
    def restraints(self) -> list[Restraint]:
        return self._restraints


DOUBLES: list[type] = [WitnessWorkflow, JobProbe, DispatchDouble]


@dataclass
class Post:
    """One rig's Witness with everything around it."""

    env: WorkflowEnvironment
    tower: Watchtower
    record: Record
    deacon: DeaconDouble
    desk: MayorsDesk
    witness: Witness
    dispatch: WorkflowHandle[DispatchDouble, None]

    async def wait(self, time: timedelta) -> None:
        """Let time pass, in pieces that one call to the server may take."""
        while time > timedelta(0):
            step = min(time, timedelta(hours=1))
            await self.env.sleep(step)
            time -= step

    async def status(self) -> WitnessStatus:
        return await self.witness.query(WitnessWorkflow.status)

    async def start(self, work: WorkStarted) -> None:
        """A job's agent lives on a host, and says so."""
        self.tower.living[work.host] = tuple({*self.tower.living.get(work.host, ()), work.bead})
        await self.witness.signal(WitnessWorkflow.work_started, work)

    async def end(self, bead: str, attempt: int = 1) -> None:
        for host, living in self.tower.living.items():
            self.tower.living[host] = tuple(each for each in living if each != bead)
        await self.witness.signal(WitnessWorkflow.work_ended, WorkEnded(bead=bead, attempt=attempt))

    async def watched(self, host: str = "h1", rounds: int = 1) -> None:
        async def enough() -> bool:
            return self.tower.rounds[host] >= rounds

        await eventually(enough, what=f"{rounds} rounds on {host}")

    async def restraint(self) -> Restraint:
        """The last that the dispatcher heard of."""
        told: list[Restraint] = await self.dispatch.query(DispatchDouble.restraints)
        return told[-1] if told else Restraint()

    async def raised(self, *kinds: str) -> None:
        """Wait until exactly these escalations are open."""

        async def so() -> bool:
            return self.desk.open_kinds == list(kinds)

        await eventually(so, what=f"open escalations {kinds}")


@contextlib.asynccontextmanager
async def posted(
    env: WorkflowEnvironment,
    workers: WorkerBuilder,
    tower: Watchtower | None = None,
    *,
    settings: Settings | None = None,
    patience: int = 1000,
    readable: bool = True,
    interval: int = 60,
    alive: Sequence[str] = ("h1", "h2"),
    hosts: tuple[str, ...] = ("h1",),
) -> AsyncIterator[Post]:
    """A Witness; nobody answers its pings until `deacon.there`.

    Args:
        alive: hosts that have a worker.
        hosts: those that the record knows.
    """
    tower, desk = tower or Watchtower(), MayorsDesk()
    settings = settings or Settings(health=HealthSettings(check_interval=interval, deacon_timeout=86400))
    record = Record(rig=rig(), settings=settings, readable=readable, hosts=hosts)
    deacon = DeaconDouble(record)
    async with workers(
        workflows=DOUBLES,
        activities=[tower.watch_rig, tower.clean_up, record.load_rig, deacon.check_in, *desk.activities],
        hosts=alive,
    ):
        dispatch = await env.client.start_workflow(
            DispatchDouble.run, id=names.dispatch_id("shop"), task_queue=names.TOWN_QUEUE
        )
        witness = await env.client.start_workflow(
            WitnessWorkflow.run,
            WitnessState(rig="shop", patience=patience),
            id=names.witness_id("shop"),
            task_queue=names.TOWN_QUEUE,
        )
        try:
            yield Post(env, tower, record, deacon, desk, witness, dispatch)
        finally:
            tower.hanging.clear()


async def observed(job: Job, count: int = 1) -> list[tuple[int, ObservationKind]]:
    """What the job was told, once it was told `count` facts."""

    async def enough() -> list[tuple[int, ObservationKind]]:
        heard = (await job.query(JobProbe.heard)).observations
        return [(seen.attempt, seen.kind) for seen in heard] if len(heard) >= count else []

    answer: list[tuple[int, ObservationKind]] = await eventually(enough, what=f"{count} observations")
    return answer


async def told(job: Job) -> int:
    return len((await job.query(JobProbe.heard)).observations)


def strict(deacon_timeout: int = 120, **recovery: int) -> Settings:
    """Short limits: what takes minutes in a town takes seconds here."""
    return Settings(
        health=HealthSettings(check_interval=30, deacon_timeout=deacon_timeout),
        hosts=HostSettings(timeout=20),
        recovery=RecoverySettings.model_validate(recovery),
    )
