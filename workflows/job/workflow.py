"""One bead's job: attempt after attempt, until its work is merged or the job is given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from models.job.messages import (
    Decision,
    DecisionKind,
    HostLost,
    JobResult,
    JobStatus,
    Observation,
    ObservationKind,
    RigChanged,
    SlotGrant,
    Verdict,
)
from models.ledger.records import JobState, MergeRequestState
from models.names import WorkflowType
from policies.job.ends import End
from workflows.job.course import Course
from workflows.job.host_work import HostGone, HostWork
from workflows.job.merging import REPEAT, SOON
from workflows.job.rebuild import begun
from workflows.job.reporting import REMINDER, Job
from workflows.job.state import PolecatState
from workflows.shared.continue_as_new import Patience
from workflows.shared.signals import Receipt
from workflows.shared.timers import until

_BEFORE_MARKS = (ObservationKind.HELP, ObservationKind.DONE, ObservationKind.DIED, ObservationKind.UNRESPONSIVE)
"""when several wait: what the agent said counts before its death, and that before marks of its health"""


@workflow.defn(name=WorkflowType.POLECAT)
class PolecatWorkflow:
    """Started by the dispatcher. Handlers only put messages into the state; `run` acts on them, one at a time."""

    @workflow.init
    def __init__(self, state: PolecatState) -> None:
        self._state = state = begun(state)
        self._job = Job(state)
        self._course = Course(state, self._job, HostWork(state, self._job, self._interrupted))
        self._patience = Patience(state.patience)

    @workflow.run
    async def run(self, _begin: PolecatState) -> JobResult:
        """Work the job to its end. Returns once the record holds all of it."""
        state = self._state
        new = state.started_at is None
        if new:
            self._begin()
        self._job.outbox.start()
        if new:
            await self._job.end_earlier_life()
            if state.admission.cleared is not None:
                await self._course.merge.hand_in_again(state.admission.cleared)
        elif state.rebuilt_from is not None:
            await self._course.take_up_again()
        elif state.state is JobState.WORKING:
            await self._job.announce()
        while not state.state.final:
            if self._patience.exhausted:
                await workflow.wait_condition(workflow.all_handlers_finished)
                await self._job.outbox.hand_over()
                workflow.continue_as_new(state)
            await self._step()
        await self._course.endings.release_worktree()
        await self._job.end_faults("the job is over")
        await self._job.say_ended()
        await self._job.outbox.drained()
        return JobResult(bead=state.bead, state=state.state, merged_sha=state.merged_sha, attempt=state.current_attempt)

    def _begin(self) -> None:
        """Whatever has been heard by now: a new job is on the hook, and one that came with a slot has an attempt."""
        job = self._state
        job.started_at = workflow.now()
        if job.grant is None:
            self._job.enter(JobState.WAITING, "a slot")
        self._job.record("hooked", job.admission.bead.title)
        if job.grant is not None and not job.current_attempt:
            self._course.begin_with(job.grant)

    # --- messages -------------------------------------------------------------------------------

    @workflow.signal(description="The dispatcher: a living session may be started")
    def slot_granted(self, grant: SlotGrant) -> None:
        self._patience.count()
        if self._state.wants(grant):
            self._state.grant = grant

    @workflow.signal(description="The Witness: a fact about the running attempt; older ones are dropped")
    def observed(self, seen: Observation) -> None:
        self._patience.count()
        if self._state.accepts(seen) and seen not in self._state.observations:
            self._state.observations.append(seen)

    @workflow.signal(description="The Refinery: what became of the merge request")
    def verdict(self, verdict: Verdict) -> None:
        self._patience.count()
        if self._state.awaits(verdict):
            self._state.verdicts.append(verdict)

    @workflow.signal(description="The Mayor or a person: retry, reassign, abandon or ignore")
    def decision(self, decision: Decision) -> None:
        self._patience.count()
        if not self._state.state.final and not self._job.comes_late(decision):
            self._state.decisions.append(decision)

    @workflow.signal(description="The dispatcher: this host is gone, and there is another one")
    def host_lost(self, lost: HostLost) -> None:
        self._patience.count()
        grant = self._state.grant
        if lost.host == self._state.host or (grant is not None and grant.host == lost.host):
            self._state.host_lost = True

    @workflow.signal(description="The dispatcher: the rig's URL or branch is another one from now on")
    def rig_changed(self, changed: RigChanged) -> None:
        self._patience.count()
        self._state.follow_rig(changed.rig)

    @workflow.query(description="Where the job stands")
    def status(self) -> JobStatus:
        return self._state.status()

    # --- the loop -------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Do the next thing: a decision first, else what the state calls for."""
        try:
            if self._state.host_lost:
                await self._course.endings.leave_host()
                return
            if self._state.rig_before is not None:
                await self._course.follow_rig(self._state.rig_before)
                return
            if self._state.decisions:
                await self._course.follow(self._state.decisions.pop(0))
                return
            match self._state.state:
                case JobState.WAITING:
                    await self._wait_for_slot()
                case JobState.STARTING:
                    await self._course.start()
                case JobState.WORKING:
                    await self._work()
                case JobState.SUBMITTED:
                    await self._await_verdict()
                case _:
                    await self._heard(lambda: False)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            await self._course.endings.stumble(error)
        except HostGone:
            await self._course.endings.leave_host()

    async def _heard(self, holds: Callable[[], bool], at_most: timedelta | None = None, why: str = REMINDER) -> bool:
        """Wait until `holds`, a decision comes or the run should end; False once `at_most` is over."""

        def heard() -> bool:
            return holds() or self._called_away() or self._patience.exhausted

        if at_most is not None:
            return await self._job.alarm.wait(heard, at_most, why)
        await workflow.wait_condition(heard)
        return True

    def _called_away(self) -> bool:
        job = self._state
        return bool(job.decisions) or job.host_lost or job.rig_before is not None

    def _interrupted(self) -> bool:
        return any(decision.kind is not DecisionKind.IGNORE for decision in self._state.decisions)

    async def _wait_for_slot(self) -> None:
        job = self._state
        if job.start_not_before is not None:
            self._job.show(job.delay_in_words)
            if await self._heard(lambda: False, until(job.start_not_before), "delay before the restart"):
                return
            job.start_not_before = None
        if job.grant is None:
            self._job.show("a slot")
            asked = await self._job.ask_slot()
            await self._heard(lambda: job.grant is not None, REPEAT if asked else SOON)
        if job.grant is not None and not job.decisions and not job.host_lost:
            await self._course.granted(job.grant)

    async def _work(self) -> None:
        job = self._state
        if not await self._heard(lambda: bool(job.observations), REPEAT):
            await self._job.announce()
        if not job.observations or job.decisions:
            return
        seen = min(job.observations, key=_rank)
        match seen.kind:
            case ObservationKind.HELP:
                await self._course.help(seen)
            case ObservationKind.DONE:
                await self._course.done(seen)
            case ObservationKind.DIED | ObservationKind.UNRESPONSIVE:
                await self._course.died(seen)
            case ObservationKind.STALE:
                self._course.health.stale(seen)
            case ObservationKind.STUCK:
                await self._course.health.stuck(seen)
            case ObservationKind.RECOVERED:
                await self._course.health.recovered(seen)
        # What was told again meanwhile is the same fact.
        job.observations[:] = [other for other in job.observations if other != seen]

    async def _await_verdict(self) -> None:
        job = self._state
        if not job.verdicts and job.offer_due is None:
            receipt = await self._course.merge.offer()
            if receipt is Receipt.ABSENT and job.withdrawing is not None:
                # No Refinery, no landing.
                await self._course.endings.give_up(End.CANCELLED, job.withdrawing, MergeRequestState.WITHDRAWN)
                return
        if not job.verdicts and job.offer_due is not None:
            heard = await self._heard(lambda: bool(job.verdicts), until(job.offer_due))
            job.offer_due = job.offer_due if heard else None
        if job.verdicts and not job.decisions:
            verdict = job.verdicts[0]
            if await self._course.merge.judged(verdict):
                # What was told again meanwhile is the same verdict; another one may be the true one.
                job.verdicts[:] = [other for other in job.verdicts if other != verdict and job.awaits(other)]


def _rank(seen: Observation) -> int:
    """Which of several observations is dealt with first: the smallest, and of equals the earliest."""
    return _BEFORE_MARKS.index(seen.kind) if seen.kind in _BEFORE_MARKS else len(_BEFORE_MARKS)
