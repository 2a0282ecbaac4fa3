"""How a job lets go: of a session, of a worktree, of a host, of the bead."""

from __future__ import annotations

import asyncio

from temporalio.exceptions import ActivityError

from models.errors import Level
from models.job.attempts import WorkTaken, WorktreeReleased
from models.job.messages import Verdict
from models.ledger.records import BeadStatus, BeadStatusReply, JobState, MergeRequestState
from policies.job.ends import ENDS, End
from workflows.job.health import JobHealth
from workflows.job.host_work import HostGone, HostWork, failure_of
from workflows.job.reporting import Job
from workflows.job.state import PolecatState


class Endings:
    """The endings of one job and of its attempts."""

    def __init__(self, state: PolecatState, job: Job, host: HostWork, health: JobHealth) -> None:
        self._state = state
        self._job = job
        self._host = host
        self._health = health

    async def stop_attempt(self, cause: str, grace_s: float = 0.0, taken: WorkTaken | None = None) -> None:
        """End the session if one may live, and give the slot back. On a lost host it is left to the patrol.

        Args:
            taken: its accepted work; with that the session may have been ended, and others told of it.
        """
        lived = self._state.session_lives
        if taken is not None and taken.ended:
            self._state.session_lives = False
        elif lived:
            try:
                await self._host.end_session(cause, grace_s)
            except HostGone:
                self._state.session_lives = False
        await self._health.forget(cause)
        if taken is not None and taken.told:
            self._state.holds_slot = False
            return
        await asyncio.gather(self._job.free_slot(), *([self._host.say_ended()] if lived else []))

    async def over_elsewhere(self) -> bool:
        """Whether no further attempt is wanted: the bead was closed meanwhile, or its work is on the target.

        Asked before every restart; where it is so, the job is brought to its end.
        """
        closed = await self._job.recorded_status()
        if closed is not None and closed.status is BeadStatus.CLOSED:
            await self._closed_elsewhere(closed)
            return True
        try:
            landed = await self._host.find_landed()
        except ActivityError as error:
            # No host, or a remote that refuses: starting the attempt will meet the same, and be dealt with there.
            self._job.record("not_known_whether_landed", failure_of(error)[0])
            return False
        if landed is None:
            return False
        await self.landed(landed, f"{landed}: found on the target before a restart")
        return True

    async def landed(self, merged_sha: str | None, story: str, *, already_there: bool = False) -> None:
        """The work is on the target.

        Args:
            already_there: in a commit that is not this job's own.
        """
        job = self._state
        await self.stop_attempt("its work is merged")
        job.merged_sha, job.already_there = merged_sha, already_there
        self._job.enter(JobState.MERGED)
        known = MergeRequestState.MERGED if job.merge_request else None
        self._job.record("merged", story, merge_request=known)

    async def _closed_elsewhere(self, closed: BeadStatusReply) -> None:
        """A person closed the bead meanwhile: nothing is left to do for it."""
        job = self._state
        await self.stop_attempt("its bead is closed")
        await self.release_worktree()
        job.merged_sha = closed.merged_sha
        ruling = ENDS[End.CLOSED_ELSEWHERE]
        self._job.enter(JobState.MERGED if closed.merged_sha else ruling.state)
        self._job.record(ruling.event, closed.close_reason or "", closed=closed)

    async def give_up(
        self, end: End, reason: str, merge_request: MergeRequestState | None = None, *, close_reason: str = ""
    ) -> None:
        """End the job without a merge; what was done is parked or on its branch.

        Args:
            close_reason: of its bead, where that is closed with it.
        """
        ruling = ENDS[end]
        assert ruling.state.final
        await self.stop_attempt(reason)
        parked = await self.release_worktree()
        self._job.enter(ruling.state)
        story = reason + (f"; work parked at {parked}" if parked else "")
        if ruling.asks:
            # Before the record of the end: a bead that is slung again ends it.
            message = f"{self._state.bead} is over without a merge: {story}"
            await self._job.escalate(ruling.asks, message, severity=ruling.severity)
        self._job.record(ruling.event, story, merge_request=merge_request, close_reason=close_reason)

    async def release_worktree(self) -> str | None:
        """Free the worktree, once. Where that fails for good it is left as it is, with a word in the record.

        Returns:
            The ref under which unlanded work was parked.
        """
        job = self._state
        if not job.worktree_held:
            return None
        try:
            released = await self._host.release_worktree()
        except ActivityError as error:
            self._job.record("worktree_kept", failure_of(error)[0])
            return None
        except HostGone:
            self._job.record("worktree_kept", f"{job.host} is lost; it is cleaned up when it comes back")
            job.forget_host()
            return None
        self.freed(released)
        return released.parked_ref

    def freed(self, released: WorktreeReleased) -> None:
        """The worktree is another job's to take."""
        job = self._state
        job.worktree_held = False
        if released.kept_folder is not None:
            self._job.record("files_kept", f"what must not leave {job.host} is there in {released.kept_folder}")

    async def block(
        self,
        end: End,
        message: str,
        level: Level = Level.L2,
        *,
        event: str = "",
        evidence: str = "",
        verdict: Verdict | None = None,
    ) -> None:
        """Nothing goes on without a person.

        Args:
            event: the cause's name in the job's story, where it has one.
        """
        job, ruling = self._state, ENDS[end]
        assert ruling.state is JobState.BLOCKED
        assert ruling.asks
        returned = MergeRequestState.RETURNED if job.state is JobState.SUBMITTED else None
        self._job.enter(ruling.state, "a person's decision")
        self._job.record(event or ruling.event, message, merge_request=returned, verdict=verdict)
        await self._job.rest()
        await self._job.raise_fault(ruling.asks, message, evidence=evidence, level=level)

    async def stumble(self, error: ActivityError) -> None:
        """A step failed in a way that retrying cannot mend and that nothing here expects: a person's."""
        message, level = failure_of(error)
        await self.block(End.STEP_FAILED, f"{self._state.bead}: {error.activity_type} failed: {message}", level)

    async def leave_host(self) -> None:
        """The host was given up: go on at another one, without whatever was only there."""
        job = self._state
        host, polecat = job.host, job.polecat
        holds_session = job.state in {JobState.STARTING, JobState.WORKING}
        if job.attempt is not None:
            await self._host.say_ended()
        await self._health.forget(f"{host} is lost")
        job.note("reassigned", f"{host}, where {polecat} worked, was lost; what was saved of the work is here.")
        job.forget_host()
        if holds_session or job.state is JobState.WAITING:
            job.start_not_before = None
            self._job.enter(JobState.WAITING, "a slot on another host")
        self._job.record("host_lost", f"{polecat} on {host} is given up")
        await self._job.free_slot(polecat_kept=False)
