"""The Refinery's queue as a value: who waits, who is being merged, what was decided."""

from __future__ import annotations

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.base import Frozen
    from models.gating import Seen
    from models.jobs import RigFacts, Verdict, VerdictKind
    from models.merging import MergeOutcome, QueueItem, QueueItemState
    from models.records import MergeRequest
    from policies.queue_order import Candidate, order

REMEMBERED = 1000
"""verdicts that are kept to be told again"""
REMEMBERED_DETAIL = 250_000
"""characters of log tails kept with them: the whole state must stay below 2 MB"""
CLEARED = "the merge queue was cleared; the branch is kept"


class QueueEntry(Frozen):
    """One merge request in the queue."""

    request: MergeRequest
    merging: bool = False
    held: bool = False
    now: bool = False
    """a person asked for it to go before others"""
    withdrawn: bool = False
    """taken back while it was being merged: leaves when that decides nothing"""
    cleared: bool = False
    """cleared while it was being merged: goes back to its job when that decides nothing"""
    attempts: int = 0
    """merges it took part in"""
    setbacks: int = 0
    """those of them that could not finish"""
    stalled_alone: int = 0
    """those of them that stalled with nothing else in them"""
    reason: str = ""

    @property
    def state(self) -> QueueItemState:
        if self.merging:
            return QueueItemState.MERGING
        if self.held:
            return QueueItemState.HELD
        return QueueItemState.RETRYING if self.reason else QueueItemState.WAITING


class Decided(Frozen):
    verdict: Verdict
    submitted_at: datetime


class RefineryState(Frozen):
    """All that a Refinery carries from run to run. A bare `{"rig": …}` is a fresh one."""

    rig: str
    facts: RigFacts | None = None
    host: str | None = None
    """merges here instead of on the rig's first host"""
    entries: tuple[QueueEntry, ...] = ()
    decided: tuple[Decided, ...] = ()
    """oldest first"""
    merges: int = 0
    seen: Seen = Seen()
    paused: bool = False
    pause_reason: str = ""
    broken: int = 0
    """merges in a row whose gates could not run"""
    stalls: int = 0
    """merges in a row that stalled"""
    told: bool = False
    """the Mayor knows that merges stall"""
    window: int = 0
    """the largest batch after a stall, which halves it; merges that go well double it; 0 = any"""
    retry_at: datetime | None = None
    patience: int = 1000
    """messages after which a run hands over"""


