"""A rig for jobs under test: the record and the host are stand-ins, the test plays Witness and Refinery."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.job_start import JobStartActivities
from activities.sessions.session_over import SessionOver
from models import names
from models.errors import ErrorCode
from models.job.attempts import (
    AttemptStarted,
    EndSession,
    PublishAgain,
    ReleaseWorktree,
    SettleIntent,
    StartAttempt,
    TakeWork,
    WorkTaken,
    WorktreeReleased,
)
from models.job.messages import (
    Admission,
    Decision,
    DispatchFacts,
    DispatchFactsRequest,
    DoneStatus,
    JobOrder,
    JobStarted,
    JobStatus,
    Observation,
    ObservationKind,
    SlingRequest,
    SlingResult,
    StartJob,
    UnfinishedJob,
    Verdict,
    VerdictKind,
    WorkflowIds,
)
from models.ledger.records import (
    Bead,
    BeadRef,
    BeadStatus,
    BeadStatusReply,
    GateSpec,
    JobState,
    JobWrite,
    JobWrites,
    MergeRequest,
    Rig,
)
from models.mayor.escalations import Escalation, EscalationCleared
from models.mayor.mail import Message
from models.refinery.messages import Confirmation, ConfirmLanded, FindLanded, Landed
from models.settings import Settings
from tests.workflows.conftest import HOST
from tests.workflows.probes import eventually
from workflows.dispatch.state import DispatchState
from workflows.dispatch.workflow import DispatchWorkflow
from workflows.job.workflow import PolecatWorkflow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rig(max_polecats: int = 10) -> Rig:
    return Rig(
        name="shop",
        url="/srv/shop.git",
        prefix="sh",
        branch="main",
        gates=(GateSpec(name="test", command="true"),),
        max_polecats=max_polecats,
        created_at=NOW,
    )


@workflow.defn
class PostBox:
    """Runs under a Refinery's or Witness's id and takes every signal."""

    def __init__(self) -> None:
        self._signals: list[str] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal(dynamic=True)
    def any(self, name: str, _message: Sequence[RawValue]) -> None:
        self._signals.append(name)

    @workflow.query
    def signals(self) -> list[str]:
        return self._signals


@dataclass
class JobWorld:
    """Mocked activities and what they were asked; knobs a test turns."""

    rig: Rig = field(default_factory=rig)
    settings: Settings = field(default_factory=Settings)
    priorities: dict[str, int] = field(default_factory=dict)
    dependencies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    target: str | None = None
    """where beads say that their work lands"""
    integrates_sha: str | None = None
    ledger_down: bool = False
    refuse_work: str = ""
    unchanged: bool = False
    """refused work: the tree is clean and holds nothing new"""
    ends_with_work: bool = False
    """agents have ended when their work is taken"""
    status_before: BeadStatus = BeadStatus.OPEN
    """of beads, when they are slung"""
    fails: str = ""
    """the step on the host that fails for good"""
    failing_words: str = "no"
    away: str = ""
    """the step on the host for which the remote does not answer"""
    unfinished: dict[str, UnfinishedJob] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """ids of workflows that Temporal does not run"""
    out_of_queue: dict[str, MergeRequest] = field(default_factory=dict)
    known_attempt: int = 0
    """the highest that the host knows, though the record does not"""
    closed: BeadStatusReply | None = None
    landed: str | None = None
    """what is found on the target when somebody asks"""
    doubt: str = ""
    """what the remote has instead of what a verdict says"""
    on_remote: set[str] = field(default_factory=set)
    """commits of which there is no doubt"""
    remote_away: bool = False
    """it does not answer who checks a verdict"""
    hosts: tuple[str, ...] = (HOST,)
    highest_attempt: int = 0

    gone_url: str = ""
    """a remote that does not answer any more"""
    no_branch: str = ""
    """a target that is not on the remote"""
    started: list[StartAttempt] = field(default_factory=list)
    taken: list[TakeWork] = field(default_factory=list)
    ended: list[EndSession] = field(default_factory=list)
    settled: list[SettleIntent] = field(default_factory=list)
    published: list[PublishAgain] = field(default_factory=list)
    released: list[ReleaseWorktree] = field(default_factory=list)
    kept_folder: str | None = None
    """on the host, with files of the worktree that must not leave it"""
    writes: list[JobWrite] = field(default_factory=list)
    letters: list[Escalation] = field(default_factory=list)
    cleared: list[EscalationCleared] = field(default_factory=list)
    landed_asked: list[FindLanded] = field(default_factory=list)
    confirmed: list[ConfirmLanded] = field(default_factory=list)

    @activity.defn
    async def admit_bead(self, request: SlingRequest) -> Admission:
        self._reach_ledger()
        if request.bead == "sh-404":
            raise ApplicationError("there is no bead sh-404", type=ErrorCode.NOT_FOUND.value, non_retryable=True)
        bead = Bead(
            id=request.bead,
            rig="shop",
            title=f"work on {request.bead}",
            priority=self.priorities.get(request.bead, 2),
            target=self.target,
            status=self.status_before,
            integrates="next" if self.integrates_sha else None,
            integrates_sha=self.integrates_sha,
            created_at=NOW,
            updated_at=NOW,
        )
        return Admission(
            bead=bead,
            rig=self.rig,
            agent=request.agent or "true",
            settings=self.settings,
            highest_attempt=self.highest_attempt,
            open_dependencies=self.dependencies.get(request.bead, ()),
            unfinished=self.unfinished.get(request.bead),
            cleared=self.out_of_queue.get(request.bead),
        )

    @activity.defn
    async def start_job(self, order: StartJob) -> JobStarted:
        return await JobStartActivities(activity.client(), self.admit_bead).start_job(order)

    @activity.defn
    async def dispatch_facts(self, request: DispatchFactsRequest) -> DispatchFacts:
        self._reach_ledger()
        opened = {bead: self.dependencies.get(bead, ()) for bead in request.beads}
        return DispatchFacts(rig=self.rig, settings=self.settings, hosts=self.hosts, open_dependencies=opened)

    @activity.defn
    async def record_job(self, writes: JobWrites) -> None:
        self._reach_ledger()
        known = {(write.bead, write.attempt, write.sequence) for write in self.writes}
        self.writes += [w for w in writes.writes if (w.bead, w.attempt, w.sequence) not in known]

    @activity.defn
    async def bead_status(self, _bead: BeadRef) -> BeadStatusReply:
        self._reach_ledger()
        return self.closed or BeadStatusReply(status=BeadStatus.IN_PROGRESS)

    @activity.defn
    async def start_attempt(self, request: StartAttempt) -> AttemptStarted:
        self._work_on_host("start_attempt")
        self.started.append(request)
        if request.rig.url == self.gone_url:
            raise ApplicationError("no answer", type=ErrorCode.REMOTE_UNREACHABLE.value)
        if request.rig.branch == self.no_branch:
            raise ApplicationError("no such branch", type=ErrorCode.NO_SUCH_BRANCH.value, non_retryable=True)
        if request.attempt <= self.known_attempt:
            return AttemptStarted(
                session="", worktree="", base_sha="", adopted=False, highest_attempt=self.known_attempt
            )
        return AttemptStarted(session="shop--x", worktree="/w", base_sha="b" * 40, adopted=False)

    @activity.defn
    async def take_work(self, request: TakeWork) -> WorkTaken:
        self._work_on_host("take_work")
        self.taken.append(request)
        if self.refuse_work:
            return WorkTaken(accepted=False, reason=self.refuse_work, unchanged=self.unchanged)
        told = self.ends_with_work and await asyncio.to_thread(SessionOver(activity.client()).tell, request)
        return WorkTaken(accepted=True, head_sha=f"{request.attempt:040x}", ended=self.ends_with_work, told=told)

    @activity.defn
    async def publish_again(self, request: PublishAgain) -> WorkTaken:
        self._work_on_host("publish_again")
        self.published.append(request)
        return WorkTaken(accepted=True, head_sha=request.head_sha)

    @activity.defn
    async def settle_intent(self, request: SettleIntent) -> None:
        self.settled.append(request)

    @activity.defn
    async def end_session(self, request: EndSession) -> None:
        self._work_on_host("end_session")
        self.ended.append(request)

    @activity.defn
    async def release_worktree(self, request: ReleaseWorktree) -> WorktreeReleased:
        self._work_on_host("release_worktree")
        self.released.append(request)
        return WorktreeReleased(kept_folder=self.kept_folder)

    @activity.defn
    async def tell_mayor(self, escalation: Escalation) -> None:
        self.letters.append(escalation)

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        self.cleared.append(cleared)

    @activity.defn
    async def find_landed(self, request: FindLanded) -> Landed:
        self.landed_asked.append(request)
        return Landed(sha=self.landed)

    @activity.defn
    async def confirm_landed(self, request: ConfirmLanded) -> Confirmation:
        self.confirmed.append(request)
        if self.remote_away:
            raise ApplicationError("no answer", type=ErrorCode.REMOTE_UNREACHABLE.value)
        if self.doubt and request.verdict.merged_sha not in self.on_remote:
            return Confirmation(doubt=self.doubt)
        if request.release is None or "release_worktree" in {self.away, self.fails}:
            return Confirmation()
        return Confirmation(released=await self.release_worktree(request.release))

    @activity.defn
    async def running_workflows(self, asked: WorkflowIds) -> WorkflowIds:
        return WorkflowIds(ids=tuple(name for name in asked.ids if name not in self.gone))

    def _work_on_host(self, step: str) -> None:
        if step == self.away:
            raise ApplicationError(f"{step}: no answer", type=ErrorCode.REMOTE_UNREACHABLE.value)
        if step == self.fails:
            raise ApplicationError(f"{step}: {self.failing_words}", type=ErrorCode.REFUSED.value, non_retryable=True)

    def _reach_ledger(self) -> None:
        if self.ledger_down:
            raise ApplicationError("the ledger is down", type=ErrorCode.LEDGER_UNREACHABLE.value)

    @property
    def activities(self) -> list[object]:
        return [
            self.admit_bead, self.start_job, self.dispatch_facts, self.record_job, self.bead_status, self.start_attempt,
            self.take_work, self.settle_intent, self.end_session, self.release_worktree, self.tell_mayor,
            self.publish_again, self.running_workflows, self.clear_escalation, self.find_landed,
            self.confirm_landed,
        ]  # fmt: skip

    def mail(self, bead: str) -> list[Message]:
        """What the job has told others by mail, in order."""
        return [message for write in self.writes if write.bead == bead for message in write.mail]

    def events(self, bead: str) -> list[str]:
        return [write.event for write in self.writes if write.bead == bead]


@dataclass
class Town:
    """The running workflows, as a test speaks to them."""

    env: WorkflowEnvironment
    world: JobWorld
    dispatch: WorkflowHandle[DispatchWorkflow, None]

    @classmethod
    async def open(
        cls, env: WorkflowEnvironment, world: JobWorld, patience: int = 1000, post_boxes: bool = True
    ) -> Town:
        """Start the dispatcher and, in place of Refinery and Witness, post boxes."""
        for place in (names.refinery_id("shop"), names.witness_id("shop")) if post_boxes else ():
            await env.client.start_workflow(PostBox.run, id=place, task_queue=names.TOWN_QUEUE)
        dispatch = await env.client.start_workflow(
            DispatchWorkflow.run,
            DispatchState(rig="shop", patience=patience),
            id=names.dispatch_id("shop"),
            task_queue=names.TOWN_QUEUE,
        )
        return cls(env, world, dispatch)

    async def sling(self, bead: str) -> SlingResult:
        result: SlingResult = await self.dispatch.execute_update(
            "sling", SlingRequest(bead=bead, rig="shop"), result_type=SlingResult
        )
        return result

    async def rebuild(self, bead: str) -> SlingResult:
        result: SlingResult = await self.dispatch.execute_update(
            "rebuild", JobOrder(bead=bead), result_type=SlingResult
        )
        return result

    def job(self, bead: str) -> WorkflowHandle[PolecatWorkflow, object]:
        return self.env.client.get_workflow_handle_for(PolecatWorkflow.run, names.polecat_id("shop", bead))

    async def status(self, bead: str) -> JobStatus:
        return await self.job(bead).query(PolecatWorkflow.status)

    async def reach(self, bead: str, state: JobState, attempt: int | None = None) -> JobStatus:
        """Wait until the job is in `state` (of that attempt)."""

        async def there() -> JobStatus | None:
            status = await self.status(bead)
            return status if status.state is state and attempt in {None, status.attempt} else None

        found: JobStatus = await eventually(there, what=f"{bead} to be {state} ({attempt})")
        return found

    async def observe(self, bead: str, kind: ObservationKind, **facts: object) -> None:
        status = await self.status(bead)
        seen: dict[str, object] = {
            "bead": bead, "polecat": status.polecat or "toast", "host": HOST, "attempt": status.attempt, "kind": kind,
        }  # fmt: skip
        if kind is ObservationKind.DONE:
            seen |= {"done_status": DoneStatus.COMPLETED, "intent": "done.json"}
        await self.job(bead).signal("observed", Observation.model_validate(seen | facts))

    async def judge(self, bead: str, kind: VerdictKind, **facts: object) -> None:
        status = await self.status(bead)
        verdict = {
            "merge_request": names.merge_request_id(bead, status.attempt), "bead": bead,
            "attempt": status.attempt, "kind": kind, "base_sha": "b" * 40,
            "host": HOST if kind is VerdictKind.MERGED else None,
        }  # fmt: skip
        await self.job(bead).signal("verdict", Verdict.model_validate(verdict | facts))

    async def escalated(self, *kinds: str) -> None:
        """Wait until exactly these escalations, in order, have reached the Mayor."""

        async def told() -> bool:
            return [letter.kind for letter in self.world.letters] == list(kinds)

        await eventually(told, what=f"escalations {kinds}")

    async def recorded(self, bead: str, event: str, times: int = 1) -> None:
        """Wait until the record has this event of the job's so often: it hears of it after the job has gone on."""

        async def so() -> bool:
            return self.world.events(bead).count(event) == times

        await eventually(so, what=f"{times} {event} of {bead} in the record")

    async def over(self, *ids: str) -> None:
        """Wait until the Mayor has heard that exactly these escalations, in order, are over."""

        async def so() -> bool:
            return [each.id for each in self.world.cleared] == list(ids)

        await eventually(so, what=f"{ids} to be cleared")

    async def decide(self, bead: str, decision: Decision) -> None:
        await self.job(bead).signal("decision", decision)

    async def submit_work(self, bead: str, attempt: int = 1) -> None:
        """From the slot to the merge queue."""
        await self.reach(bead, JobState.WORKING, attempt)
        await self.observe(bead, ObservationKind.DONE)
        await self.reach(bead, JobState.SUBMITTED, attempt)

    async def merge(self, bead: str) -> None:
        await self.judge(bead, VerdictKind.MERGED, merged_sha="c" * 40)
        await self.job(bead).result()
