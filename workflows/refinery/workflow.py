"""The Refinery: a rig's merge queue. It merges batch after batch and tells each job what came of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.git.merging.landing import LandingActivities
    from activities.ledger import LedgerActivities
    from models import names
    from models.errors import ErrorCode, Level
    from models.job.messages import Decision, RigChanged, RigFacts, Verdict
    from models.ledger.records import BranchRenamed, GateSpec, MergeRequest, Rig
    from models.names import WorkflowType
    from models.refinery.answers import (
        ItemRef,
        QueueFactsRequest,
        QueueHistory,
        QueueStats,
        QueueWhy,
        RefineryStatus,
        RetryItem,
    )
    from models.refinery.messages import (
        BuildChain,
        Chain,
        DropKind,
        FindRenamed,
        ForeignFound,
        MergeBatch,
        MergeOutcome,
        MergeProgress,
        PauseRequest,
        QueueCleared,
        QueueItem,
        QueueItemRef,
        QueueStatus,
        Withdraw,
    )
    from models.settings import GateSettings, SandboxSettings, WorktreeSettings
    from policies.refinery.batching import batch_size, whole_queue
    from policies.refinery.merge_rates import failure_rate
    from workflows.shared import activity_options
    from workflows.shared.web_ui import Labels

from workflows.refinery import views
from workflows.refinery.merge_child import run_merge
from workflows.refinery.queue import MergeQueue, Scope
from workflows.refinery.stalls import (
    GOES_ON,
    TARGET_RED,
    followed,
    gated_anew,
    left,
    looked,
    overdue,
    passed_by,
    renamed,
    resumed,
    rewound,
    tried_at_once,
    weighed,
    windowed,
)
from workflows.refinery.state import QueueEntry, RefineryState, remember
from workflows.shared.continue_as_new import Patience
from workflows.shared.signals import tell, tell_mayor, tell_mayor_cleared
from workflows.shared.timers import until

CYCLE = timedelta(seconds=60)
"""how old the record's facts may be when a merge starts, and how often a busy queue looks around"""
FIRST_CYCLE = timedelta(seconds=15)
"""between tries to read the facts for the first time"""
LET_GO = timedelta(seconds=10)
"""how long an order waits for the merge under way to end"""
IDLE_CYCLE = timedelta(minutes=10)


