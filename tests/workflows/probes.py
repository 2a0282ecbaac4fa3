"""Stand-ins around a workflow under test: a job that writes down what it is told, the record, the Mayor's post."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.base import Frozen
from models.errors import ErrorCode
from models.job.messages import Decision, Observation, RigFacts, RigName, Verdict
from models.ledger.records import BranchRenamed, MergeRequest, Rig
from models.mayor.escalations import Escalation, EscalationCleared
from models.refinery.answers import QueueFacts, QueueFactsRequest
from models.settings import Settings
from tests.pace import DEADLINE_S, pause_s


class Heard(Frozen):
    """What a job was told, in order."""

    verdicts: tuple[Verdict, ...] = ()
    observations: tuple[Observation, ...] = ()
    decisions: tuple[Decision, ...] = ()


@workflow.defn
class JobProbe:
    """Runs under a job's id and only listens."""

    def __init__(self) -> None:
        self._heard = Heard()
        self._over = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self._over)

    @workflow.signal
    def verdict(self, verdict: Verdict) -> None:
        self._heard = self._heard.model_copy(update={"verdicts": (*self._heard.verdicts, verdict)})

    @workflow.signal
    def observed(self, seen: Observation) -> None:
        self._heard = self._heard.model_copy(update={"observations": (*self._heard.observations, seen)})

    @workflow.signal
    def decision(self, decision: Decision) -> None:
        self._heard = self._heard.model_copy(update={"decisions": (*self._heard.decisions, decision)})

    @workflow.signal
    def end(self) -> None:
        self._over = True

    @workflow.query
    def heard(self) -> Heard:
        return self._heard


Job = WorkflowHandle[JobProbe, None]


async def start_job(env: WorkflowEnvironment, bead: str, rig: str = "shop") -> Job:
    return await env.client.start_workflow(JobProbe.run, id=names.polecat_id(rig, bead), task_queue=names.TOWN_QUEUE)


@dataclass
class Record:
    """The ledger's part: the rig's facts, readable or not."""

    rig: Rig
    settings: Settings = field(default_factory=Settings)
    hosts: tuple[str, ...] = ("h1",)
    readable: bool = True
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """by bead, the dependencies that are not closed"""
    queued: list[MergeRequest] = field(default_factory=list)
    """requests that the record has as waiting to be merged"""
    reads: int = 0
    retried: bool = True
    """whether one activity asks again while it is not readable"""

    @activity.defn
    async def load_rig(self, asked: RigName) -> RigFacts:
        self.reads += 1
        if not self.readable:
            down = ErrorCode.LEDGER_UNREACHABLE.value
            raise ApplicationError("the ledger is down", type=down, non_retryable=not self.retried)
        return RigFacts(rig=self.rig, settings=self.settings, hosts=self.hosts)

    @activity.defn
    async def rename_branch(self, renamed: BranchRenamed) -> Rig:
        self.rig = self.rig.model_copy(update={"branch": renamed.branch})
        return self.rig

    @activity.defn
    async def queue_facts(self, asked: QueueFactsRequest) -> QueueFacts:
        facts = await self.load_rig(RigName(rig=asked.rig))
        needs = {bead: self.needs[bead] for bead in asked.beads if bead in self.needs}
        queued = [request for request in self.queued if request.id not in asked.known]
        return QueueFacts(**facts.model_dump(), open_dependencies=needs, queued=tuple(queued[: asked.queued]))


@dataclass
class MayorsPost:
    """Every escalation that was handed in, and the ids of those that were said to be over."""

    letters: list[Escalation] = field(default_factory=list)
    over: list[str] = field(default_factory=list)

    @activity.defn
    async def tell_mayor(self, escalation: Escalation) -> None:
        self.letters.append(escalation)

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        self.over.append(cleared.id)


async def eventually(
    check: Callable[[], Awaitable[Any]], *, deadline_s: float = DEADLINE_S, what: str = "the condition"
) -> Any:
    """The first truthy answer of `check`, asked again and again in real time, less often the longer it takes."""
    begun = time.monotonic()
    while True:
        answer = await check()
        if answer:
            return answer
        waited = time.monotonic() - begun
        assert waited < deadline_s, f"{what} did not come true in {deadline_s} s"
        await asyncio.sleep(pause_s(waited, 0.02))


async def runs_of(handle: WorkflowHandle[Any, Any]) -> str:
    """The id of the run that answers now: it changes with each continue-as-new."""
    return (await handle.describe()).run_id
