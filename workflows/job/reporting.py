"""What a job can do away from its host: record, show itself, speak to other workflows.

workflows/job/workflow.py decides what is done and when; nothing here waits for messages.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.ledger import LedgerActivities
from models import names
from models.errors import Level
from models.job.messages import Decision, JobEnded, SlotReleased, SlotRequest, Verdict, WorkStarted
from models.ledger.records import BeadRef, BeadStatus, BeadStatusReply, JobState, JobWrite, MergeRequestState
from models.mayor.alerts import Priority
from models.mayor.escalations import JOB_ENDED, Escalation
from models.refinery.messages import Withdraw
from policies.job.mail import letters
from workflows.job.ledger_outbox import Outbox
from workflows.job.state import PolecatState
from workflows.shared import activity_options
from workflows.shared.signals import Receipt, deliver, tell_mayor, tell_mayor_cleared
from workflows.shared.timers import Alarm
from workflows.shared.web_ui import Labels, details

DETAIL_LENGTH = 4000
"""characters of one line of a job's story"""

REMINDER = "whatever it waits for then is reminded of the job"
"""the summary of a timer that later waits share"""
_BEAD_STATUS = {
    JobState.WAITING: BeadStatus.HOOKED,
    JobState.STARTING: BeadStatus.HOOKED,
    JobState.WORKING: BeadStatus.IN_PROGRESS,
    JobState.SUBMITTED: BeadStatus.SUBMITTED,
    JobState.BLOCKED: BeadStatus.BLOCKED,
    JobState.MERGED: BeadStatus.CLOSED,
    JobState.CLOSED: BeadStatus.CLOSED,
    JobState.ABANDONED: BeadStatus.DEFERRED,
}
_NEXT_COMMAND = {
    JobState.WORKING: "gt peek {polecat}",
    JobState.SUBMITTED: "gt refinery queue --rig {rig}",
    JobState.BLOCKED: "gt job retry {bead}",
    JobState.ABANDONED: "gt sling {bead} {rig}",
}