@workflow.defn(name=WorkflowType.REFINERY)
class RefineryWorkflow:
    """One per rig, for ever. All of its state is in RefineryState."""

    @workflow.init
    def __init__(self, state: RefineryState) -> None:
        self._state = state
        self._queue = MergeQueue(state.entries, state.decided, state.arrivals, state.capacity)
        self._queue.waits_in_ledger = state.waits_in_ledger
        self._queue.cleared_upto = state.cleared_upto
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._woken = False
        self._compare = True
        """a timer or a message says so, never a look at the clock (docs/decisions/0017)"""
        self._moved = False
        """the rig is elsewhere since the running merge began"""
        self._compared_at: datetime | None = None

    @workflow.run
    async def run(self, state: RefineryState) -> None:
        """Merge what waits, or wait for it; hand over to a fresh run between merges."""
        while not self._patience.exhausted:
            self._woken = False
            await self._post()
            await self._refresh()
            self._end_drain()
            await self._find_out()
            await self._look_at_red_targets()
            if self._may_merge() and self._state.facts and self._state.facts.hosts:
                await self._merge(self._state.facts)
            else:
                await self._rest()
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._carried())

    # --- messages of jobs and merges ----------------------------------------------------------

    @workflow.signal(description="Queue a change; telling it twice is one. Answered by `verdict` to its job")
    async def submit(self, request: MergeRequest) -> None:
        self._wake()
        known = self._queue.submit(request)
        await self._tell_jobs((known,) if known is not None else ())

    @workflow.signal(description="A job takes its change back. Answered by `verdict`")
    async def withdraw(self, withdraw: Withdraw) -> None:
        self._wake()
        await self._tell_jobs(self._queue.withdraw(withdraw, workflow.now()))

    @workflow.signal(description="The running merge has decided something; the rest follows when it ends")
    async def progress(self, progress: MergeProgress) -> None:
        self._wake()
        now = workflow.now()
        if progress.waits_for:
            self._state = overdue(self._state, progress.target, progress.waits_for, now)
        await self._tell_jobs([told for verdict in progress.verdicts for told in self._queue.decide(verdict, now)])

    @workflow.signal(description="Settings or the rig changed: read them anew")
    def settings_changed(self) -> None:
        self._wake()
        self._compare = True

    @workflow.signal(description="The dispatcher: the rig's URL or branch is another one from now on")
    def rig_changed(self, changed: RigChanged) -> None:
        self._wake()
        self._compare = True
        self._follow_rig(changed.rig)

    @workflow.signal(description="A patrol found commits on the target that came there past the queue")
    def foreign_found(self, found: ForeignFound) -> None:
        self._wake()
        self._state = passed_by(self._state, found.commits, workflow.now())

    @workflow.signal(description="The Mayor: what was decided about one of this Refinery's escalations")
    def decision(self, decision: Decision) -> None:
        self._wake()
        before, self._state = self._state.faults, followed(self._state, decision)
        if self._state.faults != before and decision.kind in GOES_ON:
            self._queue.forgive()

    # --- orders of people ---------------------------------------------------------------------

    @workflow.update(description="Start no further merge until `resume`, some or what waits already excepted")
    def pause(self, request: PauseRequest) -> QueueStatus:
        self._wake()
        reason = request.reason or f"paused by {request.by or 'a person'}"
        self._amend(pause_reason=reason, paused_for="", drain_upto=None, above_priority=None)
        if request.drain:
            self._amend(drain_upto=self._queue.arrivals)
        else:
            self._amend(paused=True, above_priority=request.above_priority)
        return self.queue()

    @workflow.update(description="Merge again, and forget earlier trouble")
    def resume(self) -> QueueStatus:
        self._wake()
        self._queue.forgive()
        self._state = resumed(self._state, "the queue was resumed")
        return self.queue()

    @workflow.update(description="Take changes in but merge none, until `start`")
    def stop(self) -> RefineryStatus:
        self._wake()
        self._amend(stopped=True)
        return self.status()

    @workflow.update(description="Merge again after `stop`; a pause stays one")
    def start(self) -> RefineryStatus:
        self._wake()
        self._amend(stopped=False)
        return self.status()

    @workflow.update(description="Merge this item before all others; also releases a held one")
    def process(self, item: QueueItemRef) -> QueueItem:
        self._wake()
        self._queue.process(item.id)
        return self._row(item.id)

    @process.validator
    def _can_process(self, item: QueueItemRef) -> None:
        self._require(item.id)

    @workflow.update(description="Hold this item until `process`; a merge of it under way ends")
    async def skip(self, item: QueueItemRef) -> QueueItem:
        self._wake()
        self._queue.skip(item.id)
        await self._let_go()
        self._require(item.id, gone=ErrorCode.REFUSED)
        return self._row(item.id)

    @skip.validator
    def _can_skip(self, item: QueueItemRef) -> None:
        self._require(item.id)

    @workflow.update(description="Try this item again now, as if no merge with it had ever failed to finish")
    def retry(self, item: RetryItem) -> QueueItem:
        self._wake()
        target = self._queue.retry(item.id, front=item.front)
        self._state = tried_at_once(self._state, target)
        return self._row(item.id)

    @retry.validator
    def _can_retry(self, item: RetryItem) -> None:
        self._require(item.id, gone=ErrorCode.REFUSED)

    @workflow.update(description="Return every item to its job")
    async def clear(self) -> QueueCleared:
        self._wake()
        self._compare = self._compare or self._queue.waits_in_ledger
        began = workflow.now()
        await self._tell_jobs(self._queue.clear(began))
        # Without the ledger what waits in it is returned later.
        await self._settled(lambda: not (self._queue.disturbed or self._queue.waits_in_ledger))
        since = (each for each in self._queue.decided if each.at is not None and each.at >= began)
        return QueueCleared(returned=tuple(each.verdict.merge_request for each in since if each.verdict.cleared))

    async def _let_go(self) -> None:
        """Wait a moment until the merge under way has let go of what is wanted back."""
        await self._settled(lambda: not self._queue.disturbed)

    async def _settled(self, done: Callable[[], bool]) -> None:
        if not done():
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(done, timeout=LET_GO, timeout_summary="the merge lets go")

    # --- questions ----------------------------------------------------------------------------

    @workflow.query(description="The queue, in the order in which it will be merged")
    def queue(self) -> QueueStatus:
        facts = self._state.facts
        return QueueStatus(
            rig=self._state.rig,
            target=self._state.branch,
            held_targets={name: each.held for name, each in self._state.troubles.items() if each.held},
            paused=self._state.paused,
            pause_reason=self._state.pause_reason,
            ungated=bool(facts and not facts.rig.gates),
            flaky=views.flaky_gates(self._state),
            red_targets=(red := views.red_targets(self._state)),
            merge=views.running_merge(self._queue, self._state),
            more_in_ledger=self._queue.waits_in_ledger,
            items=views.listing(self._queue, workflow.now(), red),
        )

    @workflow.query(description="What the Refinery does, and by which figures")
    def status(self) -> RefineryStatus:
        return views.status(self._queue, self._state, self._mood())

    @workflow.query(description="What has left the queue, the latest first")
    def history(self) -> QueueHistory:
        return views.history(self._queue, self._state.rig)

    @workflow.query(description="In plain words: what an item waits for, or what became of it")
    def why(self, item: ItemRef) -> QueueWhy:
        return views.why(self._queue, self._state, item.id, self._scope(), workflow.now())

    @workflow.query(description="Landings, gate runs, waits, failure rate, flaky gates")
    def stats(self) -> QueueStats:
        return views.stats(self._queue, self._state, workflow.now())

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> RefineryState:
        return self._carried()

    def _row(self, merge_request: str) -> QueueItem:
        return next(row for row in self.queue().items if row.id == merge_request)

    def _require(self, merge_request: str, gone: ErrorCode = ErrorCode.NOT_FOUND) -> None:
        """Refuse an order about what is not in the queue; `gone` says how, of what has left it."""
        if merge_request in self._queue:
            return
        rig, decided = self._state.rig, self._queue.decision_on(merge_request)
        code, hint = ErrorCode.NOT_FOUND, f"gt refinery queue --rig {rig}"
        words = f"{merge_request} is not in the merge queue of {rig}"
        if decided is not None:
            code, hint = gone, f"gt refinery why {merge_request} --rig {rig}"
            words += f" any more: {decided.verdict.kind.value}"
        raise ApplicationError(words, Level.L1.value, hint, type=code.value, non_retryable=True)

    def _wake(self) -> None:
        self._patience.count()
        self._woken = True

    # --- the loop -----------------------------------------------------------------------------

    def _scope(self) -> Scope:
        """What may be merged while the queue is frozen or drains."""
        urgent = self._state.above_priority if self._state.paused else None
        resting = self._state.resting(workflow.now())
        return Scope(
            urgent, self._state.drain_upto, self._queue.with_menders(resting, self._state.red), self._state.red
        )

    def _frozen(self) -> bool:
        return self._state.stopped or (self._state.paused and self._state.above_priority is None)

    def _may_merge(self) -> bool:
        return not self._frozen() and self._queue.eligible(workflow.now(), self._scope())

    def _end_drain(self) -> None:
        """Nothing is left that a drain waits for: it becomes a pause. What is held stays, as it does in a pause."""
        upto = self._state.drain_upto
        if upto is None or any(entry.arrived <= upto and not self._holds(entry) for entry in self._queue.entries):
            return
        self._amend(paused=True, drain_upto=None)

    def _holds(self, entry: QueueEntry) -> bool:
        trouble = self._state.trouble(entry.request.target)
        return entry.held or bool(trouble.held) or trouble.red is not None

    def _cycle(self) -> timedelta:
        return CYCLE if self._state.facts else FIRST_CYCLE

    async def _rest(self) -> None:
        """Wait for a message, for the next try, or for the end of the cycle."""
        now = workflow.now()
        busy = bool(self._queue.entries) or self._queue.waits_in_ledger
        cycle = self._cycle() if busy and not self._frozen() else IDLE_CYCLE
        wake_at = (self._compared_at or now) + cycle
        due = self._state.next_try((entry.request.target for entry in self._queue.entries), now)
        if due is not None and not self._frozen():
            wake_at = min(wake_at, due)
        self._show()
        try:
            await workflow.wait_condition(
                lambda: self._woken or self._patience.exhausted,
                timeout=until(wake_at),
                timeout_summary=self._mood(),
            )
        except TimeoutError:
            self._compare = True

    async def _refresh(self) -> None:
        """Compare with the record when that is due; with the record unreadable the last facts hold."""
        due, self._compare = self._compare, False
        asked = tuple(entry.request.bead for entry in self._queue.entries) if due else self._queue.unasked()
        if not due and (not asked or self._frozen() or self._state.facts is None):
            return
        self._compared_at = workflow.now()
        room, known = self._queue.room, self._queue.known(workflow.now()) if due else ()
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.queue_facts,
                QueueFactsRequest(rig=self._state.rig, beads=asked, queued=room + 1 if due else 0, known=known),
                summary=f"settings of {self._state.rig}, what {len(asked)} beads need",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            workflow.logger.warning("the record of %s is unreadable: %s", self._state.rig, error.cause)
            self._queue.assume_needs()
            return
        self._follow_rig(facts.rig)
        if self._state.facts is not None and _gating(facts) != _gating(self._state.facts):
            self._state = gated_anew(self._state)
        self._amend(facts=RigFacts(rig=facts.rig, settings=facts.settings, hosts=facts.hosts))
        self._queue.learn_needs({bead: facts.open_dependencies.get(bead, ()) for bead in asked}, workflow.now())
        if due:
            self._queue.waits_in_ledger = len(facts.queued) > room
        # Only ever added: what the record does not have is on its way there.
        new = [request for request in facts.queued[:room] if self._queue.lacks(request)]
        decided = [self._queue.submit(request) for request in new]
        if new:
            self._woken = True
            self._compare = self._queue.waits_in_ledger
        await self._tell_jobs(verdict for verdict in decided if verdict is not None)

    def _follow_rig(self, rig: Rig) -> None:
        """The rig as it is now: where it is elsewhere, what waits goes there, and what is being merged is of no use."""
        known = self._state.facts
        if known is None or (known.rig.url, known.rig.branch) == (rig.url, rig.branch):
            return
        self._queue.follow(known.rig.branch, rig.branch)
        self._state = left(self._state, rig)
        self._moved = True

    async def _look_for_target(self, facts: RigFacts, outcome: MergeOutcome) -> MergeOutcome:
        """The rig's branch is gone from the remote: follow it where it was renamed, else say what is there."""
        before = facts.rig.branch
        requests = [entry.request for entry in self._queue.entries]
        bases = {base.sha for request in requests for base in request.bases if base.target == before}
        try:
            found = await workflow.execute_activity_method(
                LandingActivities.find_renamed,
                FindRenamed(rig=facts.rig, bases=tuple(sorted(bases))),
                summary=f"what has become of {before}?",
                **activity_options.errand(self._state.host or facts.hosts[0]),
            )
            if not found.branch:
                way_out = f"gt rig set {self._state.rig} --branch B"
                return outcome.model_copy(update={"stalled": f"{outcome.stalled}; {found.words} ({way_out})"})
            rig = await workflow.execute_activity_method(
                LedgerActivities.rename_branch,
                BranchRenamed(rig=self._state.rig, before=before, branch=found.branch),
                summary=f"{before} is {found.branch} now",
                **activity_options.ledger_ask(),
            )
        except ActivityError as error:
            workflow.logger.warning("what has become of %s is not known: %s", before, error.cause)
            return outcome
        if rig.branch == found.branch:
            self._state = renamed(self._state, before, found.branch, workflow.now())
        self._follow_rig(rig)
        await tell(names.dispatch_id(self._state.rig), "rig_changed", RigChanged(rig=rig))
        return MergeOutcome()

    async def _merge(self, facts: RigFacts) -> None:
        """Run one MergeWorkflow over the next batch and act on what it reports."""
        settings = facts.settings.merge_queue
        best = self._best(facts)
        target = self._queue.next_target(workflow.now(), self._scope())
        window, red = self._state.trouble(target).window, self._state.trouble(target).red
        mends = target in self._scope().resting
        whole = 0 if window or mends else whole_queue(best, settings.max_batch, settings.max_concurrent)
        limit = 1 if mends else min(best, window or best)
        changes = self._queue.take(workflow.now(), limit, self._scope(), whole=whole)
        self._amend(merges=self._state.merges + 1)
        self._show()
        batch = MergeBatch(
            rig=facts.rig,
            target=target,
            host=(host := self._state.host or facts.hosts[0]),
            more_hosts=tuple(name for name in facts.hosts if name != host),
            host_timeout_s=facts.settings.hosts.timeout,
            number=self._state.merges,
            changes=changes,
            settings=settings,
            git=facts.settings.git,
            gate=facts.settings.gate,
            worktree=facts.settings.worktree,
            sandbox=facts.settings.sandbox,
            seen=self._state.seen,
            needs=self._queue.needs_within(changes),
            red=red,
            mends=mends,
        )
        self._moved = False
        outcome = await self._follow(batch)
        if outcome.target_missing and not self._moved and target == facts.rig.branch:
            outcome = await self._look_for_target(facts, outcome)
        self._state = remember(self._state, outcome, facts, workflow.now())
        self._state = rewound(self._state, outcome.rewound, workflow.now())
        self._state = passed_by(self._state, outcome.foreign, workflow.now())
        await self._tell_jobs(self._queue.settle(outcome, workflow.now()))
        state = windowed(self._state, target, len(changes), best, stalled=bool(outcome.stalled))
        self._compare = self._compare or self._queue.waits_in_ledger
        troubled = self._queue.troubled(target)
        self._state = weighed(state, target, outcome, settings, troubled=troubled, now=workflow.now())

    async def _follow(self, batch: MergeBatch) -> MergeOutcome:
        """Run the merge, and meanwhile tell the Mayor what comes up.

        It ends when one of its changes is wanted back, or when the rig is elsewhere.
        """
        merging = asyncio.create_task(run_merge(batch, leave=lambda: self._queue.disturbed or self._moved))
        while not merging.done():
            await workflow.wait_condition(lambda: merging.done() or bool(self._state.letters))
            await self._post()
        return merging.result()

    async def _find_out(self) -> None:
        """Look whether what was wanted back in the middle of its landing is on its target."""
        facts, unsure = self._state.facts, self._queue.unsure
        if facts is None or not facts.hosts:
            return
        for target in sorted({request.target for request in unsure}):
            asked = tuple(request for request in unsure if request.target == target)
            seen = await self._look_at(facts, target, asked)
            if not seen.base_sha:
                continue
            landed = {drop.merge_request: drop.sha for drop in seen.dropped if drop.kind is DropKind.LANDED}
            for request in asked:
                sha = landed.get(request.id)
                await self._tell_jobs(self._queue.found_out(request.id, sha, workflow.now()))

    async def _look_at_red_targets(self) -> None:
        """Go on at once where a red target has moved: somebody may have mended it."""
        facts, now = self._state.facts, workflow.now()
        if facts is None or not facts.hosts or self._frozen():
            return
        wanted = {entry.request.target for entry in self._queue.entries if not entry.held}
        for target in sorted(wanted & set(self._state.red)):
            trouble = self._state.trouble(target)
            if trouble.look_at is None or trouble.look_at > now or trouble.retry_at is None:
                continue
            seen = await self._look_at(facts, target)
            self._state = looked(self._state, target, seen.base_sha, workflow.now())
            self._state = rewound(self._state, seen.rewound, workflow.now())
            self._state = passed_by(self._state, seen.foreign, workflow.now())

    async def _look_at(self, facts: RigFacts, target: str, changes: tuple[MergeRequest, ...] = ()) -> Chain:
        """A chain that nobody gates: where the target stands, and what it holds; nowhere where that cannot be seen."""
        try:
            return await workflow.execute_activity_method(
                LandingActivities.build_chain,
                BuildChain(rig=facts.rig, target=target, changes=changes),
                summary=f"where {target} stands",
                **activity_options.errand(self._state.host or facts.hosts[0]),
            )
        except ActivityError as error:
            workflow.logger.warning("%s cannot be looked at: %s", target, error.cause)
            return Chain(base_sha="")

    def _best(self, facts: RigFacts) -> int:
        settings = facts.settings.merge_queue
        rate = failure_rate(self._state.seen.changes)
        return batch_size(rate, settings.min_batch, settings.max_batch, settings.max_concurrent)

    async def _post(self) -> None:
        """Tell the Mayor what has begun and what is over, in that order."""
        while self._state.letters:
            letter = self._state.letters[0]
            if letter.escalation is not None:
                await tell_mayor(letter.escalation)
            if letter.cleared is not None:
                await tell_mayor_cleared(letter.cleared.id, letter.cleared.reason)
            self._amend(letters=self._state.letters[1:])

    async def _tell_jobs(self, verdicts: Iterable[Verdict]) -> None:
        """All at once: told one after the other a batch costs a round trip for each change."""
        rig = self._state.rig
        await asyncio.gather(*(tell(names.polecat_id(rig, told.bead), "verdict", told) for told in verdicts))

    # --- state and what people see ------------------------------------------------------------

    def _amend(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _carried(self) -> RefineryState:
        queue = self._queue
        held = {
            "entries": queue.entries,
            "decided": queue.decided,
            "arrivals": queue.arrivals,
            "waits_in_ledger": queue.waits_in_ledger,
            "cleared_upto": queue.cleared_upto,
        }
        return self._state.model_copy(update=held)

    def _mood(self) -> str:
        if self._state.stopped:
            return "stopped"
        if self._state.paused:
            return "paused"
        if self._state.drain_upto is not None:
            return "draining"
        if self._state.red and self._queue.entries:
            return TARGET_RED
        if any(trouble.retry_at for trouble in self._state.troubles.values()):
            return "retrying"
        return "waiting" if self._queue.entries else "idle"

    def _show(self) -> None:
        status = self.status()
        self._labels.show(role="refinery", state=status.state, rig=self._state.rig)
        workflow.set_current_details(views.shown(status))


def _gating(facts: RigFacts) -> tuple[tuple[GateSpec, ...], GateSettings, WorktreeSettings, SandboxSettings]:
    """What decides how a commit is gated."""
    settings = facts.settings
    return facts.rig.gates, settings.gate, settings.worktree, settings.sandbox
