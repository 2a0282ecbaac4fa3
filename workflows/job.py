"""What a job can do: record, show itself, speak to others, work on its host.

workflows/polecat.py decides what is done and when; nothing here waits for messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType, ActivityHandle

from activities.attempts import AttemptActivities
from activities.ledger import LedgerActivities
from activities.town import TownActivities
from models import names
from models.attempts import (
    AttemptStarted,
    EndSession,
    ReleaseWorktree,
    SettleIntent,
    StartAttempt,
    TakeWork,
    WorkTaken,
    WorktreeReleased,
)
from models.errors import Level
from models.escalations import Escalation
from models.jobs import JobEnded, SlotReleased, SlotRequest, WorkEnded, WorkStarted
from models.merging import Withdraw
from models.records import BeadRef, BeadStatus, BeadStatusReply, JobState, JobWrite, MergeRequestState
from workflows import options
from workflows.job_state import PolecatState
from workflows.labels import Labels, details
from workflows.messages import tell
from workflows.outbox import Outbox

DETAIL_LENGTH = 1000
"""characters of one line of a job's story"""

_BEAD_STATUS = {
    JobState.WAITING: BeadStatus.HOOKED,
    JobState.STARTING: BeadStatus.HOOKED,
    JobState.WORKING: BeadStatus.IN_PROGRESS,
    JobState.SUBMITTED: BeadStatus.SUBMITTED,
    JobState.BLOCKED: BeadStatus.BLOCKED,
    JobState.MERGED: BeadStatus.CLOSED,
    JobState.ABANDONED: BeadStatus.DEFERRED,
}
_NEXT_COMMAND = {
    JobState.WORKING: "gt peek {polecat}",
    JobState.SUBMITTED: "gt refinery queue --rig {rig}",
    JobState.BLOCKED: "gt job retry {bead}",
    JobState.ABANDONED: "gt sling {bead} {rig}",
}

Result = TypeVar("Result")


