"""A job between `gt done` and the Refinery's verdict."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from models.errors import Level
from models.job.attempts import WORK_TAKEN, WorkTaken
from models.job.messages import Verdict, VerdictKind
from models.ledger.records import CLEARED_EVENT, JobState, MergeRequest, MergeRequestState
from models.mayor.alerts import AlertType
from models.names import job_branch, merge_request_id
from policies.job.ends import End
from policies.job.rework_notes import verdict_note
from policies.job.runs import Then, after_sent_back
from workflows.job.endings import Endings
from workflows.job.host_work import HostGone, HostWork, failure_of
from workflows.job.reporting import Job
from workflows.job.state import PolecatState
from workflows.shared.signals import Receipt

REPEAT = timedelta(minutes=10)
"""after this long others are told again what they must know, so that nothing hangs on one message"""
SOON = timedelta(seconds=30)
"""the same, while there was nobody to tell, or while an answer is urgent"""
DOUBTS_COUNTED = 5
"""after so many verdicts that were refused the Refinery is asked every REPEAT"""
STALLED = AlertType.REFINERY_STALLED.value
DISAGREEMENT = AlertType.DISAGREEMENT.value
PUBLICATIONS = 3
"""So often accepted work whose branch is gone is published again; who deletes it then is a person's to find out."""


