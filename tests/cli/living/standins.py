"""A dispatcher and a job whose course the test decides: the agent command's last word is the end."""

from __future__ import annotations

import asyncio

from temporalio import activity, workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.search_attributes import attributes
    from models import names
    from models.job.messages import (
        DispatchJob,
        DispatchStatus,
        JobOrder,
        JobResult,
        JobStatus,
        RigFacts,
        RigName,
        SlingRequest,
        SlingResult,
    )
    from models.ledger.records import JobState
    from models.mayor.alerts import Alerting, Notices
    from models.mayor.escalations import EscalationStatus
    from models.names import WorkflowType
    from models.refinery.answers import QueueFacts, QueueFactsRequest
    from models.refinery.messages import PauseRequest
    from models.settings import Settings
    from models.supervision.host_requests import (
        Errand,
        ErrandResult,
        ExpireParked,
        ListParked,
        ParkedWork,
        Unpark,
        Unparked,
    )
    from models.supervision.messages import (
        CheckedIn,
        CheckIn,
        DeaconPong,
        LookAround,
        LookedAround,
        Probe,
        ProbeResult,
        TownFacts,
        WitnessHealth,
    )

STATE = SearchAttributeKey.for_keyword("GtState")


@workflow.defn(name=WorkflowType.DISPATCH)
class Dispatcher:
    """Starts what it is asked to; refuses an agent that ends in `refuse`, has no room for one that ends in `many`."""

    @workflow.init
    def __init__(self, state: RigName) -> None:
        self._rig = state.rig
        self._jobs: list[str] = []
        self._pause: str | None = None

    @workflow.run
    async def run(self, state: RigName) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def sling(self, request: SlingRequest) -> SlingResult:
        if (request.agent or "").endswith("refuse"):
            raise ApplicationError("no agent for it", "L2", "gt sling ID RIG --agent CMD", type="agent_not_found")
        workflow_id = names.polecat_id(self._rig, request.bead)
        if (request.agent or "").endswith("many"):
            note = f"{request.bead} waits in the ledger for room"
            return SlingResult(bead=request.bead, workflow_id=workflow_id, state=JobState.WAITING, note=note)
        if request.bead not in self._jobs:
            self._jobs.append(request.bead)
            await workflow.start_child_workflow(
                WorkflowType.POLECAT,
                request,
                id=workflow_id,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=attributes(role="polecat", state="waiting", rig=self._rig, bead=request.bead),
            )
        return SlingResult(bead=request.bead, workflow_id=workflow_id, state=JobState.WAITING)

    @workflow.update
    async def cancel(self, order: JobOrder) -> SlingResult:
        if order.bead not in self._jobs:
            raise ApplicationError("there is no such job", "L1", "gt job list", type="not_found")
        workflow_id = names.polecat_id(self._rig, order.bead)
        await workflow.get_external_workflow_handle(workflow_id).signal("stop")
        return SlingResult(bead=order.bead, workflow_id=workflow_id, state=JobState.WORKING)

    @workflow.query
    def status(self) -> DispatchStatus:
        jobs = tuple(DispatchJob(bead=bead, polecat="nux", host="h1", waits_for="a person") for bead in self._jobs)
        paused, reason = self._pause is not None, self._pause or ""
        return DispatchStatus(rig=self._rig, paused=paused, pause_reason=reason, max_polecats=10, jobs=jobs)

    @workflow.signal
    def pause(self, request: PauseRequest) -> None:
        self._pause = f"{request.reason} ({request.by})"

    @workflow.signal
    def resume(self, request: PauseRequest) -> None:
        if request.by != names.DEACON_ID:
            self._pause = None


