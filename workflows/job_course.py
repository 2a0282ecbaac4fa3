"""What becomes of a job: each thing that happens to it, and the state that it leads to.

workflows/polecat.py waits and listens, and calls these one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from models.attempts import DONE_INTENT
from models.errors import Level
from models.jobs import Decision, DecisionKind, DoneStatus, Observation, SlotGrant, Verdict, VerdictKind
from models.names import job_branch, merge_request_id
from models.records import BeadStatus, BeadStatusReply, JobState, MergeRequest, MergeRequestState
from policies.restarts import Restart, RestartBudget, after_death
from policies.rework_notes import death_note, verdict_note
from workflows.job import Job, failure_of
from workflows.job_state import PolecatState

REPEAT = timedelta(minutes=10)
"""after this long others are told again what they must know, so that nothing hangs on one message"""
SOON = timedelta(seconds=30)
"""the same, while there was nobody to tell, or while an answer is urgent"""


class Course:
    """The transitions of one job.

    Args:
        interrupted: True while a decision waits that makes further host work of the attempt pointless.
    """

    def __init__(self, state: PolecatState, job: Job, interrupted: Callable[[], bool]) -> None:
        self._state = state
        self._job = job
        self._interrupted = interrupted

    # --- attempts -------------------------------------------------------------------------------

    def granted(self, grant: SlotGrant) -> None:
        """A living session may be started: on to the next attempt."""
        job = self._state
        job.polecat, job.host, job.holds_slot = grant.polecat, grant.host, True
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        """Number the attempt before anything of it can exist in the world."""
        job = self._state
        attempt = job.begin_attempt()
        self._job.enter(JobState.STARTING, f"the session on {job.host}")
        self._job.record("starting", f"attempt {attempt} as {job.polecat} on {job.host}")

    async def start(self) -> None:
        """Bring the attempt's session to life."""
        job = self._state
        try:
            started = await self._job.start_attempt(self._interrupted)
        except ActivityError as error:
            message, level = failure_of(error)
            await self._stop_attempt(f"could not start: {message}")
            job.note("agent_died", f"The attempt could not be started: {message}")
            await self._block("polecat_exhausted", f"{job.bead} cannot be started: {message}", level)
            return
        if started is None:
            return
        job.working_since = workflow.now()
        self._job.enter(JobState.WORKING, "the agent")
        self._job.record("working", f"attempt {job.attempt} in session {started.session}")
        await self._job.announce()

    async def _stop_attempt(self, cause: str, grace_s: float = 0.0) -> None:
        """End the session if one may live, and give the slot back."""
        if self._state.session_lives:
            await self._job.end_session(cause, grace_s)
        await self._job.free_slot()

    # --- what the agent says --------------------------------------------------------------------

    async def help(self, seen: Observation) -> None:
        """The agent asks for help and works on."""
        job = self._state
        if seen.intent not in job.heard:
            about = seen.intent.rsplit("/", 1)[-1].removesuffix(".json")
            await self._job.escalate("help", seen.detail or "the agent asks for help", about=about)
            self._job.record("help", seen.detail)
            job.heard.append(seen.intent)
        await self._job.settle(seen.intent)

    async def done(self, seen: Observation) -> None:
        """`gt done` was run."""
        intent = seen.intent or DONE_INTENT
        if seen.intent and seen.intent in self._state.heard:
            await self._job.settle(intent)
            return
        self._state.heard.append(intent)
        match seen.done_status:
            case DoneStatus.BLOCKED:
                await self._job.settle(intent)
                await self._stop_attempt("the agent says that it is blocked")
                self._state.note("told", seen.detail or "The agent said that it is blocked.")
                await self._block("help", seen.detail or f"the agent of {seen.bead} says that it is blocked")
            case DoneStatus.DEFERRED:
                await self._job.settle(intent)
                await self.abandon(f"the agent deferred it: {seen.detail}".rstrip(": "))
            case _:
                await self._take_work(intent)

    async def _take_work(self, intent: str) -> None:
        """Hand the work in, or tell the living agent why not."""
        job = self._state
        try:
            taken = await self._job.take_work(self._interrupted)
        except ActivityError as error:
            message, level = failure_of(error)
            await self._stop_attempt(f"its work cannot be taken: {message}")
            job.note("work_refused", f"The work could not be taken: {message}")
            await self._block("help", f"the work of {job.bead} cannot be taken: {message}", level)
            return
        if taken is None:
            return
        if taken.accepted and taken.head_sha:
            await self._job.settle(intent)
            await self._submit(taken.head_sha)
        else:
            job.refusal = taken.reason
            await self._job.settle(intent, refused=taken.reason)
            self._job.record("work_refused", taken.reason)

    # --- a dead agent ---------------------------------------------------------------------------

    async def died(self, seen: Observation) -> None:
        """The session is dead: taken as done, started again, given to another, or a person's."""
        job, settings = self._state, self._state.admission.settings
        if seen.exit_code == 0 and settings.polecat.auto_done and await self._taken_as_done():
            return
        if self._interrupted():
            return
        await self._job.end_session("the agent died")
        closed = await self._job.recorded_status()
        if closed is not None and closed.status is BeadStatus.CLOSED:
            await self._closed_elsewhere(closed)
            return
        job.note("agent_died", death_note(seen, job.refusal))
        ran = workflow.now() - (job.working_since or workflow.now())
        restart = after_death(job.budget, ran, settings.recovery, workflow.random().random())
        job.budget = restart.budget
        if restart.allowed:
            await self._restart(restart)
        elif not job.reassigned:
            job.reassigned = True
            await self._reassign("its agents died again and again")
        else:
            await self._job.free_slot()
            message = f"the agents of {job.bead} die again and again, the last: {job.last_failure}"
            await self._block("polecat_exhausted", message)

    async def _taken_as_done(self) -> bool:
        """Exit 0, a clean tree and new commits, but no `gt done`: taken as done, and noted."""
        job = self._state
        try:
            taken = await self._job.take_work(self._interrupted)
        except ActivityError as error:
            job.refusal = failure_of(error)[0]
            return False
        if taken is None:
            return False
        if not taken.accepted or taken.head_sha is None or taken.head_sha == job.rejected_sha:
            job.refusal = taken.reason or "nothing was committed since the work was sent back"
            return False
        self._job.record("auto_done", "the agent ended well without `gt done`")
        await self._submit(taken.head_sha)
        return True

    async def _closed_elsewhere(self, closed: BeadStatusReply) -> None:
        """A person closed the bead meanwhile: nothing is left to do for it."""
        job = self._state
        await self.release_worktree()
        job.merged_sha = closed.merged_sha
        self._job.enter(JobState.MERGED if closed.merged_sha else JobState.ABANDONED)
        self._job.record("closed_elsewhere", closed.close_reason or "", closed=closed)

    async def _restart(self, restart: Restart) -> None:
        job = self._state
        job.restarts += 1
        most = job.admission.settings.recovery.max_retries
        when = f"in {restart.delay.total_seconds():.0f} s" if restart.delay else "at once"
        self._job.enter(JobState.WAITING, f"its restart {when}")
        self._job.record("agent_died", f"{job.last_failure} Restart {restart.number} of {most} {when}.")
        if restart.delay:
            job.start_not_before = workflow.now() + restart.delay
            await self._job.free_slot()
        else:
            self._begin_attempt()

    async def _reassign(self, why: str) -> None:
        """Leave this polecat for another one; unlanded work is parked, the branch is on the remote."""
        job = self._state
        await self._stop_attempt(why)
        if job.polecat is not None:
            await self.release_worktree()
            job.note("reassigned", f"The work was taken from {job.polecat}: {why}.")
            job.avoid_polecat, job.avoid_host = job.polecat, job.host
            job.polecat = job.host = None
        job.budget, job.start_not_before = RestartBudget(), None
        self._job.enter(JobState.WAITING, "a slot with another polecat")
        self._job.record("reassigned", why)

    # --- the merge ------------------------------------------------------------------------------

    async def _submit(self, head_sha: str) -> None:
        """The work is on the remote: hand it to the Refinery and end the session."""
        job = self._state
        bead, rig = job.admission.bead, job.admission.rig
        assert job.polecat is not None
        job.head_sha = head_sha
        job.merge_request = MergeRequest(
            id=merge_request_id(job.bead, job.current_attempt),
            rig=job.rig,
            bead=job.bead,
            title=bead.title,
            polecat=job.polecat,
            attempt=job.current_attempt,
            branch=job_branch(job.bead),
            head_sha=head_sha,
            target=rig.branch,
            priority=bead.priority,
            submitted_at=workflow.now(),
        )
        job.withdrawing, job.refinery_reported = None, False
        self._job.enter(JobState.SUBMITTED, "the Refinery's verdict")
        self._job.record("submitted", f"{head_sha[:12]} for {rig.branch}", merge_request=MergeRequestState.QUEUED)
        # Before the session's grace, so that merging need not wait for it.
        await self.offer()
        await self._stop_attempt("its work was taken", job.admission.settings.session.done_grace)

    async def offer(self) -> bool:
        """Tell the Refinery what is wanted of it, and the Mayor, once, that there is none. False: there is none."""
        job = self._state
        offered = await self._job.offer()
        job.offer_due = workflow.now() + (REPEAT if offered and job.withdrawing is None else SOON)
        if not offered and job.withdrawing is None and not job.refinery_reported:
            job.refinery_reported = True
            message = f"no Refinery runs for {job.rig}: {job.bead} waits to be merged"
            await self._job.escalate("refinery_stalled", message, level=Level.L3)
        return offered

    async def judged(self, verdict: Verdict) -> None:
        """The Refinery has decided. What is merged is merged, whatever was wanted meanwhile."""
        job = self._state
        if verdict.kind is VerdictKind.MERGED:
            job.merged_sha = verdict.merged_sha
            self._job.enter(JobState.MERGED)
            self._job.record("merged", verdict.merged_sha or "", merge_request=MergeRequestState.MERGED)
        elif job.withdrawing is not None:
            await self.abandon(job.withdrawing, MergeRequestState.WITHDRAWN)
        elif verdict.kind is VerdictKind.RETURNED:
            await self.abandon(verdict.detail or "returned by the Refinery", MergeRequestState.RETURNED)
        else:
            await self._rework(verdict)

    async def _rework(self, verdict: Verdict) -> None:
        job = self._state
        kind, text = verdict_note(verdict, job.admission.rig.branch)
        job.note(kind, text)
        job.rejected_sha, job.failure_log = job.head_sha, verdict.log_path
        if job.reworks - job.reworks_forgiven >= job.admission.settings.polecat.max_reworks:
            message = f"{job.bead} was sent back once more after {job.reworks} reworks: {job.last_failure}"
            await self._block("polecat_exhausted", message, event=kind)
            return
        job.reworks += 1
        self._job.enter(JobState.WAITING, "a slot for its rework")
        self._job.record(kind, job.last_failure, merge_request=MergeRequestState.RETURNED)

    # --- decisions ------------------------------------------------------------------------------

    async def follow(self, decision: Decision) -> None:
        """Do what the Mayor or a person has decided."""
        job = self._state
        story = f"{decision.kind.value}: {decision.reason}".rstrip(": ")
        if job.state is JobState.SUBMITTED and decision.kind is DecisionKind.ABANDON:
            # Only the Refinery knows whether the change has landed already.
            job.withdrawing, job.offer_due = decision.reason or "cancelled", None
            self._job.show("the Refinery's answer to the withdrawal")
            self._job.record("withdrawing", story)
            return
        if job.state is JobState.SUBMITTED or decision.kind is DecisionKind.IGNORE:
            self._job.record("decision_without_effect", story)
            return
        if decision.kind is DecisionKind.ABANDON:
            await self.abandon(decision.reason or "cancelled")
            return
        job.reworks_forgiven, job.budget, job.reassigned = job.reworks, RestartBudget(), False
        if decision.kind is DecisionKind.REASSIGN:
            await self._reassign(decision.reason or "a person asked for it")
            return
        await self._stop_attempt("a new attempt was asked for")
        job.start_not_before = None
        if decision.reason:
            job.note("told", decision.reason)
        self._job.enter(JobState.WAITING, "a slot")
        self._job.record("retry", decision.reason)

    # --- endings --------------------------------------------------------------------------------

    async def stumble(self, error: ActivityError) -> None:
        """A step failed in a way that retrying cannot mend and that nothing here expects: a person's."""
        message, level = failure_of(error)
        await self._job.free_slot()
        await self._block("help", f"{self._state.bead}: {error.activity_type} failed: {message}", level)

    async def abandon(self, reason: str, merge_request: MergeRequestState | None = None) -> None:
        """Give the job up; what was done is parked or on its branch."""
        await self._stop_attempt(reason)
        parked = await self.release_worktree()
        self._job.enter(JobState.ABANDONED)
        story = reason + (f"; work parked at {parked}" if parked else "")
        self._job.record("abandoned", story, merge_request=merge_request)

    async def release_worktree(self) -> str | None:
        """Free the worktree, once. Where that fails for good it is left as it is, with a word in the record.

        Returns:
            The ref under which unlanded work was parked.
        """
        job = self._state
        if not job.worktree_held:
            return None
        try:
            released = await self._job.release_worktree()
        except ActivityError as error:
            self._job.record("worktree_kept", failure_of(error)[0])
            return None
        job.worktree_held = False
        return released.parked_ref

    async def _block(self, kind: str, message: str, level: Level = Level.L2, *, event: str = "blocked") -> None:
        """Nothing goes on without a person."""
        job = self._state
        returned = MergeRequestState.RETURNED if job.state is JobState.SUBMITTED else None
        self._job.enter(JobState.BLOCKED, "a person's decision")
        self._job.record(event, message, merge_request=returned)
        await self._job.escalate(kind, message, level=level)