class Job:
    """The verbs of one job over its carried state."""

    def __init__(self, state: PolecatState) -> None:
        self._state = state
        self._labels = Labels()
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
    ) -> None:
        """Write one line of the job's story, and where the job stands, into the record.

        Args:
            merge_request: what has become of the current merge request, when that is the news.
            closed: the bead was closed by somebody else, and stays so.
        """
        job = self._state
        merged = job.state is JobState.MERGED
        self.outbox.add(
            JobWrite(
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
                branch=names.job_branch(job.bead),
                head_sha=job.head_sha,
                merged_sha=job.merged_sha,
                restarts=job.restarts,
                reworks=job.reworks,
                close_reason=closed.close_reason if closed else "merged" if merged else None,
                merge_request=job.merge_request if merge_request else None,
                merge_request_state=merge_request,
            )
        )

    async def recorded_status(self) -> BeadStatusReply | None:
        """How the record has the bead; None when it cannot be read."""
        try:
            return await workflow.execute_activity_method(
                LedgerActivities.bead_status,
                BeadRef(bead=self._state.bead),
                summary="is the bead still wanted?",
                **options.ledger_ask(),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return None

    # --- other workflows ------------------------------------------------------------------------

    async def ask_slot(self) -> bool:
        """Ask the dispatcher for a living session; False when no dispatcher runs."""
        return await self._tell_dispatcher("slot_wanted", self._slot(self._state.current_attempt + 1))

    async def free_slot(self) -> None:
        """Give the slot back; the polecat's name and worktree stay with the job."""
        job = self._state
        if not job.holds_slot and job.grant is None:
            return
        attempt = job.grant.attempt if job.grant else job.current_attempt
        job.holds_slot, job.grant = False, None
        await self._tell_dispatcher("slot_released", SlotReleased(bead=job.bead, attempt=attempt, state=job.state))

    async def announce(self) -> None:
        """Tell dispatcher and Witness of the running attempt; again is harmless, and heals one that forgot."""
        job = self._state
        assert job.polecat is not None
        assert job.host is not None
        started = WorkStarted(bead=job.bead, polecat=job.polecat, host=job.host, attempt=job.current_attempt)
        await tell(names.witness_id(job.rig), "work_started", started)
        await self._tell_dispatcher("slot_held", self._slot(job.current_attempt))

    async def offer(self) -> bool:
        """Hand the merge request to the Refinery, or take it back; False when no Refinery runs."""
        job = self._state
        request = job.merge_request
        assert request is not None
        if job.withdrawing is None:
            return await tell(names.refinery_id(job.rig), "submit", request)
        back = Withdraw(merge_request=request.id, bead=job.bead, attempt=request.attempt)
        return await tell(names.refinery_id(job.rig), "withdraw", back)

    async def say_ended(self) -> None:
        """Tell the dispatcher that the job is over."""
        await self._tell_dispatcher("job_ended", JobEnded(bead=self._state.bead, state=self._state.state))

    async def escalate(self, kind: str, message: str, *, about: str = "", level: Level = Level.L2) -> None:
        """Tell the Mayor. One escalation per attempt and kind; `about` tells several apart."""
        job = self._state
        await workflow.execute_activity_method(
            TownActivities.tell_mayor,
            Escalation(
                id=".".join(part for part in (job.bead, str(job.current_attempt), kind, about) if part),
                kind=kind,
                level=level.value,
                source=workflow.info().workflow_id,
                rig=job.rig,
                bead=job.bead,
                message=message,
                evidence=job.notes[-1].text if job.notes else "",
                tried=f"{job.restarts} restarts, {job.reworks} reworks" + (", another polecat" * job.reassigned),
                opened_at=workflow.now(),
            ),
            summary=f"tell the Mayor: {kind}",
            **options.control(),
        )

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
        )

    async def _tell_dispatcher(self, signal: str, message: object) -> bool:
        return await tell(names.dispatch_id(self._state.rig), signal, message)

    # --- work on the host -----------------------------------------------------------------------

    async def start_attempt(self, interrupted: Callable[[], bool]) -> AttemptStarted | None:
        """Bring the attempt's session to life. None: interrupted; raises ActivityError where retrying cannot help."""
        job = self._state
        bead = job.admission.bead
        return await _unless(
            interrupted,
            workflow.start_activity_method(
                AttemptActivities.start_attempt,
                StartAttempt(
                    rig=job.admission.rig,
                    bead=job.bead,
                    title=bead.title,
                    description=bead.description,
                    polecat=self._polecat,
                    attempt=job.current_attempt,
                    agent=job.admission.agent,
                    notes=tuple(job.notes),
                    failure_log=job.failure_log,
                ),
                summary=f"start attempt {job.current_attempt} as {job.polecat}",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **options.host_work(self._host),
            ),
        )

    async def take_work(self, interrupted: Callable[[], bool]) -> WorkTaken | None:
        """Verify and publish the attempt's work. None: interrupted; raises ActivityError as `start_attempt` does."""
        job = self._state
        return await _unless(
            interrupted,
            workflow.start_activity_method(
                AttemptActivities.take_work,
                TakeWork(rig=job.admission.rig, bead=job.bead, polecat=self._polecat, attempt=job.current_attempt),
                summary=f"take the work of attempt {job.current_attempt}",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **options.host_work(self._host),
            ),
        )

    async def settle(self, intent: str, refused: str = "") -> None:
        """An intent was dealt with: its file goes, and the agent learns of a refusal."""
        job = self._state
        await workflow.execute_activity_method(
            AttemptActivities.settle_intent,
            SettleIntent(
                rig=job.rig,
                bead=job.bead,
                polecat=self._polecat,
                attempt=job.current_attempt,
                intent=intent,
                refused=refused,
            ),
            summary=f"settle {intent}",
            **options.host_work(self._host),
        )

    async def end_session(self, cause: str, grace_s: float = 0.0) -> None:
        """Save evidence, end the session, and let the Witness forget it."""
        job = self._state
        await workflow.execute_activity_method(
            AttemptActivities.end_session,
            EndSession(
                rig=job.rig,
                bead=job.bead,
                polecat=self._polecat,
                attempt=job.current_attempt,
                grace_s=grace_s,
                cause=cause[:DETAIL_LENGTH],
            ),
            summary=f"end the session of attempt {job.current_attempt}",
            **options.host_work(self._host),
        )
        job.session_lives = False
        await tell(names.witness_id(job.rig), "work_ended", WorkEnded(bead=job.bead, attempt=job.current_attempt))

    async def release_worktree(self) -> WorktreeReleased:
        """Park what is not landed and free the worktree; the polecat's name is no longer the job's."""
        job = self._state
        if job.polecat is None:
            return WorktreeReleased()
        return await workflow.execute_activity_method(
            AttemptActivities.release_worktree,
            ReleaseWorktree(
                rig=job.admission.rig,
                bead=job.bead,
                polecat=self._polecat,
                attempt=job.current_attempt,
                landed_sha=job.merged_sha,
            ),
            summary=f"free the worktree of {job.polecat}",
            **options.host_work(self._host),
        )

    @property
    def _polecat(self) -> str:
        assert self._state.polecat is not None, "host work before a slot was granted"
        return self._state.polecat

    @property
    def _host(self) -> str:
        assert self._state.host is not None, "host work before a slot was granted"
        return self._state.host


async def _unless(interrupted: Callable[[], bool], step: ActivityHandle[Result]) -> Result | None:
    """The step's result, or None once `interrupted` holds; then the step has ended on its host too."""
    await workflow.wait_condition(lambda: step.done() or interrupted())
    if step.done():
        return await step
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    return None


def failure_of(error: ActivityError) -> tuple[str, Level]:
    """What to tell a person of a step that failed for good: message and level."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        level = cause.details[0] if cause.details else None
        return cause.message, Level(level) if level in set(Level) else Level.L3
    return str(cause or error), Level.L3
