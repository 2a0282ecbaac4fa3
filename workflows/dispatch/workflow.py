"""The dispatcher: which bead of a rig is worked on, by which polecat, on which host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.job_start import JobStartActivities
from activities.ledger import LedgerActivities
from activities.temporal import TownActivities
from models import names
from models.errors import ErrorCode
from models.job.messages import (
    Admission,
    Decision,
    DecisionKind,
    DispatchFactsRequest,
    DispatchStatus,
    HostLost,
    JobEnded,
    JobOrder,
    JobStarted,
    Restraint,
    RigChanged,
    SlingRequest,
    SlingResult,
    SlotGrant,
    SlotReleased,
    SlotRequest,
    StartJob,
    WorkflowIds,
)
from models.ledger.records import BeadStatus, JobRow, JobState, JobWrite, JobWrites
from models.names import WorkflowType
from models.refinery.messages import PauseRequest
from workflows.dispatch.refusals import cause, refusal, validate
from workflows.dispatch.state import REMEMBERED, DispatchedJob, DispatchState
from workflows.shared import activity_options
from workflows.shared.continue_as_new import Patience
from workflows.shared.signals import Receipt, deliver, tell
from workflows.shared.web_ui import Labels, details

CYCLE = timedelta(seconds=60)
WORKFLOWS_THAT_PAUSE = (names.DEACON_ID, names.MAYOR_ID)
LAST_PRIORITY = 4
CHECKED_A_CYCLE = 100
"""jobs that are looked after each cycle; with more of them they take turns"""


@workflow.defn(name=WorkflowType.DISPATCH)
class DispatchWorkflow:
    """One per rig, for ever: the single allocator of its polecats. All of its state is in DispatchState."""

    @workflow.init
    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._changed = True
        self._facts_wanted = True
        self._facts_hold = False
        """the facts were read since there is work; older ones decide nothing"""
        self._complete = False
        """this run has asked for jobs that it may have been reset to before it knew of them"""
        self._unread: ActivityError | None = None
        """why they could not be read last"""
        self._evacuating = False
        self._starting: dict[str, asyncio.Task[str]] = {}
        """by bead: jobs that are being admitted and started; why one is not, "" where it is"""
        self._untold: list[str] = []
        """beads of jobs that are to hear a decision before they have a slot"""
        self._checked = 0
        """where in the jobs the next cycle goes on to look"""

    @workflow.run
    async def run(self, state: DispatchState) -> None:
        """Grant slots whenever something changes; hand over to a fresh run between handlers."""
        looking = asyncio.create_task(self._look_around())
        while not looking.done():
            self._changed = False
            if self._evacuating:
                await self._evacuate()
            await self._grant()
            self._show()
            await workflow.wait_condition(lambda: self._changed or looking.done())
        looking.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        del state.ended[:-REMEMBERED]
        workflow.continue_as_new(state)

    # --- orders of people -----------------------------------------------------------------------

    @workflow.update(description="Work on a bead; the same bead twice is one job")
    async def sling(self, request: SlingRequest) -> SlingResult:
        """Admit a bead and start its job.

        Raises:
            ApplicationError: what the ledger says against it, under the ledger's own code.
        """
        self._count()
        return await self._take_on(request)

    @sling.validator
    def _can_sling(self, request: SlingRequest) -> None:
        validate(request.bead)
        if request.rig != self._state.rig:
            raise refusal(ErrorCode.INVALID_VALUE, f"this is the dispatcher of {self._state.rig}, not of {request.rig}")

    @workflow.update(description="Begin a job again that the record has, if its workflow is gone")
    async def rebuild(self, order: JobOrder) -> SlingResult:
        """As `sling`, for a job that may still be known here."""
        self._count()
        job = self._state.jobs.get(order.bead)
        if job is not None and job.started:
            self._forget_ended([job], set(await self._running([job.bead])))
        return await self._take_on(SlingRequest(bead=order.bead, rig=self._state.rig))

    @rebuild.validator
    def _can_rebuild(self, order: JobOrder) -> None:
        validate(order.bead)

    @workflow.update(description="Give a job up; what is done is parked")
    async def cancel(self, order: JobOrder) -> SlingResult:
        return await self._decide(order, DecisionKind.ABANDON)

    @cancel.validator
    def _can_cancel(self, order: JobOrder) -> None:
        validate(order.bead)

    @workflow.update(description="Try a job again, with a new attempt")
    async def retry(self, order: JobOrder) -> SlingResult:
        return await self._decide(order, DecisionKind.RETRY)

    @retry.validator
    def _can_retry(self, order: JobOrder) -> None:
        validate(order.bead)

    @workflow.update(description="Give a job to another polecat")
    async def reassign(self, order: JobOrder) -> SlingResult:
        return await self._decide(order, DecisionKind.REASSIGN)

    @reassign.validator
    def _can_reassign(self, order: JobOrder) -> None:
        validate(order.bead)

    @workflow.signal(description="Grant no slot until whoever said so takes it back, or a person does")
    def pause(self, request: PauseRequest) -> None:
        self._count()
        self._state.pauses[request.by] = request.reason

    @workflow.signal(description="Grant slots again; a workflow takes back its own pause alone")
    def resume(self, request: PauseRequest | None = None) -> None:
        self._count()
        if request is not None and request.by in WORKFLOWS_THAT_PAUSE:
            self._state.pauses.pop(request.by, None)
        else:
            self._state.pauses.clear()

    @workflow.signal(description="The Witness: restarts that pause, hosts that are lost; always the whole")
    def restrain(self, restraint: Restraint) -> None:
        self._count()
        self._state.restrain(restraint)
        self._evacuating = bool(restraint.lost_hosts)

    @workflow.signal(description="The record has changed: look now")
    def wake(self) -> None:
        self._count()
        self._facts_wanted = True

    @workflow.signal(description="The Refinery: the rig's branch is another one from now on")
    def rig_changed(self, changed: RigChanged) -> None:
        self._count()
        self._facts_wanted = True

    @workflow.query(description="Jobs, their polecats and what they wait for")
    def status(self) -> DispatchStatus:
        return self._state.status()

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> DispatchState:
        """Without jobs that are being started: whoever slung those hears that it failed, and slings again."""
        started = {bead: job for bead, job in self._state.jobs.items() if job.started}
        return self._state.model_copy(update={"jobs": started})

    # --- messages of jobs -----------------------------------------------------------------------

    @workflow.signal(description="A job asks for a living session")
    def slot_wanted(self, request: SlotRequest) -> None:
        self._count()
        job = self._state.job(request.bead)
        job.state, job.priority, job.request, job.holds_slot = JobState.WAITING, request.priority, request, False
        job.polecat, job.host = request.polecat, request.host
        job.rig_known = request.rig_known or None
        self._facts_wanted = self._facts_wanted or job.open_dependencies is None or job in self._state.misinformed()

    @workflow.signal(description="A job has a living session, whoever granted it")
    def slot_held(self, request: SlotRequest) -> None:
        self._count()
        job = self._state.job(request.bead)
        job.state, job.priority, job.request, job.holds_slot = JobState.WORKING, request.priority, None, True
        job.polecat, job.host, job.attempt = request.polecat, request.host, request.attempt
        job.rig_known = request.rig_known or None

    @workflow.signal(description="A job's session is over for now")
    def slot_released(self, released: SlotReleased) -> None:
        self._count()
        job = self._state.jobs.get(released.bead)
        if job is not None and released.attempt >= job.attempt:
            job.state, job.holds_slot = released.state, False
            if not released.polecat_kept:
                job.polecat = job.host = None

    @workflow.signal(description="A job is over")
    def job_ended(self, ended: JobEnded) -> None:
        self._count()
        self._state.jobs.pop(ended.bead, None)
        self._state.ended.append(ended.bead)
        if ended.state in {JobState.MERGED, JobState.CLOSED}:
            self._state.merge(ended.bead)

    def _count(self) -> None:
        self._patience.count()
        self._changed = True

    # --- starting and steering jobs -------------------------------------------------------------

    async def _take_on(self, request: SlingRequest) -> SlingResult:
        """Start the bead's job, or wait for the start that is under way: who slings twice hears of one."""
        bead = request.bead
        if bead not in self._starting and bead not in self._state.jobs:
            self._starting[bead] = asyncio.create_task(self._admit_and_start(request))
        note = await self._starting[bead] if bead in self._starting else ""
        return self._answer(bead, note)

    async def _admit_and_start(self, request: SlingRequest, *, at_any_rate: bool = False) -> str:
        """See `_leave_in_ledger` for what is returned of a bead that there is no room for; "" of any other."""
        try:
            await self._know_facts()
            if request.bead not in self._state.jobs:
                return await self._start_job(request, at_any_rate=at_any_rate)
        finally:
            del self._starting[request.bead]
        return ""

    async def _know_facts(self) -> None:
        """Where there was no work until now they are read first: they tell whether a job starts with a slot."""
        if self._facts_hold:
            return
        self._facts_wanted, self._unread = True, None
        await workflow.wait_condition(lambda: self._facts_hold or bool(self._unread) or self._patience.exhausted)
        if self._unread is not None:
            raise cause(self._unread) from self._unread

    async def _leave_in_ledger(self, admission: Admission) -> str:
        """Have a bead wait in the ledger: one more job could not be carried to the next run.

        Returns:
            What that means, for people.
        """
        bead, rig = admission.bead.id, self._state.rig
        note = f"{rig} has {len(self._state.jobs)} unfinished jobs, as many as fit: {bead} waits in the ledger for room"
        if not admission.waited_for_room:
            write = JobWrite(
                bead=bead,
                rig=rig,
                workflow_id=names.dispatch_id(rig),
                attempt=admission.highest_attempt,
                sequence=admission.highest_sequence + 1,
                at=workflow.now(),
                event="waits_for_room",
                detail=note,
                state=JobState.WAITING,
                bead_status=BeadStatus.HOOKED,
                agent=admission.agent,
            )
            try:
                await workflow.execute_activity_method(
                    LedgerActivities.record_job,
                    JobWrites(writes=(write,)),
                    summary=f"{bead} waits for room",
                    **activity_options.ledger_ask(),
                )
            except ActivityError as error:
                raise cause(error) from error
        self._state.waits_in_ledger = True
        return note

    async def _take_in(self, waiting: tuple[str, ...]) -> bool:
        """Start jobs of beads that waited in the ledger for room; False where none could be started."""
        new = [bead for bead in waiting if bead not in self._state.jobs]
        for bead in new:
            self._patience.count()
            try:
                await self._take_on(SlingRequest(bead=bead, rig=self._state.rig))
            except ApplicationError as error:
                workflow.logger.warning("%s goes on waiting in the ledger: %s", bead, error.message)
        return any(bead in self._state.jobs for bead in new)

    async def _admit(self, request: SlingRequest) -> Admission:
        try:
            return await workflow.execute_activity_method(
                LedgerActivities.admit_bead,
                request,
                summary=f"may {request.bead} be worked on?",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            raise cause(error) from error

    async def _start_job(self, request: SlingRequest, *, at_any_rate: bool) -> str:
        """Start the job's workflow, or adopt the one that runs already; the job is known here meanwhile.

        Args:
            at_any_rate: it is started to hear something first, whatever the room; else it may start with a slot.
        """
        bead = request.bead
        job = self._state.job(bead)
        job.started = False
        slot = None if at_any_rate else self._reserve_slot(job)
        order = StartJob(
            sling=request,
            key=f"{workflow.info().original_execution_run_id}/{job.arrival}",
            slot=slot,
            room=None if at_any_rate else self._state.room_beside(bead),
            ending=bead in self._state.ended,
        )
        try:
            started = await self._admit_and_run(order)
            unfinished = started.admission.unfinished
            if unfinished is not None and not started.runs:
                self._give_back(job, slot)
                slot, name = None, unfinished.row.polecat
                # Another job for which the name was kept meanwhile may give it back as well.
                await workflow.wait_condition(lambda: name not in self._reserved(but=job))
                keeps = self._state.take_up(unfinished.row)
                started = await self._admit_and_run(order.model_copy(update={"slot": None, "goes_on": keeps}))
        except BaseException:
            self._forget_if(job)
            raise
        if not started.runs:
            self._forget_if(job)
            return await self._leave_in_ledger(started.admission)
        if started.new:
            self._state.ended[:] = [other for other in self._state.ended if other != bead]
        if self._state.jobs.get(bead) is job:
            self._started(job, started, slot)
        return ""

    def _started(self, job: DispatchedJob, started: JobStarted, slot: SlotGrant | None) -> None:
        """Its workflow runs, and may have sent messages by now, which know better."""
        admission = started.admission
        job.started = self._changed = True
        job.priority = admission.bead.priority
        job.rig_known = job.rig_known or admission.rig.whereabouts
        if job.open_dependencies is None:
            self._state.depend(job.bead, admission.open_dependencies)
        if started.slot is not None:
            job.begin_with(started.slot, reserved=slot)
        else:
            self._give_back(job, slot)
        if job.host in self._state.lost_hosts:
            self._evacuating = True  # it was lost while nobody could be told yet

    def _give_back(self, job: DispatchedJob, slot: SlotGrant | None) -> None:
        """The slot that was kept for a job, which does not begin with it."""
        if slot is not None:
            job.take_back(slot)
            self._state.probes_granted -= bool(self._state.restraint.braked and self._state.probes_granted)

    def _reserved(self, but: DispatchedJob) -> list[str]:
        """Names of polecats that are kept for jobs of which nothing else is known yet."""
        starting = [self._state.jobs[bead] for bead in self._starting if bead in self._state.jobs]
        return [
            job.polecat for job in starting if job is not but and job.polecat and not job.started and not job.attempt
        ]

    async def _admit_and_run(self, order: StartJob) -> JobStarted:
        try:
            return await workflow.execute_activity_method(
                JobStartActivities.start_job,
                order,
                summary=f"start the job of {order.sling.bead}",
                **activity_options.job_start(),
            )
        except ActivityError as error:
            raise cause(error) from error

    def _forget_if(self, job: DispatchedJob) -> None:
        """A job that does not run after all; one that was slung anew meanwhile is another."""
        if self._state.jobs.get(job.bead) is job:
            self._forget(job.bead)

    async def _decide(self, order: JobOrder, kind: DecisionKind) -> SlingResult:
        self._count()
        if order.bead in self._starting:
            # Until then its last job, which is ending, would be told.
            with contextlib.suppress(ApplicationError):
                await self._starting[order.bead]
        receipt = await self._tell_decision(order.bead, Decision(kind=kind, reason=order.reason))
        if receipt is Receipt.FULL:
            raise refusal(ErrorCode.REFUSED, f"the job of {order.bead} takes no messages: its code fails")
        if receipt is Receipt.ABSENT:
            self._state.jobs.pop(order.bead, None)
            raise refusal(
                ErrorCode.NOT_FOUND, f"{order.bead} has no running job", f"gt sling {order.bead} {self._state.rig}"
            )
        return self._answer(order.bead)

    async def _tell_decision(self, bead: str, decision: Decision) -> Receipt:
        """Tell a job; one that waits in the ledger is started to hear it, whatever the room."""
        job_id = names.polecat_id(self._state.rig, bead)
        receipt = await deliver(job_id, "decision", decision)
        if receipt is not Receipt.ABSENT or not self._state.waits_in_ledger:
            return receipt
        request = SlingRequest(bead=bead, rig=self._state.rig)
        if not (await self._admit(request)).waited_for_room:
            return receipt
        if bead not in self._starting:
            self._starting[bead] = asyncio.create_task(self._admit_and_start(request, at_any_rate=True))
        # It asks for a slot as soon as it runs, and could have an agent before it hears that it is cancelled.
        self._untold.append(bead)
        try:
            await self._starting[bead]
            return await deliver(job_id, "decision", decision)
        finally:
            self._untold.remove(bead)
            self._changed = True

    def _answer(self, bead: str, note: str = "") -> SlingResult:
        job = self._state.jobs.get(bead)
        return SlingResult(
            bead=bead,
            workflow_id=names.polecat_id(self._state.rig, bead),
            state=job.state if job else JobState.WAITING,
            note=note,
        )

    # --- slots ----------------------------------------------------------------------------------

    def _reserve_slot(self, job: DispatchedJob) -> SlotGrant | None:
        """A slot that a new job starts with, which saves it the asking; None where it has to wait.

        Nothing is known of its bead yet: it comes after everybody who waits.
        """
        if not self._facts_hold:
            return None
        job.request = SlotRequest(bead=job.bead, priority=LAST_PRIORITY, rework=False)
        job.open_dependencies = ()
        mine = [each for each in self._state.allocation() if each.bead == job.bead]
        job.request = job.open_dependencies = None
        if not mine:
            return None
        self._state.probes_granted += bool(self._state.restraint.braked)
        return job.reserve(mine[0])

    async def _grant(self) -> None:
        """Fill free slots. What was granted is noted before the job hears of it, so it is never granted twice."""
        granted = [each for each in self._state.allocation() if each.bead not in self._untold]
        if self._state.restraint.braked:
            self._state.probes_granted += len(granted)
        jobs = [self._state.jobs[allocation.bead] for allocation in granted]
        grants = [job.grant(allocation) for job, allocation in zip(jobs, granted, strict=True)]
        await asyncio.gather(*(self._tell_granted(job, grant) for job, grant in zip(jobs, grants, strict=True)))

    async def _tell_granted(self, job: DispatchedJob, grant: SlotGrant) -> None:
        receipt = await deliver(names.polecat_id(self._state.rig, job.bead), "slot_granted", grant)
        if receipt is Receipt.ABSENT:
            self._forget_if(job)

    async def _evacuate(self) -> None:
        """Tell jobs on lost hosts to go on elsewhere, where there is an elsewhere."""
        self._evacuating = False
        lost = self._state.lost_hosts
        if self._state.usable_hosts:
            stranded = [job for job in self._state.jobs.values() if job.started and job.host in lost]
            await asyncio.gather(*(self._tell_lost(job, job.host) for job in stranded if job.host))

    async def _tell_lost(self, job: DispatchedJob, host: str) -> None:
        receipt = await deliver(names.polecat_id(self._state.rig, job.bead), "host_lost", HostLost(host=host))
        if receipt is Receipt.ABSENT:
            self._forget_if(job)

    def _forget(self, bead: str) -> None:
        """Its workflow runs no more: its slot and its polecat's name are free."""
        self._state.jobs.pop(bead, None)
        self._changed = True

    # --- what the record and Temporal say -------------------------------------------------------

    async def _look_around(self) -> None:
        """Each cycle while there are jobs, and when asked: read the record, and see which jobs run.

        Ends when the run should, so that no activity is under way at the hand-over: nobody would hear of it.
        """
        while True:
            await self._due()
            if self._patience.exhausted:
                return
            self._facts_wanted = False
            came = await self._take_in(await self._read_facts())
            self._facts_wanted = self._facts_wanted or (came and self._state.waits_in_ledger)
            await self._check_jobs()

    async def _due(self) -> None:
        idle = not self._has_work()
        self._facts_hold = self._facts_hold and not idle

        def holds() -> bool:
            return self._facts_wanted or (idle and self._has_work()) or self._patience.exhausted

        try:
            await workflow.wait_condition(
                holds, timeout=None if idle else CYCLE, timeout_summary="the record is read each cycle"
            )
        except TimeoutError:
            return

    def _has_work(self) -> bool:
        return bool(self._state.jobs) or bool(self._starting) or self._state.waits_in_ledger

    async def _read_facts(self) -> tuple[str, ...]:
        """Hosts, capacity and dependencies; with the record unreadable the last ones hold.

        Returns:
            Beads that wait in the ledger and fit in by now.
        """
        room = self._state.room
        asked = tuple(job.bead for job in self._state.jobs.values() if job.request is not None or not job.started)
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.dispatch_facts,
                DispatchFactsRequest(rig=self._state.rig, beads=asked, waiting=room + 1, jobs=not self._complete),
                summary=f"settings of {self._state.rig}, dependencies of {len(asked)} beads",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            workflow.logger.warning("the record of %s is unreadable: %s", self._state.rig, error.cause)
            self._unread = error
            return ()
        self._complete = True
        await self._take_up(facts.jobs)
        for bead in asked:
            self._state.depend(bead, facts.open_dependencies.get(bead, ()))
        self._state.facts = facts.model_copy(update={"open_dependencies": {}, "waiting": (), "jobs": ()})
        self._state.waits_in_ledger = len(facts.waiting) > room
        self._changed = self._facts_hold = True
        changed = RigChanged(rig=facts.rig)
        await asyncio.gather(*(self._tell_rig(job, changed) for job in self._state.misinformed()))
        if self._state.refinery_knows not in {None, facts.rig.whereabouts}:
            await tell(names.refinery_id(self._state.rig), "rig_changed", changed)
        self._state.refinery_knows = facts.rig.whereabouts
        return facts.waiting[:room]

    async def _take_up(self, rows: tuple[JobRow, ...]) -> None:
        """Know jobs that run though nothing is known of them here, before a slot of theirs is granted to another."""
        unknown = {row.bead: row for row in rows if row.bead not in {*self._state.jobs, *self._state.ended}}
        if not unknown:
            return
        for bead in await self._running(tuple(unknown)):
            if bead not in self._state.jobs:
                self._state.take_up(unknown[bead])

    async def _tell_rig(self, job: DispatchedJob, changed: RigChanged) -> None:
        """Its steps so far went to the rig as it was when the job began."""
        if await tell(names.polecat_id(self._state.rig, job.bead), "rig_changed", changed):
            job.rig_known = changed.rig.whereabouts

    async def _check_jobs(self) -> None:
        """Forget jobs whose workflow is gone without a word, so that their slots come back."""
        known = [job for job in self._state.jobs.values() if job.started]
        if not known:
            return
        start = self._checked % len(known)
        some = list(islice(known[start:] + known[:start], CHECKED_A_CYCLE))
        self._checked = start + len(some)
        self._forget_ended(some, set(await self._running([job.bead for job in some])))

    def _forget_ended(self, asked: list[DispatchedJob], running: set[str]) -> None:
        for job in asked:
            # A job that was slung anew meanwhile is another one.
            if job.bead not in running and self._state.jobs.get(job.bead) is job:
                workflow.logger.warning("the job of %s ended without a word", job.bead)
                self._forget(job.bead)

    async def _running(self, beads: Sequence[str]) -> list[str]:
        """Those whose job's workflow runs, in the order asked."""
        asked = {names.polecat_id(self._state.rig, bead): bead for bead in beads}
        running = await workflow.execute_activity_method(
            TownActivities.running_workflows,
            WorkflowIds(ids=tuple(asked)),
            summary=f"do {len(asked)} jobs run?",
            **activity_options.control(),
        )
        return [asked[workflow_id] for workflow_id in running.ids]

    def _show(self) -> None:
        status = self._state.status()
        living = [job for job in status.jobs if job.holds_slot]
        waiting = [job for job in status.jobs if not job.holds_slot]
        self._labels.show(
            role="dispatch", state="paused" if status.paused or status.braked else "dispatching", rig=status.rig
        )
        rows: dict[str, str | int | None] = {
            "paused": self._state.pause_reason or ("yes" if status.paused else None),
            "restarts paused": status.braked,
            "lost hosts": ", ".join(sorted(self._state.lost_hosts)),
            "sessions": f"{len(living)} of {status.max_polecats}",
            "working": ", ".join(f"{job.bead} ({job.polecat})" for job in living[:20]),
            "others": ", ".join(f"{job.bead} ({job.waits_for})" for job in waiting[:20]),
        }
        workflow.set_current_details(details(f"Dispatcher of {status.rig}", rows, "gt status"))
