"""What becomes of a job: its attempts, what their agents say, how they die, and what people decide.

workflows/job/workflow.py waits and listens, and calls these one at a time.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from models.errors import ErrorCode
from models.job.attempts import DONE_INTENT, WorkTaken
from models.job.messages import Decision, DecisionKind, DoneStatus, Observation, ObservationKind, SlotGrant
from models.ledger.records import JobState, Rig
from policies.job.ends import End
from policies.job.limits import MOST_IN_A_ROW, wait_at_limit
from policies.job.restarts import SETUP_RUNS, Restart, after_failed_setup
from policies.job.rework_notes import death_note, setup_note
from policies.job.runs import Then, after_end, after_reassignment_of_nobody, after_retry_of_nobody
from policies.mayor.decisions import HELP
from workflows.job.endings import Endings
from workflows.job.health import JobHealth
from workflows.job.host_work import HostWork, code_of, failure_of
from workflows.job.merging import DISAGREEMENT, JobMerge
from workflows.job.reporting import Job
from workflows.job.state import PolecatState

_SETUP_FAILED = "setup_failed"
LIMIT_FORGOTTEN = timedelta(minutes=10)
"""An agent that worked for so long had no limit: the next one is the first of its row."""


class Course:
    """The transitions of one job."""

    def __init__(self, state: PolecatState, job: Job, host: HostWork) -> None:
        self._state = state
        self._job = job
        self._host = host
        self.health = JobHealth(state, job)
        self.endings = Endings(state, job, host, self.health)
        self.merge = JobMerge(state, job, host, self.endings)

    # --- attempts -------------------------------------------------------------------------------

    def begin_with(self, grant: SlotGrant) -> None:
        """A new job has a slot from the start: no attempt was before that could have done its work."""
        self._take_slot(grant)
        self._begin_attempt()

    async def granted(self, grant: SlotGrant) -> None:
        """A living session may be started: on to the next attempt, if one is still wanted."""
        job = self._state
        self._take_slot(grant)
        if job.current_attempt and await self.endings.over_elsewhere():
            return
        if not self._host.interrupted():
            self._begin_attempt()

    def _take_slot(self, grant: SlotGrant) -> None:
        job = self._state
        job.grant = None
        job.polecat, job.host, job.holds_slot = grant.polecat, grant.host, True

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
            started = await self._host.start_attempt()
        except ActivityError as error:
            message, level = failure_of(error)
            await self.endings.stop_attempt(f"could not start: {message}")
            job.note("agent_died", f"The attempt could not be started: {message}")
            gone = code_of(error) is ErrorCode.NO_SUCH_BRANCH and job.admission.bead.target is None
            way_out = f" (gt rig set {job.rig} --branch B)" if gone else ""
            await self.endings.block(End.CANNOT_START, f"{job.bead} cannot be started: {message}{way_out}", level)
            job.target_gone = gone
            return
        if started is None:
            return
        if started.highest_attempt:
            await self._number_anew(started.highest_attempt)
            return
        job.working_since, job.agent_ran = workflow.now(), True
        job.began_at(started.base_sha)
        self._job.enter(JobState.WORKING, "the agent")
        self._job.record("working", f"attempt {job.attempt} in session {started.session}")
        await self._job.announce_session()

    async def _number_anew(self, highest: int) -> None:
        """Attempts up to `highest` are known, though not to this job: the record was restored, or this workflow was."""
        self._state.attempt = max(highest, self._state.current_attempt)
        if not await self.endings.over_elsewhere() and not self._host.interrupted():
            self._begin_attempt()

    async def take_up_again(self) -> None:
        """Go on after the workflow was rebuilt from the record."""
        job = self._state
        before, job.rebuilt_from = job.rebuilt_from, None
        assert before is not None
        job.adopts = job.state is JobState.STARTING
        self._job.enter(job.state, "its workflow was rebuilt")
        self._job.record("rebuilt", f"from the record, where it was {before.value}")
        if job.holds_slot:
            await self._job.hold_slot()
        elif job.polecat is not None:
            await self._job.keep_polecat()
        if job.state is JobState.BLOCKED and not (job.polecat and await self.endings.over_elsewhere()):
            message = f"{job.bead} was rebuilt from the record and waits for a person: {job.last_failure}".rstrip(": ")
            await self._job.raise_fault(HELP, message)

    # --- what the agent says --------------------------------------------------------------------

    async def help(self, seen: Observation) -> None:
        """The agent asks for help and works on."""
        job = self._state
        if seen.intent not in job.heard:
            about = seen.intent.rsplit("/", 1)[-1].removesuffix(".json")
            await self._job.escalate(HELP, seen.detail or "the agent asks for help", about=about)
            self._job.record("help", seen.detail)
            job.heard.append(seen.intent)
        await self._host.settle(seen.intent)

    async def done(self, seen: Observation) -> None:
        """`gt done` was run."""
        intent = seen.intent or DONE_INTENT
        if seen.intent and seen.intent in self._state.heard:
            await self._host.settle(intent)
            return
        self._state.heard.append(intent)
        match seen.done_status:
            case DoneStatus.BLOCKED:
                await self._host.settle(intent)
                await self.endings.stop_attempt("the agent says that it is blocked")
                self._state.note("told", seen.detail or "The agent said that it is blocked.")
                message = seen.detail or f"the agent of {seen.bead} says that it is blocked"
                await self.endings.block(End.AGENT_BLOCKED, message)
            case DoneStatus.DEFERRED:
                await self._host.settle(intent)
                await self.endings.give_up(End.DEFERRED, f"the agent deferred it: {seen.detail}".rstrip(": "))
            case DoneStatus.NOTHING_TO_DO:
                await self._host.settle(intent)
                why = f"nothing to do: {' '.join(seen.detail.split())}".rstrip(": ")
                await self.endings.give_up(End.NOTHING_TO_DO, why, close_reason=why)
            case _:
                await self._take_work(intent)

    async def _take_work(self, intent: str) -> None:
        """Hand the work in, or tell the living agent why not."""
        job = self._state
        try:
            taken = await self._host.take_work(intent)
            while taken is None and job.rig_before is not None and not self._host.interrupted():
                await self.follow_rig(job.rig_before)
                taken = await self._host.take_work(intent)
        except ActivityError as error:
            await self._cannot_take(error)
            return
        if taken is None:
            return
        if taken.accepted and taken.head_sha:
            await self.merge.submit(taken.head_sha, taken)
        else:
            job.refusal = taken.reason
            self._job.record("work_refused", taken.reason)

    async def _cannot_take(self, error: ActivityError) -> None:
        """What keeps the work from being published is not the agent's fault: no further run of it helps."""
        job = self._state
        message, level = failure_of(error)
        await self.endings.stop_attempt(f"its work cannot be taken: {message}")
        job.note("work_refused", f"The work could not be taken: {message}")
        await self.endings.block(End.WORK_NOT_TAKEN, f"the work of {job.bead} cannot be taken: {message}", level)

    # --- a dead agent ---------------------------------------------------------------------------

    async def died(self, seen: Observation) -> None:
        """The session is dead or does not respond: taken as done, started again, given to another, or a person's."""
        job, settings = self._state, self._state.admission.settings
        unchanged = False
        if seen.exit_code == 0 and settings.polecat.auto_done:
            try:
                taken = await self._taken_as_done()
            except ActivityError as error:
                await self._cannot_take(error)
                return
            if taken.accepted:
                return
            unchanged = taken.unchanged
        if self._host.interrupted():
            return
        lived = self._lived(seen)
        unresponsive = seen.kind is ObservationKind.UNRESPONSIVE
        await self._host.end_session(f"unresponsive: {seen.detail}" if unresponsive else "the agent died")
        await self._host.say_ended()
        await self.health.forget(f"{job.polecat} is started again")
        if await self.endings.over_elsewhere():
            return
        if seen.setup_failed:
            await self._setup_failed(seen)
            return
        event = "agent_unresponsive" if unresponsive else "agent_died"
        job.note(event, death_note(seen, job.refusal))
        if lived >= LIMIT_FORGOTTEN or not seen.limited:
            job.limits_in_row = 0
        if seen.limited and job.limits_in_row < MOST_IN_A_ROW and not seen.hold:
            await self._wait_out(seen)
            return
        following = after_end(job.spent, lived, settings.recovery, workflow.random().random(), unchanged=unchanged)
        if seen.hold:
            await self._held(event)
            return
        job.spend(following.spent)
        if following.then is Then.RESTART:
            assert following.restart is not None
            await self._restart(following.restart, event, at_once=seen.shared_cause)
        elif following.then is Then.REASSIGN:
            await self._reassign("its agents died again and again")
        elif unchanged:
            await self._ask_what_is_to_do(seen)
        else:
            message = f"the agents of {job.bead} die again and again, the last: {job.last_failure}"
            await self.endings.block(End.RUNS_SPENT, message)

    async def _wait_out(self, seen: Observation) -> None:
        """Its program ended at a usage limit, which no restart mends: go on once that is over, and spend nothing."""
        job = self._state
        first_s = job.admission.settings.recovery.retry_delay
        now, jitter = workflow.now(), workflow.random().random()
        delay = wait_at_limit(seen.limited_until, now, job.limits_in_row, first_s, jitter)
        job.limits_in_row += 1
        job.limit_over = job.start_not_before = now + delay
        self._job.enter(JobState.WAITING, job.delay_in_words)
        due = f"{job.limit_over:%Y-%m-%d %H:%M:%S} UTC"
        self._job.record("limited", f"{seen.limited} It goes on at {due}; no restart is spent.")
        await self._job.free_slot()

    async def _ask_what_is_to_do(self, seen: Observation) -> None:
        """Its agents end well without a change: perhaps they have answered in words."""
        job = self._state
        said = seen.detail.strip()
        message = f"the agents of {job.bead} ended {job.unchanged_runs} times without a change or a `gt done`"
        await self.endings.block(
            End.NOTHING_CHANGED, f"{message}; the last said: {said}" if said else message, evidence=said
        )

    async def _setup_failed(self, seen: Observation) -> None:
        """The worktree could not be set up: a few tries, then it is a person's; no other polecat would do better."""
        job, event = self._state, _SETUP_FAILED
        job.note(event, setup_note(seen))
        restart = after_failed_setup(job.budget, job.admission.settings.recovery, workflow.random().random())
        if seen.hold:
            await self._held(event)
            return
        job.budget = restart.budget
        if restart.allowed:
            await self._restart(restart, event, at_once=False)
        else:
            hint = "gt config worktree.setup shows the command; after mending it: gt escalate resolve ID --action retry"
            await self.endings.block(End.SETUP_FAILED, f"{job.bead} has no agent: {job.last_failure} ({hint})")

    def _lived(self, seen: Observation) -> timedelta:
        """How long the agent lived, as its budget counts it: silence is not life, and too long a session earns nothing.

        Otherwise an agent that hangs for longer than the window each time would be started again for ever.
        """
        job = self._state
        since = job.working_since or workflow.now()
        if seen.kind is not ObservationKind.UNRESPONSIVE:
            return workflow.now() - since
        if job.stale_since is None:
            return timedelta(0)
        return job.stale_since - since - timedelta(seconds=job.admission.settings.health.polecat_timeout)

    async def _taken_as_done(self) -> WorkTaken:
        """Exit 0, a clean tree and new commits, but no `gt done`: taken as done, and noted."""
        job = self._state
        taken = await self._host.take_work()
        if taken is None:
            return WorkTaken(accepted=False)
        if taken.accepted and taken.head_sha == job.rejected_sha:
            taken = WorkTaken(
                accepted=False, reason="nothing was committed since the work was sent back", unchanged=True
            )
        if not taken.accepted or taken.head_sha is None:
            job.refusal = taken.reason
            return taken
        self._job.record("auto_done", "the agent ended well without `gt done`")
        await self.merge.submit(taken.head_sha, taken)
        return taken

    async def _restart(self, restart: Restart, event: str, *, at_once: bool) -> None:
        """Start again in the same place.

        Args:
            at_once: what it died of was not its own, so that its budget counts but no delay does.
        """
        job = self._state
        job.restarts += 1
        delay = timedelta(0) if at_once else restart.delay
        most = job.admission.settings.recovery.max_retries
        if event == _SETUP_FAILED:
            most = min(most, SETUP_RUNS - 1)
        when = f"in {delay.total_seconds():.0f} s" if delay else "at once"
        self._job.enter(JobState.WAITING, f"its restart {when}")
        self._job.record(event, f"{job.last_failure} Restart {restart.number} of {most} {when}.")
        if delay:
            job.start_not_before = workflow.now() + delay
            await self._job.free_slot()
        else:
            self._begin_attempt()

    async def _held(self, event: str) -> None:
        """Restarts are paused: ask for a slot, which is granted when the pause is over. The budget is spared."""
        job = self._state
        job.restarts += 1
        self._job.enter(JobState.WAITING, "restarts, which are paused")
        self._job.record(event, f"{job.last_failure} Restarts are paused.")
        await self._job.free_slot()

    async def _reassign(self, why: str) -> None:
        """Leave this polecat for another one; unlanded work is parked, the branch is on the remote."""
        job = self._state
        await self.endings.stop_attempt(why)
        polecat, host = job.polecat, job.host
        if polecat is not None:
            await self.endings.release_worktree()
            job.note("reassigned", f"The work was taken from {polecat}: {why}.")
            job.avoid_polecat, job.avoid_host = polecat, host
            job.polecat = job.host = None
        job.start_not_before = None
        self._job.enter(JobState.WAITING, "a slot with another polecat")
        self._job.record("reassigned", why)

    # --- the rig moves ---------------------------------------------------------------------------

    async def follow_rig(self, before: Rig) -> None:
        """The rig is elsewhere now: what waits to be merged is handed in for there, what that had stopped goes on."""
        job = self._state
        job.rig_before = None
        now, request = job.admission.rig, job.merge_request
        story = f"{before.branch} of {before.url} is {now.branch} of {now.url} from now on"
        if job.state is JobState.SUBMITTED and request is not None and job.withdrawing is None:
            await self.merge.retarget(request, story)
            return
        self._job.record("rig_changed", story)
        if job.state is JobState.BLOCKED and job.target_gone:
            await self._job.end_faults(story)
            await self.endings.stop_attempt(story)
            self._job.enter(JobState.WAITING, "a slot")
            self._job.record("retry", story)

    # --- decisions ------------------------------------------------------------------------------

    async def follow(self, decision: Decision) -> None:
        """Do what the Mayor or a person has decided."""
        job = self._state
        if self._job.comes_late(decision):
            return  # another one has come before it
        if decision.escalation is not None:
            job.settle(decision.escalation, *decision.tellings)
        story = f"{decision.kind.value}: {decision.reason}".rstrip(": ")
        if job.state is JobState.SUBMITTED and decision.kind is DecisionKind.ABANDON:
            # Only the Refinery knows whether the change has landed already.
            job.withdrawing, job.offer_due = decision.reason or "cancelled", None
            self._job.show("the Refinery's answer to the withdrawal")
            self._job.record("withdrawing", story)
            return
        if job.state is JobState.SUBMITTED and DISAGREEMENT in job.faults and decision.kind is not DecisionKind.IGNORE:
            await self._job.end_faults(f"decided: {story}", DISAGREEMENT, resolved=decision.escalation)
            job.doubts, job.offer_due = 0, None
            self._job.record("asked_again", story)
            return
        if job.state is JobState.SUBMITTED or decision.kind is DecisionKind.IGNORE:
            self._job.record("decision_without_effect", story)
            return
        await self._job.end_faults(f"decided: {story}", resolved=decision.escalation)
        if decision.kind is DecisionKind.ABANDON:
            await self.endings.give_up(End.CANCELLED, decision.reason or "cancelled")
            return
        if decision.by_person:
            job.forgive()
        elif not self._affords(decision):
            message = f"{job.bead} has no run left for what nobody asked for ({story}); the last: {job.last_failure}"
            await self.endings.block(End.RUNS_SPENT, message)
            return
        if decision.kind is DecisionKind.RETRY and job.unpublished:
            job.publications = 0
            await self.merge.publish_again("a person asked for it")
            return
        if decision.kind is DecisionKind.REASSIGN:
            await self._reassign(decision.reason or "a person asked for it")
            return
        await self.endings.stop_attempt("a new attempt was asked for")
        job.start_not_before = None
        if decision.reason:
            job.note("told", decision.reason)
        self._job.enter(JobState.WAITING, "a slot")
        self._job.record("retry", decision.reason)

    def _affords(self, decision: Decision) -> bool:
        """Whether a decision that no person took has a run left for it; then that is used up."""
        job = self._state
        if decision.kind is DecisionKind.REASSIGN:
            following = after_reassignment_of_nobody(job.spent)
        elif job.agent_ran:
            following = after_retry_of_nobody(job.spent, job.admission.settings.recovery)
        else:
            return True
        job.spend(following.spent)
        return following.then is not Then.ASK
