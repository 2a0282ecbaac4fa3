"""A remote, a host and its gates in memory: what MergeWorkflow and RefineryWorkflow act upon in tests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.errors import ErrorCode
from models.job.messages import Verdict, VerdictKind
from models.ledger.records import GateSpec, MergeRequest, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import (
    BuildChain,
    Chain,
    ChainLink,
    DropKind,
    DroppedChange,
    FindRenamed,
    ForeignCommit,
    LandChain,
    LandOutcome,
    LandResult,
    MergeBatch,
    MergeOutcome,
    Renamed,
    Rewound,
)
from models.settings import MergeQueueSettings
from tests.workflows.conftest import WorkerBuilder
from workflows.refinery.merge import MergeWorkflow

HOST = "h1"
START = datetime(2026, 3, 1, tzinfo=UTC)
GATE = GateSpec(name="test", command="pytest -q", timeout_s=60)
PASSED = GateReport(outcome=GateOutcome.PASSED)
FAILED = GateReport(outcome=GateOutcome.FAILED, gate="test", exit_code=1, tail="1 failed", log_path="/logs/test.log")
TIMED_OUT = GateReport(outcome=GateOutcome.COULD_NOT_RUN, gate="test", reason="timed_out", tail="still running")
KILLED = GateReport(outcome=GateOutcome.COULD_NOT_RUN, gate="test", reason="killed")
REFUSED = LandResult(outcome=LandOutcome.REFUSED, target_sha="", detail="protected branch")


def rig(*, gates: tuple[GateSpec, ...] = (GATE,)) -> Rig:
    return Rig(name="shop", url="/remote.git", prefix="sh", branch="main", gates=gates, created_at=START)


def change(bead: str, *, attempt: int = 1, priority: int = 2, at: datetime = START) -> MergeRequest:
    return MergeRequest(
        id=names.merge_request_id(bead, attempt),
        rig="shop",
        bead=bead,
        title=f"Do {bead}",
        polecat="toast",
        attempt=attempt,
        branch=names.job_branch(bead),
        head_sha=f"head-{bead}-{attempt}",
        target="main",
        priority=priority,
        submitted_at=at,
    )


def beads(count: int) -> list[str]:
    return [f"sh-{number}" for number in range(1, count + 1)]


def batch(
    *changes: MergeRequest, gates: tuple[GateSpec, ...] = (GATE,), number: int = 1, **settings: int | str
) -> MergeBatch:
    """A batch whose culprits are blamed without a confirming run, unless the settings say otherwise."""
    return MergeBatch(
        rig=rig(gates=gates),
        target="main",
        host=HOST,
        number=number,
        changes=changes,
        settings=MergeQueueSettings.model_validate({"confirm_runs": "0", **settings}),
    )


@dataclass
class MergeWorld:
    """The remote's target, the chains on it, and what gates and pushes answer.

    `gates` decides by the beads that a commit holds, the commit and how often it was gated;
    `pushes` answers the first pushes, in order, before compare-and-swap decides the later ones.
    """

    gates: Callable[[tuple[str, ...], int], GateReport] = lambda held, run: PASSED
    pushes: list[LandResult | str] = field(default_factory=list)
    """a LandResult is answered; a text is a commit that someone else pushed just before"""
    conflicts: dict[str, str | None] = field(default_factory=dict)
    """bead → the bead that it conflicts with, or None for the target"""
    drops: dict[str, DropKind] = field(default_factory=dict)
    refuses: str = ""
    """the remote's hook refuses every push that holds this bead"""
    target: str = "base"
    others: dict[str, str] = field(default_factory=dict)
    """where other branches than the rig's stand"""
    holds: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"base": ()})
    gated: list[str] = field(default_factory=list)
    landings: list[tuple[str, ...]] = field(default_factory=list)
    builds: int = 0
    missing: set[str] = field(default_factory=set)
    """targets that the remote does not have"""
    renamed: Renamed = field(default_factory=Renamed)
    """what is found of a missing one"""
    gates_wait: asyncio.Event | None = None
    """gates take until this is set, or until they are ended"""
    foreign: tuple[ForeignCommit, ...] = ()
    """what each build finds on the target that no landing has put there"""
    rewound: tuple[Rewound, ...] = ()
    """what the target has lost, as each build sees it"""

    @property
    def landed(self) -> tuple[str, ...]:
        return self.holds[self.target]

    @property
    def activities(self) -> list[Callable[..., Any]]:
        return [self.build_chain, self.run_gates, self.land_chain, self.find_renamed]

    @activity.defn
    async def find_renamed(self, request: FindRenamed) -> Renamed:
        return self.renamed

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        self.builds += 1
        if request.target in self.missing:
            raise ApplicationError(
                f"no branch {request.target}", type=ErrorCode.NO_SUCH_BRANCH.value, non_retryable=True
            )
        tip, links, dropped = (base := self.others.get(request.target, self.target)), [], []
        for item in request.changes:
            held = self.holds[tip]
            drop = self.drops.get(item.bead)
            if item.bead in self.holds[base]:
                drop = DropKind.LANDED
            rival = self.conflicts.get(item.bead, "")
            if rival is None or rival in held:
                drop = DropKind.CONFLICT
            if drop is None and not set(request.needs.get(item.bead, ())) <= set(held):
                drop = DropKind.WAITS
            if drop is not None:
                sha = base if drop is DropKind.LANDED else None
                files = ("a.py",) if drop is DropKind.CONFLICT else ()
                dropped.append(DroppedChange(merge_request=item.id, bead=item.bead, kind=drop, sha=sha, files=files))
                continue
            tip = self._commit(tip, item.bead, item.head_sha)
            links.append(ChainLink(merge_request=item.id, bead=item.bead, head_sha=item.head_sha, sha=tip))
        return Chain(
            base_sha=base, links=tuple(links), dropped=tuple(dropped), rewound=self.rewound, foreign=self.foreign
        )

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        self.gated.append(request.sha)
        while self.gates_wait is not None and not self.gates_wait.is_set():
            activity.heartbeat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gates_wait.wait(), 0.05)
        return self.gates(self.holds[request.sha], self.gated.count(request.sha))

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        answer = self.pushes.pop(0) if self.pushes else None
        if isinstance(answer, LandResult):
            return answer
        if request.target in self.others:
            return self._land_elsewhere(request)
        if answer is not None:
            self.target = self._commit(self.target, answer, answer)
        if request.base_sha != self.target:
            return LandResult(outcome=LandOutcome.MOVED, target_sha=self.target)
        if any(link.bead == self.refuses for link in request.links):
            return REFUSED
        self.target = request.links[-1].sha
        self.landings.append(tuple(link.bead for link in request.links))
        return LandResult(outcome=LandOutcome.LANDED, target_sha=self.target)

    def _land_elsewhere(self, request: LandChain) -> LandResult:
        assert self.others[request.target] == request.base_sha, "nobody else moves it"
        self.others[request.target] = request.links[-1].sha
        return LandResult(outcome=LandOutcome.LANDED, target_sha=request.links[-1].sha)

    def _commit(self, parent: str, bead: str, head: str) -> str:
        sha = hashlib.sha1(f"{parent} {head}".encode()).hexdigest()
        self.holds[sha] = (*self.holds[parent], bead)
        return sha


def red_with(*bad: str) -> Callable[[tuple[str, ...], int], GateReport]:
    """Gates that fail wherever one of these beads is in."""
    return lambda held, run: FAILED if set(bad) & set(held) else PASSED


async def merge(env: WorkflowEnvironment, workers: WorkerBuilder, world: MergeWorld, work: MergeBatch) -> MergeOutcome:
    """Run a MergeWorkflow over the batch."""
    async with workers(workflows=[MergeWorkflow], activities=world.activities):
        return await env.client.execute_workflow(
            MergeWorkflow.run, work, id=names.merge_id("shop", work.number), task_queue=names.TOWN_QUEUE
        )


def by_bead(outcome: MergeOutcome) -> dict[str, Verdict]:
    assert len({verdict.bead for verdict in outcome.verdicts}) == len(outcome.verdicts), "one verdict a change"
    return {verdict.bead: verdict for verdict in outcome.verdicts}


def kinds(outcome: MergeOutcome) -> dict[str, VerdictKind]:
    return {bead: verdict.kind for bead, verdict in by_bead(outcome).items()}