class JobMerge:
    """Hand work in, and follow what becomes of it."""

    def __init__(self, state: PolecatState, job: Job, host: HostWork, endings: Endings) -> None:
        self._state = state
        self._job = job
        self._host = host
        self._endings = endings

    async def submit(self, head_sha: str, taken: WorkTaken) -> None:
        """The work is on the remote: hand it to the Refinery and end the session."""
        job = self._state
        bead, target = job.admission.bead, job.project.branch
        assert job.polecat is not None
        job.head_sha, job.publications, job.unchanged_runs = head_sha, 0, 0
        job.merge_request = MergeRequest(
            id=merge_request_id(job.bead, job.current_attempt),
            rig=job.rig,
            bead=job.bead,
            title=bead.title,
            polecat=job.polecat,
            attempt=job.current_attempt,
            branch=taken.branch or job_branch(job.bead),
            head_sha=head_sha,
            target=target,
            priority=bead.priority,
            submitted_at=workflow.now(),
            whole=bead.integrates_sha,
            pinned=bead.target is not None,
            bases=tuple(job.bases),
        )
        job.withdrawing = None
        self._job.enter(JobState.SUBMITTED, "the Refinery's verdict")
        self._job.record("submitted", f"{head_sha[:12]} for {target}", merge_request=MergeRequestState.QUEUED)
        # Beside the session's grace, so that merging need not wait for it.
        grace_s = job.admission.settings.session.done_grace
        await asyncio.gather(self.offer(), self._endings.stop_attempt(WORK_TAKEN, grace_s, taken))

    async def hand_in_again(self, request: MergeRequest, story: str = "as it is") -> None:
        """Hand in what is there already: nothing has to be worked on for that."""
        job = self._state
        job.head_sha = request.head_sha
        priority, target = job.admission.bead.priority, job.project.branch
        again = {"priority": priority, "target": target, "submitted_at": workflow.now()}
        again["pinned"] = job.admission.bead.target is not None
        job.merge_request = request.model_copy(update=again)
        self._job.enter(JobState.SUBMITTED, "the Refinery's verdict")
        self._job.record("submitted", f"{request.head_sha[:12]} {story}", merge_request=MergeRequestState.QUEUED)
        await self.offer()

    async def retarget(self, request: MergeRequest, story: str) -> None:
        """Its rig has moved: what waits to be merged waits for the rig's branch as it is now."""
        job = self._state
        pinned = job.admission.bead.target is not None
        job.merge_request = request.model_copy(update={"target": job.project.branch, "pinned": pinned})
        self._job.record("rig_changed", story, merge_request=MergeRequestState.QUEUED)
        await self.offer()

    async def offer(self) -> Receipt:
        """Tell the Refinery what is wanted of it, and the Mayor where it does not take that."""
        job = self._state
        receipt = await self._job.offer()
        offered = receipt is Receipt.TAKEN
        job.offer_due = workflow.now() + (REPEAT if offered and job.withdrawing is None else SOON)
        if offered:
            await self._job.end_faults(f"the Refinery of {job.rig} runs", STALLED)
        elif job.withdrawing is None:
            absent = receipt is Receipt.ABSENT
            fault = f"no Refinery runs for {job.rig}" if absent else f"the Refinery of {job.rig} takes no messages"
            message = f"{fault}: {job.bead} waits to be merged"
            await self._job.raise_fault(STALLED, message, level=Level.L3)
        return receipt

    async def judged(self, verdict: Verdict) -> bool:
        """The Refinery has decided. What is merged is merged, whatever was wanted meanwhile, if the remote says so too.

        Returns:
            False where that could not be found out: the verdict has to be looked at again.
        """
        released = None
        if verdict.kind is VerdictKind.MERGED:
            confirmed = await self._host.confirm_landed(verdict)
            if confirmed is None:
                return False
            if confirmed.doubt:
                await self._refuse(verdict, confirmed.doubt)
                return True
            released = confirmed.released
        self._state.doubts = 0
        await self._job.end_faults("the Refinery's verdict is borne out", DISAGREEMENT)
        await self._follow(verdict)
        if released is not None:
            self._endings.freed(released)
        return True

    async def _refuse(self, verdict: Verdict, doubt: str) -> None:
        """The remote does not bear the verdict out: the Refinery is asked again, later each time, and a person told."""
        job = self._state
        said = f"the verdict says that {job.bead} is merged as {verdict.merged_sha}, but {doubt}"
        self._job.record("verdict_refused", said)
        if job.withdrawing is not None:
            await self._endings.give_up(End.CANCELLED, job.withdrawing, MergeRequestState.WITHDRAWN)
            return
        job.offer_due = workflow.now() + min(REPEAT, SOON * 2**job.doubts)
        job.doubts = min(job.doubts + 1, DOUBTS_COUNTED)
        self._job.show("a verdict that the remote bears out")
        message = f"{said}. Its bead stays open, and the Refinery is asked again"
        await self._job.raise_fault(DISAGREEMENT, message, evidence=verdict.model_dump_json(), level=Level.L3)

    async def _follow(self, verdict: Verdict) -> None:
        """Do what a verdict calls for."""
        job = self._state
        if verdict.kind is VerdictKind.MERGED:
            story = ": ".join(part for part in (verdict.merged_sha, verdict.detail) if part)
            await self._endings.landed(verdict.merged_sha, story, already_there=verdict.already_there)
        elif job.withdrawing is not None:
            await self._endings.give_up(End.CANCELLED, job.withdrawing, MergeRequestState.WITHDRAWN)
        elif verdict.kind is not VerdictKind.RETURNED:
            await self._rework(verdict)
        elif verdict.cleared:
            self._job.record(CLEARED_EVENT, verdict.detail)
            await self._endings.give_up(End.CLEARED, verdict.detail or "cleared", MergeRequestState.RETURNED)
        elif verdict.gone:
            await self.publish_again(verdict.detail)
        else:
            message = f"{job.bead} was returned by the Refinery: {verdict.detail or 'no reason was given'}"
            await self._endings.block(End.RETURNED, message)

    async def publish_again(self, why: str) -> None:
        """The branch of accepted work is gone: publish it from the host's own copy, and hand it in again."""
        job = self._state
        request = job.merge_request
        assert request is not None
        if job.polecat is None or job.publications >= PUBLICATIONS:
            lost = "its host is gone" if job.polecat is None else f"it was published again {job.publications} times"
            await self._ask_about_gone(f"{why}; {lost}")
            return
        try:
            published = await self._host.publish_again(request.head_sha)
        except HostGone:
            await self._endings.leave_host()
            await self._ask_about_gone(f"{why}; its host is gone")
            return
        except ActivityError as error:
            await self._ask_about_gone(f"{why}; it cannot be published again: {failure_of(error)[0]}")
            return
        if published is None:
            # A decision goes first; what the Refinery asks for is asked for again once the change is offered again.
            job.offer_due = None
            return
        if not published.accepted:
            await self._ask_about_gone(f"{why}; it cannot be published again: {published.reason}")
            return
        job.publications += 1
        if job.state is JobState.BLOCKED:
            job.state, job.unpublished = JobState.SUBMITTED, False
            await self._job.rest()
        request = request.model_copy(update={"branch": published.branch or request.branch})
        await self.hand_in_again(request, f"published again ({job.publications} of {PUBLICATIONS}): {why}")

    async def _ask_about_gone(self, why: str) -> None:
        job = self._state
        message = f"the accepted work of {job.bead} is not on the remote: {why}"
        await self._endings.block(End.BRANCH_GONE, message, Level.L3)
        job.unpublished = job.polecat is not None

    async def _rework(self, verdict: Verdict) -> None:
        job = self._state
        kind, text = verdict_note(verdict, job.project.branch, whole=job.admission.bead.integrates is not None)
        job.note(kind, text)
        job.rejected_sha, job.failure_log = job.head_sha, verdict.log_path
        following = after_sent_back(job.spent, job.admission.settings.polecat.max_reworks)
        if following.then is Then.ASK:
            message = f"{job.bead} was sent back once more after {job.reworks} reworks: {job.last_failure}"
            await self._endings.block(End.REWORKS_SPENT, message, event=kind, verdict=verdict)
            return
        job.spend(following.spent)
        self._job.enter(JobState.WAITING, "a slot for its rework")
        self._job.record(kind, job.last_failure, merge_request=MergeRequestState.RETURNED, verdict=verdict)