@workflow.defn(name=WorkflowType.POLECAT)
class Job:
    """Ends, blocks or hangs as the agent command says."""

    @workflow.init
    def __init__(self, request: SlingRequest) -> None:
        self._request = request
        self._stopped = False

    @workflow.run
    async def run(self, request: SlingRequest) -> JobResult:
        course = (request.agent or "hang").split()[-1]
        if course in {"merged", "closed", "abandoned"}:
            await asyncio.sleep(0.5)
            return JobResult(bead=request.bead, state=JobState(course), attempt=1)
        if course == "blocked":
            workflow.upsert_search_attributes([STATE.value_set("blocked")])
        if course == "fail":
            raise ApplicationError("a bug", non_retryable=True)
        await workflow.wait_condition(lambda: self._stopped)
        return JobResult(bead=request.bead, state=JobState.ABANDONED, attempt=1)

    @workflow.signal
    def stop(self) -> None:
        self._stopped = True

    @workflow.query
    def status(self) -> JobStatus:
        return JobStatus(
            bead=self._request.bead,
            rig=self._request.rig,
            state=JobState.WORKING,
            attempt=2,
            polecat="nux",
            host="h1",
            branch=names.job_branch(self._request.bead),
            head_sha=None,
            merged_sha=None,
            restarts=1,
            reworks=0,
            waits_for="the agent",
            unrecorded=0,
        )


@workflow.defn(name=WorkflowType.WITNESS)
class Witness:
    """Sees what it was told at its start."""

    @workflow.init
    def __init__(self, health: WitnessHealth) -> None:
        self._health = health

    @workflow.run
    async def run(self, health: WitnessHealth) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def health(self) -> WitnessHealth:
        return self._health


@activity.defn(name="load_rig")
async def load_rig(rig: RigName) -> RigFacts:
    raise ApplicationError("no facts", type="not_found", non_retryable=True)


@activity.defn(name="record_escalation")
async def record_escalation(status: EscalationStatus) -> None:
    return None


@activity.defn(name="town_facts")
async def town_facts() -> TownFacts:
    return TownFacts(settings=Settings())


@activity.defn(name="look_around")
async def look_around(asked: LookAround) -> LookedAround:
    probes = tuple(Probe(workflow_id=each, result=ProbeResult.ANSWERS) for each in asked.ids)
    return LookedAround(facts=await town_facts(), probes=probes)


@activity.defn(name="check_in")
async def check_in(asked: CheckIn) -> CheckedIn:
    return CheckedIn(pong=DeaconPong(number=asked.ping.number), unread="no facts")


@activity.defn(name="read_alerting")
async def read_alerting() -> Alerting:
    return Alerting()


@activity.defn(name="write_down")
async def write_down(notices: Notices) -> None:
    return None


@activity.defn(name="queue_facts")
async def queue_facts(asked: QueueFactsRequest) -> QueueFacts:
    raise ApplicationError("no facts", type="not_found", non_retryable=True)


activities = [load_rig, queue_facts, record_escalation, town_facts, look_around, check_in, read_alerting, write_down]


@workflow.defn(name=WorkflowType.ERRAND)
class Hosts:
    """`away` has no worker; on `h2` alone there is parked work, with a file that must not leave it."""

    @workflow.run
    async def run(self, errand: Errand) -> ErrandResult:
        if errand.host == "away":
            raise ApplicationError("no worker answers on it", "L3", "gt status", type="temporal_unreachable")
        match errand.task:
            case ListParked() if errand.host == "h2":
                return ErrandResult(parked=tuple(_parked(errand.task.rig.name, bead) for bead in errand.task.targets))
            case Unpark(bead=bead, attempt=attempt) if errand.host == "h2":
                return ErrandResult(
                    unparked=Unparked(bead=bead, attempt=attempt or 0, ref="x", branch=f"polecat/{bead}", sha="b" * 40)
                )
            case ExpireParked(refs=refs, kept=True) if errand.host == "h2":
                return ErrandResult(expired=tuple(one.ref for one in refs))
        return ErrandResult()


def _parked(rig: str, bead: str) -> ParkedWork:
    return ParkedWork(
        ref=f"refs/gastown/parked/{bead}/4", sha="a" * 40, rig=rig, bead=bead, attempt=4, saved_at=workflow.now(),
        subject="x", files=1, on_remote=False, landed=True, kept_folder="/town/kept/4", kept_files=("files/.env",),
    )  # fmt: skip
