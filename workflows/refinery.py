"""The Refinery: a rig's merge queue. It merges batch after batch and tells each job what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.ledger import LedgerActivities
    from activities.town import TownActivities
    from models import names
    from models.errors import ErrorCode, Level
    from models.escalations import Escalation
    from models.jobs import RigFacts, RigName, Verdict
    from models.merging import (
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
    from models.names import WorkflowType
    from models.records import MergeRequest
    from policies.merge_rates import after_merge, failure_rate
    from policies.merge_search import batch_size
    from workflows import options
    from workflows.labels import Labels, attributes, details

from workflows.merge import MergeWorkflow
from workflows.merge_queue import MergeQueue, RefineryState
from workflows.messages import tell
from workflows.patience import Patience

CYCLE = timedelta(seconds=60)
"""how old the rig's facts may be when a merge starts, and how often a busy queue looks around"""
FIRST_CYCLE = timedelta(seconds=15)
"""between tries to read the facts for the first time"""
IDLE_CYCLE = timedelta(minutes=10)
STALLED_CYCLE = timedelta(minutes=10)
"""between tries once a person was called"""


@workflow.defn(name=WorkflowType.REFINERY)
class RefineryWorkflow:
    """One per rig, for ever. All of its state is in RefineryState."""

    @workflow.init
    def __init__(self, state: RefineryState) -> None:
        self._state = state
        self._queue = MergeQueue(state.entries, state.decided)
        self._patience = Patience(state.patience)
        self._labels = Labels()
        self._woken = False
        self._facts_at: datetime | None = None

    @workflow.run
    async def run(self, state: RefineryState) -> None:
        """Merge what waits, or wait for it; hand over to a fresh run between merges."""
        while not self._patience.exhausted:
            self._woken = False
            await self._refresh()
            if self._may_merge() and self._state.facts and self._state.facts.hosts:
                await self._merge(self._state.facts)
            else:
                await self._rest()
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._carried())

    # --- messages -----------------------------------------------------------------------------

    @workflow.signal(description="Queue a change; telling it twice is one. Answered by `verdict` to its job")
    async def submit(self, request: MergeRequest) -> None:
        self._wake()
        known = self._queue.submit(request)
        if known is not None:
            await self._tell_job(known)

    @workflow.signal(description="A job takes its change back")
    def withdraw(self, withdraw: Withdraw) -> None:
        self._wake()
        self._queue.withdraw(withdraw.merge_request)

    @workflow.signal(description="The running merge has decided something; the rest follows when it ends")
    async def progress(self, progress: MergeProgress) -> None:
        self._wake()
        await self._decide(progress.verdicts)

    @workflow.signal(description="Settings or the rig changed: read them anew")
    def settings_changed(self) -> None:
        self._wake()
        self._facts_at = None

    @workflow.update(description="Start no further merge until `resume`")
    def pause(self, request: PauseRequest) -> QueueStatus:
        self._wake()
        self._amend(paused=True, pause_reason=request.reason or f"paused by {request.by or 'a person'}")
        return self.queue()

    @workflow.update(description="Merge again, and forget earlier trouble")
    def resume(self) -> QueueStatus:
        self._wake()
        self._queue.forgive()
        self._amend(paused=False, pause_reason="", window=0)
        self._calm()
        return self.queue()

    @workflow.update(description="Merge this item before all others; also releases a held one")
    def process(self, item: QueueItemRef) -> QueueItem:
        self._wake()
        self._queue.process(item.id)
        return self._queue.item(item.id, workflow.now())

    @process.validator
    def _can_process(self, item: QueueItemRef) -> None:
        self._known(item)

    @workflow.update(description="Hold this item until `process`")
    def skip(self, item: QueueItemRef) -> QueueItem:
        self._wake()
        self._queue.skip(item.id)
        return self._queue.item(item.id, workflow.now())

    @skip.validator
    def _can_skip(self, item: QueueItemRef) -> None:
        self._known(item)

    @workflow.update(description="Return every item to its job")
    async def clear(self) -> QueueCleared:
        self._wake()
        returned = self._queue.clear()
        for verdict in returned:
            await self._tell_job(verdict)
        return QueueCleared(returned=tuple(verdict.merge_request for verdict in returned))

    @workflow.query(description="The queue, in the order in which it will be merged")
    def queue(self) -> QueueStatus:
        facts = self._state.facts
        return QueueStatus(
            rig=self._state.rig,
            target=facts.rig.branch if facts else "",
            paused=self._state.paused,
            pause_reason=self._state.pause_reason,
            ungated=bool(facts and not facts.rig.gates),
            items=self._queue.listing(workflow.now()),
        )

    @workflow.query(description="What a fresh run would go on from")
    def state(self) -> RefineryState:
        return self._carried()

    def _known(self, item: QueueItemRef) -> None:
        if item.id not in self._queue:
            raise ApplicationError(
                f"{item.id} is not in the merge queue of {self._state.rig}",
                Level.L1.value,
                f"gt refinery queue --rig {self._state.rig}",
                type=ErrorCode.NOT_FOUND.value,
                non_retryable=True,
            )

    def _wake(self) -> None:
        self._patience.count()
        self._woken = True

    # --- the loop -----------------------------------------------------------------------------

    def _may_merge(self) -> bool:
        due = self._state.retry_at is None or self._state.retry_at <= workflow.now()
        return not self._state.paused and due and self._queue.eligible()

    def _cycle(self) -> timedelta:
        return CYCLE if self._state.facts else FIRST_CYCLE

    async def _rest(self) -> None:
        """Wait for a message, for the next try, or for the end of the cycle."""
        cycle = self._cycle() if self._queue.entries and not self._state.paused else IDLE_CYCLE
        retry_at = self._state.retry_at
        if retry_at and not self._state.paused and workflow.now() < retry_at:
            cycle = min(cycle, retry_at - workflow.now())
        self._show()
        try:
            await workflow.wait_condition(
                lambda: self._woken or self._patience.exhausted, timeout=cycle, timeout_summary=self._mood()
            )
        except TimeoutError:
            return

    async def _refresh(self) -> None:
        """Read the rig's facts when they are due; with the record unreadable the last ones hold."""
        now = workflow.now()
        if self._facts_at is not None and now < self._facts_at + self._cycle():
            return
        self._facts_at = now
        try:
            facts = await workflow.execute_activity_method(
                LedgerActivities.load_rig,
                RigName(rig=self._state.rig),
                summary=f"settings of {self._state.rig}",
                **options.ledger_ask(),
            )
        except ActivityError as error:
            workflow.logger.warning("the record of %s is unreadable: %s", self._state.rig, error.cause)
            return
        self._amend(facts=facts)

    async def _merge(self, facts: RigFacts) -> None:
        """Run one MergeWorkflow over the next batch and act on what it reports."""
        settings = facts.settings.merge_queue
        rate = failure_rate(self._state.seen.changes)
        best = batch_size(rate, settings.min_batch, settings.max_batch, settings.max_concurrent)
        changes = self._queue.take(workflow.now(), min(best, self._state.window or best))
        self._amend(merges=self._state.merges + 1)
        self._show()
        number = self._state.merges
        batch = MergeBatch(
            rig=facts.rig,
            target=changes[0].target,
            host=self._state.host or facts.hosts[0],
            number=number,
            changes=changes,
            settings=settings,
            seen=self._state.seen,
        )
        try:
            outcome = await workflow.execute_child_workflow(
                MergeWorkflow.run,
                batch,
                id=names.merge_id(self._state.rig, number),
                static_summary=f"{len(changes)} changes to {batch.target}: {', '.join(c.bead for c in changes[:5])}",
                search_attributes=attributes(role="merge", state="merging", rig=self._state.rig),
            )
        except WorkflowAlreadyStartedError:
            # A Refinery that was reset counts from 1 again while the last merge of the old one runs on.
            outcome = MergeOutcome(stalled=f"{names.merge_id(self._state.rig, number)} of an earlier Refinery runs")
        except ChildWorkflowError as error:
            outcome = MergeOutcome(stalled=str(error.cause or error))
        if not (outcome.verdicts or outcome.could_not_run or outcome.stalled):
            # Without this a merge that decides nothing would be started again at once, for ever.
            outcome = MergeOutcome(stalled="the merge decided nothing")
        seen = after_merge(
            self._state.seen,
            landed=outcome.landed,
            failed=outcome.blamed,
            tallies=outcome.tallies,
            commits=outcome.commits,
            gates=facts.rig.gates,
            now=workflow.now(),
        )
        self._amend(seen=seen)
        for verdict in self._queue.settle(outcome):
            await self._tell_job(verdict)
        # A stall halves the next batch, so that one change that troubles the remote is soon alone.
        size = len(changes)
        window = max(size // 2, 1) if outcome.stalled else self._state.window * 2
        self._amend(window=window if window < best else 0)
        await self._weigh(outcome, facts)

    async def _weigh(self, outcome: MergeOutcome, facts: RigFacts) -> None:
        """Decide when to merge again, and whether a person must know."""
        settings = facts.settings.merge_queue
        retry_at = workflow.now() + timedelta(seconds=settings.retry_delay)
        if outcome.verdicts:
            self._calm()
        if outcome.could_not_run:
            self._amend(broken=self._state.broken + 1, retry_at=retry_at)
            if self._state.broken > settings.retry_count:
                self._amend(paused=True, pause_reason=f"gates could not run: {outcome.could_not_run}")
                await self._tell_mayor("gate_broken", outcome.could_not_run, "gt refinery resume")
                self._calm()
        elif outcome.stalled:
            self._amend(stalls=self._state.stalls + 1, retry_at=retry_at)
            if self._state.stalls > settings.retry_count:
                if not self._state.told:
                    await self._tell_mayor("refinery_stalled", outcome.stalled, "gt refinery queue")
                self._amend(told=True, retry_at=workflow.now() + STALLED_CYCLE)

    async def _decide(self, verdicts: tuple[Verdict, ...]) -> None:
        """Take verdicts in and tell their jobs; those that are known already change nothing."""
        for verdict in verdicts:
            for told in self._queue.decide(verdict):
                await self._tell_job(told)

    def _calm(self) -> None:
        """No trouble is counted any more; the Mayor need not hear again of what still stalls by itself."""
        self._amend(broken=0, stalls=0, told=self._state.told and self._queue.troubled(), retry_at=None)

    async def _tell_job(self, verdict: Verdict) -> None:
        await tell(names.polecat_id(self._state.rig, verdict.bead), "verdict", verdict)

    async def _tell_mayor(self, kind: str, message: str, command: str) -> None:
        tried = f"{self._state.merges} merges; the last ones in a row ended so"
        escalation = Escalation(
            id=f"{kind}/{self._state.rig}/{self._state.merges}",
            kind=kind,
            level=Level.L3.value,
            source=workflow.info().workflow_id,
            rig=self._state.rig,
            message=f"{message} ({command} --rig {self._state.rig})",
            tried=tried,
            opened_at=workflow.now(),
        )
        await workflow.execute_activity_method(
            TownActivities.tell_mayor, escalation, summary=f"{kind}: {message}"[:200], **options.control()
        )

    # --- state and what people see ------------------------------------------------------------

    def _amend(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _carried(self) -> RefineryState:
        return self._state.model_copy(update={"entries": self._queue.entries, "decided": self._queue.decided})

    def _mood(self) -> str:
        if self._state.paused:
            return "paused"
        if self._state.retry_at is not None:
            return "retrying"
        return "waiting" if self._queue.entries else "idle"

    def _show(self) -> None:
        status = self.queue()
        merging = [item.bead for item in status.items if item.state == "merging"]
        state = "merging" if merging else self._mood()
        self._labels.show(role="refinery", state=state, rig=self._state.rig)
        rows: dict[str, str | int | None] = {
            "state": state,
            "why": self._state.pause_reason,
            "target": status.target,
            "gates": "none: changes land ungated" if status.ungated else None,
            "merging": ", ".join(merging),
            "waiting": len(status.items) - len(merging),
            "merges": self._state.merges,
        }
        command = "resume" if self._state.paused else "queue"
        workflow.set_current_details(
            details(f"Refinery of {self._state.rig}", rows, f"gt refinery {command} --rig {self._state.rig}")
        )