class Job:
    """The verbs of one job over its carried state."""

    def __init__(self, state: PolecatState) -> None:
        self._state = state
        self._labels = Labels()
        self.alarm = Alarm()
        self.outbox = Outbox(state.outbox)

    # --- the record and what people see ---------------------------------------------------------

    def enter(self, state: JobState, waits_for: str = "") -> None:
        """Be in `state` and show it."""
        self._state.state = state
        self.show(waits_for)

    def show(self, waits_for: str) -> None:
        """Show what the job waits for now."""
        job = self._state
        job.waits_for = waits_for
        self._labels.show(role="polecat", state=job.state.value, rig=job.rig, bead=job.bead, polecat=job.polecat)
        command = _NEXT_COMMAND.get(job.state, "gt job show {bead}")
        rows: dict[str, str | int | None] = {
            "state": job.state.value,
            "waits for": waits_for,
            "health": job.health,
            "attempt": job.attempt,
            "polecat": f"{job.polecat} on {job.host}" if job.polecat else None,
            "restarts": job.restarts,
            "reworks": job.reworks,
            "last failure": job.last_failure,
            "head": job.head_sha,
            "merged": job.merged_sha,
        }
        workflow.set_current_details(
            details(
                f"{job.bead}: {job.admission.bead.title}",
                rows,
                command.format(bead=job.bead, rig=job.rig, polecat=job.polecat),
            )
        )

    def record(
        self,
        event: str,
        detail: str = "",
        *,
        merge_request: MergeRequestState | None = None,
        closed: BeadStatusReply | None = None,
        verdict: Verdict | None = None,
        close_reason: str = "",
    ) -> None:
        """Write one line of the job's story, and where the job stands, into the record.

        Args:
            merge_request: what has become of the current merge request, when that is the news.
            closed: the bead was closed by somebody else, and stays so.
            verdict: of the Refinery, when it is the cause.
            close_reason: why the bead is closed without a merge.
        """
        job = self._state
        if closed is not None:
            close_reason = closed.close_reason or ""
        elif job.state is JobState.MERGED:
            close_reason = "merged"
        write = JobWrite(
            bead=job.bead,
            rig=job.rig,
            workflow_id=workflow.info().workflow_id,
            attempt=job.current_attempt,
            sequence=job.next_sequence(),
            at=workflow.now(),
            event=event,
            detail=detail[:DETAIL_LENGTH],
            state=job.state,
            bead_status=BeadStatus.CLOSED if closed else _BEAD_STATUS[job.state],
            polecat=job.polecat,
            host=job.host,
            branch=job.branch,
            head_sha=job.head_sha,
            merged_sha=job.merged_sha,
            restarts=job.restarts,
            reworks=job.reworks,
            agent=job.admission.agent,
            close_reason=close_reason or None,
            merge_request=job.merge_request if merge_request else None,
            merge_request_state=merge_request,
        )
        former = job.avoid_polecat if job.avoid_polecat != job.polecat else None
        mail = letters(write, verdict=verdict, note=job.notes[-1] if job.notes else None, former=former)
        self.outbox.add(write.model_copy(update={"mail": mail}))

    async def recorded_status(self) -> BeadStatusReply | None:
        """How the record has the bead; None when it cannot be read."""
        try:
            return await workflow.execute_activity_method(
                LedgerActivities.bead_status,
                BeadRef(bead=self._state.bead),
                summary="is the bead still wanted?",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return None

    # --- other workflows ------------------------------------------------------------------------

    async def ask_slot(self) -> bool:
        """Ask the dispatcher for a living session; False when no dispatcher takes that."""
        return await self._tell_dispatcher("slot_wanted", self._slot(self._state.current_attempt + 1))

    async def free_slot(self, *, polecat_kept: bool = True) -> None:
        """Give the slot back; the polecat's name and worktree stay with the job unless told otherwise."""
        job = self._state
        if polecat_kept and not job.holds_slot and job.grant is None:
            return
        await self.rest(polecat_kept=polecat_kept)

    async def rest(self, *, polecat_kept: bool = True) -> None:
        """Tell the dispatcher that no session lives any more, and where the job stands instead."""
        job = self._state
        attempt = job.grant.attempt if job.grant else job.current_attempt
        job.holds_slot, job.grant = False, None
        released = SlotReleased(bead=job.bead, attempt=attempt, state=job.state, polecat_kept=polecat_kept)
        await self._tell_dispatcher("slot_released", released)

    async def announce(self) -> None:
        """Tell dispatcher and Witness of the running attempt; again is harmless, and heals one that forgot."""
        await asyncio.gather(self._tell_witness(session=True), self.hold_slot())

    async def announce_session(self) -> None:
        """Tell the Witness that the attempt's session lives; the dispatcher, who granted it, counts it already."""
        await self._tell_witness(session=True)

    async def announce_start(self) -> None:
        """Tell the Witness of the attempt that is about to start: a host where it cannot is noticed by the patrol."""
        await self._tell_witness(session=False)

    async def hold_slot(self) -> None:
        """Tell the dispatcher that this job has a living session, or is about to find out."""
        await self._tell_dispatcher("slot_held", self._slot(self._state.current_attempt))

    async def keep_polecat(self) -> None:
        """Tell a dispatcher that knows of nothing that the polecat is this job's, though no session lives."""
        await self.hold_slot()
        await self.rest()

    async def offer(self) -> Receipt:
        """Hand the merge request to the Refinery, or take it back."""
        job = self._state
        request = job.merge_request
        assert request is not None
        if job.withdrawing is None:
            return await self.signal(names.refinery_id(job.rig), "submit", request)
        back = Withdraw(merge_request=request.id, bead=job.bead, attempt=request.attempt)
        return await self.signal(names.refinery_id(job.rig), "withdraw", back)

    async def say_ended(self) -> None:
        """Tell the dispatcher that the job is over."""
        await self._tell_dispatcher("job_ended", JobEnded(bead=self._state.bead, state=self._state.state))

    async def raise_fault(self, kind: str, message: str, *, evidence: str = "", level: Level = Level.L2) -> None:
        """Escalate a fault that lasts until `end_faults`; raised again before that it is the same one."""
        job = self._state
        if kind in job.faults:
            return
        about = job.number_fault(kind)
        job.faults[kind] = self._escalation_id(kind, about)
        await self.escalate(kind, message, about=about, evidence=evidence, level=level)

    async def end_faults(self, reason: str, *kinds: str, resolved: str | None = None) -> None:
        """Tell the Mayor that faults are over by themselves.

        Args:
            kinds: which; none named means every one.
            resolved: the escalation that was decided upon, which the Mayor knows to be over.
        """
        job = self._state
        for kind in [kind for kind in job.faults if not kinds or kind in kinds]:
            escalation = job.faults.pop(kind)
            job.settle(escalation)
            if escalation != resolved:
                await tell_mayor_cleared(escalation, reason)

    async def end_earlier_life(self) -> None:
        """The bead is worked on again: that its earlier job ended without a merge needs no person any more."""
        admission = self._state.admission
        deferred = admission.bead.status is BeadStatus.DEFERRED or admission.waited_for_room
        if admission.highest_attempt and deferred:
            await tell_mayor_cleared(self._escalation_id(JOB_ENDED, ""), "it is worked on again")

    def comes_late(self, decision: Decision) -> bool:
        """Whether it answers nothing that is open; that is noted, and nothing else comes of it."""
        if not self._state.is_late(decision):
            return False
        story = f"{decision.kind.value}: {decision.reason} (about {decision.escalation}, which is over)"
        workflow.logger.warning("a decision comes late: %s", story)
        if self._state.started_at is not None:
            self.record("decision_without_effect", story)
        return True

    async def escalate(
        self,
        kind: str,
        message: str,
        *,
        about: str = "",
        evidence: str = "",
        level: Level = Level.L2,
        severity: Priority = Priority.HIGH,
    ) -> None:
        """Tell the Mayor. One escalation per attempt and kind; `about` tells several apart."""
        job = self._state
        await tell_mayor(
            Escalation(
                id=self._escalation_id(kind, about),
                kind=kind,
                level=level.value,
                severity=severity.value,
                source=workflow.info().workflow_id,
                rig=job.rig,
                bead=job.bead,
                message=message,
                evidence=evidence or (job.notes[-1].text if job.notes else ""),
                tried=f"{job.restarts} restarts, {job.reworks} reworks" + (", another polecat" * job.reassigned),
                opened_at=workflow.now(),
            )
        )

    def _escalation_id(self, kind: str, about: str) -> str:
        job = self._state
        return ".".join(part for part in (job.bead, str(job.current_attempt), kind, about) if part)

    def _slot(self, attempt: int) -> SlotRequest:
        job = self._state
        return SlotRequest(
            bead=job.bead,
            priority=job.admission.bead.priority,
            rework=job.attempt is not None,
            polecat=job.polecat,
            host=job.host,
            avoid_polecat=job.avoid_polecat,
            avoid_host=job.avoid_host,
            attempt=attempt,
            rig_known=job.admission.rig.whereabouts,
        )

    async def _tell_witness(self, *, session: bool) -> None:
        job = self._state
        assert job.polecat is not None
        assert job.host is not None
        started = WorkStarted(
            bead=job.bead, polecat=job.polecat, host=job.host, attempt=job.current_attempt, session=session
        )
        await self.signal(names.witness_id(job.rig), "work_started", started)

    async def _tell_dispatcher(self, signal: str, message: object) -> bool:
        return await self.signal(names.dispatch_id(self._state.rig), signal, message) is Receipt.TAKEN

    async def signal(self, workflow_id: str, signal: str, message: object) -> Receipt:
        """Signal another workflow; what is recorded meanwhile goes out with the answer."""
        with self.outbox.awaiting_answer():
            return await deliver(workflow_id, signal, message)