class MergeQueue:
    """Every change to the queue, each one harmless when it is told twice."""

    def __init__(self, entries: tuple[QueueEntry, ...] = (), decided: tuple[Decided, ...] = ()) -> None:
        # A run begins with no merge under way: what its predecessor was merging when it was restarted waits again.
        self._entries = {entry.request.id: entry.model_copy(update={"merging": False}) for entry in entries}
        self._decided = {entry.verdict.merge_request: entry for entry in decided}

    @property
    def entries(self) -> tuple[QueueEntry, ...]:
        return tuple(self._entries.values())

    @property
    def decided(self) -> tuple[Decided, ...]:
        return tuple(self._decided.values())

    def __contains__(self, merge_request: str) -> bool:
        return merge_request in self._entries

    def submit(self, request: MergeRequest) -> Verdict | None:
        """Queue a request, once.

        Returns:
            The verdict, when the request was decided already and its job may not have heard.
        """
        known = self._decided.get(request.id)
        if known is not None and not _again(known, request):
            return known.verdict
        if request.id in self._entries:
            self._change(request.id, withdrawn=False)
            return None
        rivals = [entry for entry in self._entries.values() if entry.request.bead == request.bead]
        if any(entry.request.attempt > request.attempt for entry in rivals):
            return None
        for entry in rivals:
            self.withdraw(entry.request.id)
        self._decided.pop(request.id, None)
        self._entries[request.id] = QueueEntry(request=request)
        return None

    def withdraw(self, merge_request: str) -> None:
        """Take a request out; one that is being merged leaves only if that decides nothing."""
        entry = self._entries.get(merge_request)
        if entry is None:
            return
        if entry.merging:
            self._change(merge_request, withdrawn=True)
        else:
            del self._entries[merge_request]

    def process(self, merge_request: str) -> None:
        """Before all others, and no longer held."""
        self._change(merge_request, now=True, held=False, reason="")

    def skip(self, merge_request: str) -> None:
        """Hold it until `process`."""
        self._change(merge_request, now=False, held=True)

    def clear(self) -> tuple[Verdict, ...]:
        """Return every request to its job; what is being merged follows if that decides nothing."""
        returned: list[Verdict] = []
        for entry in self.entries:
            if entry.merging:
                self._change(entry.request.id, cleared=True)
            else:
                returned += self.decide(_returned(entry.request))
        return tuple(returned)

    def take(self, now: datetime, limit: int) -> tuple[MergeRequest, ...]:
        """The next batch, at most `limit` changes for one target; they are being merged from here on."""
        ranked = [self._entries[item] for item in self._order(now)]
        head = ranked[0]
        alike = [entry for entry in ranked if entry.request.target == head.request.target and not entry.stalled_alone]
        batch = [entry.request for entry in ([head] if head.stalled_alone else alike)][:limit]
        for request in batch:
            self._change(request.id, merging=True, attempts=self._entries[request.id].attempts + 1)
        return tuple(batch)

    def settle(self, outcome: MergeOutcome) -> tuple[Verdict, ...]:
        """End a merge: decided changes leave, the others wait again.

        Returns:
            The verdicts that jobs must hear.
        """
        verdicts = [told for verdict in outcome.verdicts for told in self.decide(verdict)]
        trouble = outcome.could_not_run or outcome.stalled
        merging = [entry for entry in self.entries if entry.merging]
        alone = bool(outcome.stalled) and len(merging) + len(outcome.verdicts) == 1
        for entry in merging:
            if entry.withdrawn:
                del self._entries[entry.request.id]
            elif entry.cleared:
                verdicts += self.decide(_returned(entry.request))
            else:
                setbacks = entry.setbacks + 1 if trouble else entry.setbacks
                self._change(
                    entry.request.id,
                    merging=False,
                    setbacks=setbacks,
                    stalled_alone=entry.stalled_alone + alone,
                    reason=trouble,
                )
        return tuple(verdicts)

    def decide(self, verdict: Verdict) -> tuple[Verdict, ...]:
        """Remember a verdict and drop its request.

        A bead merges once: a later request of a bead that has just been merged is answered with
        the same commit instead of landing the bead again.
        """
        entry = self._entries.pop(verdict.merge_request, None)
        if entry is None:
            return ()
        self._remember(Decided(verdict=verdict, submitted_at=entry.request.submitted_at))
        told = [verdict]
        if verdict.kind is VerdictKind.MERGED:
            for later in [item.request for item in self.entries if item.request.bead == verdict.bead]:
                same = verdict.model_copy(update={"merge_request": later.id, "attempt": later.attempt})
                told += self.decide(same)
        return tuple(told)

    def forgive(self) -> None:
        """A person resumed the queue: what is being retried counts as waiting."""
        for entry in self.entries:
            self._change(entry.request.id, reason="", setbacks=0, stalled_alone=0)

    def troubled(self) -> bool:
        """Something waits that stalled alone."""
        return any(entry.stalled_alone for entry in self._entries.values())

    def eligible(self) -> bool:
        """Something waits that may be merged."""
        return any(not entry.held and not entry.merging for entry in self._entries.values())

    def item(self, merge_request: str, now: datetime) -> QueueItem:
        """One row of `listing`."""
        return next(item for item in self.listing(now) if item.id == merge_request)

    def listing(self, now: datetime) -> tuple[QueueItem, ...]:
        """The rows that people see: what is being merged, then the order of the rest, then what is held."""
        merging = [entry for entry in self.entries if entry.merging]
        waiting = [self._entries[item] for item in self._order(now)]
        held = [entry for entry in self.entries if entry.held and not entry.merging]
        return tuple(_row(entry, place, now) for place, entry in enumerate([*merging, *waiting, *held], start=1))

    def _order(self, now: datetime) -> tuple[str, ...]:
        candidates = tuple(
            Candidate(
                id=entry.request.id,
                priority=entry.request.priority,
                submitted_at=entry.request.submitted_at,
                setbacks=entry.setbacks,
                stalled_alone=entry.stalled_alone,
                now=entry.now,
            )
            for entry in self._entries.values()
            if not entry.held and not entry.merging
        )
        return order(candidates, now)

    def _change(self, merge_request: str, **changes: object) -> None:
        self._entries[merge_request] = self._entries[merge_request].model_copy(update=changes)

    def _remember(self, decided: Decided) -> None:
        self._decided[decided.verdict.merge_request] = decided
        while len(self._decided) > REMEMBERED:
            del self._decided[next(iter(self._decided))]
        room = REMEMBERED_DETAIL
        for name, kept in reversed(list(self._decided.items())):
            room -= len(kept.verdict.detail) + sum(map(len, kept.verdict.files))
            if room < 0 and (kept.verdict.detail or kept.verdict.files):
                bare = kept.verdict.model_copy(update={"detail": "", "files": ()})
                self._decided[name] = kept.model_copy(update={"verdict": bare})


def _again(known: Decided, request: MergeRequest) -> bool:
    """A request that went back to its job may be submitted anew; what was judged stays judged."""
    return known.verdict.kind is VerdictKind.RETURNED and request.submitted_at > known.submitted_at


def _returned(request: MergeRequest) -> Verdict:
    return Verdict(
        merge_request=request.id,
        bead=request.bead,
        attempt=request.attempt,
        kind=VerdictKind.RETURNED,
        detail=CLEARED,
    )


def _row(entry: QueueEntry, place: int, now: datetime) -> QueueItem:
    return QueueItem(
        id=entry.request.id,
        bead=entry.request.bead,
        polecat=entry.request.polecat,
        state=entry.state,
        position=place,
        attempts=entry.attempts,
        waiting_s=max((now - entry.request.submitted_at).total_seconds(), 0.0),
        reason=entry.reason,
    )
