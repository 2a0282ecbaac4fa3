"""A job's work on its polecat's host: start an attempt, take its work, end its session, free its worktree.

Each step waits for the host as long as it takes, unless the host is given up: then it raises
HostGone, and what was on that host is the patrol's to clean up once it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from temporalio.workflow import ActivityCancellationType, ActivityHandle

from activities.git.merging.landing import LandingActivities
from activities.sessions.attempts import AttemptActivities
from models import names
from models.errors import ErrorCode, Level
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
from models.job.messages import Verdict, WorkEnded
from models.refinery.messages import Confirmation, ConfirmLanded, FindLanded
from workflows.job.host_steps import Steps
from workflows.job.reporting import Job
from workflows.job.state import PolecatState
from workflows.shared import activity_options
from workflows.shared.activity_options import ActivityOptions

CAUSE_LENGTH = 1000
"""characters of why a session was ended, kept with its evidence"""

TAKEN_WITHIN = timedelta(seconds=10)
"""how long a start may wait for its host before the Witness hears of it"""

RELEASE_PATIENCE = timedelta(minutes=10)
"""A worktree on a host that is away for longer is cleared by whoever uses it next."""

Result = TypeVar("Result")


class HostGone(Exception):
    """The polecat's host was given up while something had to be done there."""


class HostWork:
    """The steps of one job on its host.

    Args:
        job: whom it tells of steps that take long.
        interrupted: True while a decision waits that makes further work of the attempt pointless.
    """

    def __init__(self, state: PolecatState, job: Job, interrupted: Callable[[], bool]) -> None:
        self._state = state
        self._job = job
        self._steps = Steps(job)
        self.interrupted = interrupted

    async def start_attempt(self) -> AttemptStarted | None:
        """Bring the attempt's session to life. None: interrupted; raises ActivityError where retrying cannot help.

        A host that does not take the start soon is named to the Witness, whose patrol finds out whether it is lost.
        """
        try:
            return await self._start_attempt(activity_options.host_ask(self._host, TAKEN_WITHIN))
        except ActivityError as error:
            if not _never_taken(error):
                raise
        await self._job.announce_start()
        return await self._start_attempt(activity_options.host_work(self._host))

    async def _start_attempt(self, how: ActivityOptions) -> AttemptStarted | None:
        job = self._state
        bead = job.admission.bead
        return await self._unless_interrupted(
            workflow.start_activity_method(
                AttemptActivities.start_attempt,
                StartAttempt(
                    rig=job.project,
                    bead=job.bead,
                    title=bead.title,
                    description=bead.description,
                    polecat=self._polecat,
                    attempt=job.current_attempt,
                    agent=job.admission.agent,
                    notes=tuple(job.notes),
                    failure_log=job.failure_log,
                    first_attempt=job.admission.highest_attempt + 1,
                    git=job.admission.settings.git,
                    worktree=job.admission.settings.worktree,
                    may=job.admission.settings.agent.may,
                    priority=bead.priority,
                    kind=bead.type,
                    sandbox=job.admission.settings.sandbox,
                    network=job.admission.settings.agent.network,
                    adopt=job.adopts,
                ),
                summary=f"start attempt {job.current_attempt} as {job.polecat}",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **how,
            ),
            f"the start of attempt {job.current_attempt}",
            self._job.announce_start,
        )

    async def take_work(self, intent: str = "") -> WorkTaken | None:
        """Verify and publish the attempt's work. None: interrupted; raises ActivityError as `start_attempt` does.

        Args:
            intent: which announced it, and is settled where the work is refused; "": none did.
        """
        job = self._state
        return await self._unless_interrupted(
            workflow.start_activity_method(
                AttemptActivities.take_work,
                TakeWork(
                    rig=job.project,
                    bead=job.bead,
                    polecat=self._polecat,
                    attempt=job.current_attempt,
                    intent=intent,
                    git=job.admission.settings.git,
                    limits=job.admission.settings.limits,
                ),
                summary=f"take the work of attempt {job.current_attempt}",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **activity_options.host_work(self._host),
            ),
            f"taking the work of attempt {job.current_attempt}",
            self._job.announce,
        )

    async def publish_again(self, head_sha: str) -> WorkTaken | None:
        """Put accepted work on the remote once more. None: interrupted; raises ActivityError as `take_work` does."""
        job = self._state
        return await self._unless_interrupted(
            workflow.start_activity_method(
                AttemptActivities.publish_again,
                PublishAgain(
                    rig=job.project,
                    bead=job.bead,
                    polecat=self._polecat,
                    attempt=job.current_attempt,
                    head_sha=head_sha,
                    git=job.admission.settings.git,
                ),
                summary=f"publish {head_sha[:12]} again",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **activity_options.host_work(self._host),
            ),
            f"publishing {head_sha[:12]} again",
        )

    async def find_landed(self) -> str | None:
        """The commit on the target that holds this job's work already; None also when that was interrupted.

        Raises:
            ActivityError: the host does not answer, or retrying cannot help.
        """
        job = self._state
        known = tuple(sha for sha in (job.admission.landed_before, job.base_sha) if sha)
        while True:
            rig = job.admission.rig
            landed = await self._unless_interrupted(
                workflow.start_activity_method(
                    LandingActivities.find_landed,
                    FindLanded(rig=job.project, bead=job.bead, known=known),
                    summary=f"is work of {job.bead} on {job.project.branch} already?",
                    **activity_options.host_ask(self._host, timedelta(seconds=job.admission.settings.hosts.timeout)),
                ),
                "finding out whether its work has landed",
            )
            if landed is not None or self.interrupted() or not job.rig_left(rig):
                return landed.sha if landed else None

    async def confirm_landed(self, verdict: Verdict) -> Confirmation | None:
        """Whether the remote bears out that this job's change is merged; then its worktree is freed. None: interrupted.

        Raises:
            ActivityError: retrying cannot help.
        """
        job = self._state
        host = job.host or verdict.host
        assert job.merge_request is not None
        if host is None:
            return Confirmation(doubt="no host is known that could ask the remote")
        free = job.worktree_held and job.polecat is not None and not job.session_lives
        release = self._releasing(verdict.merged_sha, already_there=verdict.already_there) if free else None
        return await self._unless_interrupted(
            workflow.start_activity_method(
                LandingActivities.confirm_landed,
                ConfirmLanded(rig=job.project, change=job.merge_request, verdict=verdict, release=release),
                summary=f"is {job.bead} on {job.merge_request.target} as {verdict.merged_sha}?",
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                **activity_options.host_work(host),
            ),
            "asking the remote whether its work is merged",
        )

    async def settle(self, intent: str) -> None:
        """An intent was dealt with: its file goes, as it did with a lost host."""
        job = self._state
        with contextlib.suppress(HostGone):
            await self._here(
                workflow.start_activity_method(
                    AttemptActivities.settle_intent,
                    SettleIntent(
                        rig=job.rig,
                        bead=job.bead,
                        polecat=self._polecat,
                        attempt=job.current_attempt,
                        intent=intent,
                    ),
                    summary=f"settle {intent}",
                    **activity_options.host_work(self._host),
                ),
                f"settling {intent}",
            )

    async def end_session(self, cause: str, grace_s: float = 0.0) -> None:
        """Save evidence and end the session; whoever ends it has the Witness forget it (`say_ended`)."""
        job = self._state
        await self._here(
            workflow.start_activity_method(
                AttemptActivities.end_session,
                EndSession(
                    rig=job.rig,
                    bead=job.bead,
                    polecat=self._polecat,
                    attempt=job.current_attempt,
                    grace_s=grace_s,
                    cause=cause[:CAUSE_LENGTH],
                ),
                summary=f"end the session of attempt {job.current_attempt}",
                **activity_options.host_work(self._host),
            ),
            f"the end of the session of attempt {job.current_attempt}",
        )
        job.session_lives = False

    async def say_ended(self) -> None:
        """Tell the Witness that the attempt is over."""
        job = self._state
        ended = WorkEnded(bead=job.bead, attempt=job.current_attempt)
        await self._job.signal(names.witness_id(job.rig), "work_ended", ended)

    async def release_worktree(self) -> WorktreeReleased:
        """Park what is not landed and free the worktree; the polecat's name is no longer the job's."""
        job = self._state
        if job.polecat is None:
            return WorktreeReleased()
        return await self._here(
            workflow.start_activity_method(
                AttemptActivities.release_worktree,
                self._releasing(job.merged_sha, already_there=job.already_there),
                summary=f"free the worktree of {job.polecat}",
                **activity_options.host_ask(self._host, RELEASE_PATIENCE),
            ),
            f"freeing the worktree of {job.polecat}",
        )

    def _releasing(self, merged_sha: str | None, *, already_there: bool) -> ReleaseWorktree:
        job = self._state
        return ReleaseWorktree(
            rig=job.project,
            bead=job.bead,
            polecat=self._polecat,
            attempt=job.current_attempt,
            # What the target held before is nothing that would have to be parked.
            landed_sha=job.head_sha if already_there else merged_sha,
        )

    async def _here(self, step: ActivityHandle[Result], doing: str) -> Result:
        """The step's result.

        Raises:
            HostGone: the host was given up first.
        """
        await self._steps.wait(lambda: step.done() or self._state.host_lost, self._named(doing))
        await self._steps.passed(doing)
        if step.done():
            return await step
        await _cancelled(step)
        raise HostGone

    async def _unless_interrupted(
        self, step: ActivityHandle[Result], doing: str, again: Callable[[], Awaitable[None]] | None = None
    ) -> Result | None:
        """The step's result, or None once it is interrupted; then the step has ended on its host too.

        A rig that is elsewhere by now interrupts it too: the step may wait for ever for a remote that is gone.

        Raises:
            HostGone: the host was given up first.
        """
        rig = self._state.admission.rig

        def called_away() -> bool:
            return self._state.host_lost or self.interrupted() or self._state.rig_left(rig)

        await self._steps.wait(lambda: step.done() or called_away(), self._named(doing), again)
        if step.done() or self._state.host_lost:
            await self._steps.passed(doing)  # what interrupts it ends the fault, which it may be the answer to
        if step.done():
            return await step
        await _cancelled(step)
        if self._state.host_lost:
            raise HostGone
        return None

    def _named(self, doing: str) -> str:
        host = self._state.host
        return f"{self._state.bead}: {doing}" + (f" on {host}" if host else "")

    @property
    def _polecat(self) -> str:
        assert self._state.polecat is not None, "host work before a slot was granted"
        return self._state.polecat

    @property
    def _host(self) -> str:
        assert self._state.host is not None, "host work before a slot was granted"
        return self._state.host


async def _cancelled(step: ActivityHandle[Result]) -> None:
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)


def _never_taken(error: ActivityError) -> bool:
    return isinstance(error.cause, TimeoutError) and error.cause.type is TimeoutType.SCHEDULE_TO_START


def code_of(error: ActivityError) -> ErrorCode | None:
    """Which of our failures a step ended with; None: another's."""
    kind = error.cause.type if isinstance(error.cause, ApplicationError) else None
    return ErrorCode(kind) if kind in set(ErrorCode) else None


def failure_of(error: ActivityError) -> tuple[str, Level]:
    """What to tell a person of a step that failed for good: message and level."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        level = cause.details[0] if cause.details else None
        return cause.message, Level(level) if level in set(Level) else Level.L3
    return str(cause or error), Level.L3
