"""The Refinery's queue as a value: who waits, who is being merged, what was decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.job.messages import Verdict, VerdictKind
    from models.ledger.records import MergeRequest
    from models.refinery.messages import MergeOutcome, TargetRed, Withdraw
    from policies.dispatch.room import CHANGES_BYTES, REASON_LENGTH, USUAL_CHANGE, change_bytes, has_room, room_for
    from policies.refinery.queue_order import Candidate, joinable, order

from workflows.refinery.state import Decided, QueueEntry

REMEMBERED = 1000
"""verdicts that are kept to be told again"""
REMEMBERED_DETAIL = 250_000
"""characters of log tails kept with them: the whole state must stay below 2 MB"""
RECORD_LAGS = timedelta(minutes=10)
"""for so long what was merged here counts although the record does not have it yet"""
CLEARED = "the merge queue was cleared; the branch is kept"
WITHDRAWN = "taken back by its job"
UNSURE = "its landing was under way when it was wanted back: it is being found out whether it landed"


class Scope(NamedTuple):
    """Which entries may be merged at all."""

    above_priority: int | None = None
    """only those more urgent than this"""
    arrived_upto: int | None = None
    """only those that arrived no later than this"""
    resting: frozenset[str] = frozenset()
    """only those for other targets than these"""
    red: Mapping[str, TargetRed] = MappingProxyType({})
    """of a resting target that is red itself only what a person asked for, and what was not tried there"""

    def covers(self, entry: QueueEntry) -> bool:
        if entry.request.target in self.resting and not self.mends(entry):
            return False
        urgent = self.above_priority is None or entry.request.priority < self.above_priority
        return urgent and (self.arrived_upto is None or entry.arrived <= self.arrived_upto)

    def mends(self, entry: QueueEntry) -> bool:
        """It may be what mends its target: a person asked for it, and it was not tried on the same red tip."""
        red = self.red.get(entry.request.target)
        return red is not None and entry.now and not entry.needs and entry.tried_on != red.sha


EVERYTHING = Scope()


class MergeQueue:
    """Every change to the queue, each one harmless when it is told twice."""

    def __init__(
        self,
        entries: tuple[QueueEntry, ...] = (),
        decided: tuple[Decided, ...] = (),
        arrivals: int = 0,
        capacity: int = CHANGES_BYTES,
    ) -> None:
        # No merge of a queue that begins here is running: a Refinery that was restarted took its own along.
        self._entries = {
            entry.request.id: entry.model_copy(
                update={"merging": False, "unsure": entry.unsure or (entry.merging and entry.wanted_back)}
            )
            for entry in entries
        }
        self._decided = {entry.verdict.merge_request: entry for entry in decided}
        self.arrivals = arrivals
        self._capacity = capacity
        self.waits_in_ledger = False
        """a request came for which there was no room"""
        self.cleared_upto: datetime | None = None
        """what waited in the ledger when the queue was cleared, submitted until then, is returned as it comes in"""

    @property
    def entries(self) -> tuple[QueueEntry, ...]:
        return tuple(self._entries.values())

    @property
    def decided(self) -> tuple[Decided, ...]:
        return tuple(self._decided.values())

    def __contains__(self, merge_request: str) -> bool:
        return merge_request in self._entries

    def entry_of(self, item: str) -> QueueEntry | None:
        """The entry of a request, named by its id or by its bead's."""
        return next((entry for entry in self._entries.values() if item in {entry.request.id, entry.request.bead}), None)

    def decision_on(self, item: str) -> Decided | None:
        """The latest decision about a request, named by its id or by its bead's."""
        decided = reversed(self._decided.values())
        return next((each for each in decided if item in {each.verdict.merge_request, each.verdict.bead}), None)

    # --- coming and going ---------------------------------------------------------------------

    def submit(self, request: MergeRequest) -> Verdict | None:
        """Queue a request, once. One that there is no room for waits in the ledger.

        Returns:
            The verdict, when the request was decided already and its job may not have heard, or is decided by that.
        """
        known = self._decided.get(request.id)
        if known is not None and not _again(known, request):
            return known.verdict
        if request.id in self._entries:
            known_as = self._entries[request.id].request
            # The ledger, where it may have come from, has no bases.
            moved = known_as.model_copy(
                update={
                    "target": request.target,
                    "pinned": request.pinned,
                    "bases": request.bases or known_as.bases,
                }
            )
            self._change(request.id, withdrawn=False, request=moved)
            return None
        rivals = [entry for entry in self._entries.values() if entry.request.bead == request.bead]
        if any(entry.request.attempt > request.attempt for entry in rivals):
            return None
        if not rivals and self.cleared_upto is not None and request.submitted_at <= self.cleared_upto:
            returned = _returned(request, CLEARED)
            self._remember(Decided(verdict=returned, submitted_at=request.submitted_at, at=self.cleared_upto))
            return returned
        if not rivals and not has_room(self._sizes(), change_bytes(request), self._capacity):
            self.waits_in_ledger = True
            return None
        for entry in rivals:
            self._take_out(entry)
        self._decided.pop(request.id, None)
        self.arrivals += 1
        self._entries[request.id] = QueueEntry(request=request, arrived=self.arrivals)
        return None

    @property
    def room(self) -> int:
        """How many requests come in from the ledger now."""
        sizes = list(self._sizes())
        return room_for(sizes, max(sizes, default=USUAL_CHANGE), self._capacity)

    def known(self, now: datetime) -> tuple[str, ...]:
        """Ids of requests that the ledger need not tell of: what is here, and what it may not know as decided yet."""
        decided = self._decided.items() if self.waits_in_ledger else ()
        lately = (item for item, each in decided if each.at is not None and now - each.at < RECORD_LAGS)
        return (*self._entries, *lately)

    def _sizes(self) -> Iterator[int]:
        return (change_bytes(entry.request) for entry in self._entries.values())

    def lacks(self, request: MergeRequest) -> bool:
        """Neither this request of its bead nor a newer one is here or was decided."""
        here = [entry.request.attempt for entry in self._entries.values() if entry.request.bead == request.bead]
        decided = [each.verdict.attempt for each in self._decided.values() if each.verdict.bead == request.bead]
        return all(attempt < request.attempt for attempt in (*here, *decided))

    def follow(self, before: str, branch: str) -> None:
        """The rig's branch is another one: what names no target of its own waits for that."""
        for entry in self.entries:
            if entry.request.target == before and not entry.request.pinned:
                self._change(entry.request.id, request=entry.request.model_copy(update={"target": branch}), reason="")

    def withdraw(self, withdraw: Withdraw, now: datetime) -> tuple[Verdict, ...]:
        """Take a request out; one that is being merged leaves only if that decides nothing.

        Returns:
            What its job must hear: also where the request is not here any more, or never was.
        """
        entry = self._entries.get(withdraw.merge_request)
        if entry is not None and (entry.merging or entry.unsure):
            self._change(withdraw.merge_request, withdrawn=True)
            return ()
        if entry is not None:
            return self.decide(_returned(entry.request, WITHDRAWN), now)
        known = self._decided.get(withdraw.merge_request)
        if known is not None:
            return (known.verdict,)
        if not withdraw.bead:
            return ()
        returned = Verdict(
            merge_request=withdraw.merge_request,
            bead=withdraw.bead,
            attempt=withdraw.attempt,
            kind=VerdictKind.RETURNED,
            detail=WITHDRAWN,
        )
        # It may wait in the ledger, which may be read before that has heard of it.
        self._remember(Decided(verdict=returned, submitted_at=now, at=now))
        return (returned,)

    def _take_out(self, entry: QueueEntry) -> None:
        """A newer request of its bead has come: nobody waits to hear of this one."""
        if entry.merging or entry.unsure:
            self._change(entry.request.id, withdrawn=True)
        else:
            del self._entries[entry.request.id]

    # --- orders of people ---------------------------------------------------------------------

    def process(self, merge_request: str) -> None:
        """Before all others, and no longer held."""
        self._change(merge_request, now=True, held=False, reason="", tried_on="")

    def skip(self, merge_request: str) -> None:
        """Hold it until `process`."""
        self._change(merge_request, now=False, held=True)

    def retry(self, merge_request: str, *, front: bool) -> str:
        """As if no merge with it had ever stalled; released where it is held. Its target."""
        entry = self._entries[merge_request]
        self._change(merge_request, reason="", setbacks=0, stalled_alone=0, held=False, now=entry.now or front)
        return entry.request.target

    def clear(self, now: datetime) -> tuple[Verdict, ...]:
        """Return every request to its job; what is being merged follows if that decides nothing, and what waits in the
        ledger when it comes in."""
        if self.waits_in_ledger:
            self.cleared_upto = now
        returned: list[Verdict] = []
        for entry in self.entries:
            if entry.merging or entry.unsure:
                self._change(entry.request.id, cleared=True)
            else:
                returned += self.decide(_returned(entry.request, CLEARED), now)
        return tuple(returned)

    def forgive(self) -> None:
        """A person resumed the queue: what is being retried counts as waiting."""
        for entry in self.entries:
            self._change(entry.request.id, reason="", setbacks=0, stalled_alone=0)

    # --- what the record says -----------------------------------------------------------------

    def unasked(self) -> tuple[str, ...]:
        """Beads of which it is not known what they need."""
        return tuple(entry.request.bead for entry in self._entries.values() if entry.needs is None)

    def learn_needs(self, needs: Mapping[str, tuple[str, ...]], now: datetime) -> None:
        """What the record says that beads still need; it may lag behind what was merged here just now."""
        merged = {
            each.verdict.bead
            for each in self._decided.values()
            if each.verdict.kind is VerdictKind.MERGED and each.at is not None and now - each.at < RECORD_LAGS
        }
        for entry in self.entries:
            if entry.request.bead in needs:
                missing = tuple(bead for bead in needs[entry.request.bead] if bead not in merged)
                self._change(entry.request.id, needs=missing)

    def assume_needs(self) -> None:
        """Of what the record could not be asked about: the dispatcher let it start, so it needs nothing."""
        for entry in self.entries:
            if entry.needs is None:
                self._change(entry.request.id, needs=())

    # --- merging ------------------------------------------------------------------------------

    def with_menders(self, resting: frozenset[str], red: Mapping[str, TargetRed]) -> frozenset[str]:
        """The resting targets, and those that are red and have something to be tried that may mend them."""
        scope = Scope(red=red)
        return resting | {entry.request.target for entry in self.entries if not entry.held and scope.mends(entry)}

    def eligible(self, now: datetime, scope: Scope = EVERYTHING) -> bool:
        """Something waits that may be merged."""
        return bool(self._next(now, 1, scope))

    def next_target(self, now: datetime, scope: Scope = EVERYTHING) -> str:
        """The target of the next batch. Only while something is eligible."""
        return self._entries[self._next(now, 1, scope)[0]].request.target

    def take(self, now: datetime, limit: int, scope: Scope = EVERYTHING, *, whole: int = 0) -> tuple[MergeRequest, ...]:
        """The next batch, for one target: `limit` changes, or all where no more than `whole` can be merged.

        They are being merged from here on.
        """
        found = self._next(now, max(limit, whole + 1), scope)
        batch = tuple(self._entries[item].request for item in (found if len(found) <= whole else found[:limit]))
        for request in batch:
            self._change(request.id, merging=True, attempts=self._entries[request.id].attempts + 1)
        return batch

    def needs_within(self, batch: tuple[MergeRequest, ...]) -> dict[str, tuple[str, ...]]:
        """By bead, what has to be merged before it; the batch holds it."""
        needs = {request.bead: self._entries[request.id].needs for request in batch}
        return {bead: missing for bead, missing in needs.items() if missing}

    def settle(self, outcome: MergeOutcome, now: datetime) -> tuple[Verdict, ...]:
        """End a merge: decided changes leave, the others wait again.

        Returns:
            The verdicts that jobs must hear.
        """
        verdicts = [told for verdict in outcome.verdicts for told in self.decide(verdict, now)]
        trouble = (outcome.could_not_run or outcome.stalled)[:REASON_LENGTH]
        red, merging = outcome.target_red, [entry for entry in self.entries if entry.merging]
        asked = red is not None and all(entry.now for entry in merging)
        alone = bool(outcome.stalled) and len(merging) + len(outcome.verdicts) == 1
        for entry in merging:
            if entry.wanted_back and entry.request.id in outcome.unsure:
                self._change(entry.request.id, merging=False, unsure=True, reason=UNSURE)
            elif entry.withdrawn or entry.cleared:
                detail = WITHDRAWN if entry.withdrawn else CLEARED
                verdicts += self.decide(_returned(entry.request, detail), now)
            else:
                setbacks = entry.setbacks + 1 if trouble else entry.setbacks
                self._change(
                    entry.request.id,
                    merging=False,
                    setbacks=setbacks,
                    stalled_alone=entry.stalled_alone + alone,
                    reason=trouble,
                    tried_on=red.sha if red is not None and asked else entry.tried_on,
                )
        return tuple(verdicts)

    @property
    def disturbed(self) -> bool:
        """Something that is being merged is wanted back."""
        return any(entry.merging and entry.wanted_back for entry in self._entries.values())

    @property
    def unsure(self) -> tuple[MergeRequest, ...]:
        """What may be on its target or not."""
        return tuple(entry.request for entry in self._entries.values() if entry.unsure)

    def found_out(self, merge_request: str, landed_as: str | None, now: datetime) -> tuple[Verdict, ...]:
        """It is known now whether the landing of an unsure request came about.

        Returns:
            The verdicts that jobs must hear.
        """
        entry = self._entries.get(merge_request)
        if entry is None or not entry.unsure:
            return ()
        if landed_as is not None:
            request = entry.request
            merged = Verdict(
                merge_request=request.id,
                bead=request.bead,
                attempt=request.attempt,
                kind=VerdictKind.MERGED,
                merged_sha=landed_as,
            )
            return self.decide(merged, now)
        if entry.withdrawn or entry.cleared:
            return self.decide(_returned(entry.request, WITHDRAWN if entry.withdrawn else CLEARED), now)
        self._change(merge_request, unsure=False, reason="")
        return ()

    def decide(self, verdict: Verdict, now: datetime) -> tuple[Verdict, ...]:
        """Remember a verdict and drop its request.

        A bead merges once: a later request of a bead that has just been merged is answered with
        the same commit instead of landing the bead again.
        """
        entry = self._entries.pop(verdict.merge_request, None)
        if entry is None:
            return ()
        self._remember(Decided(verdict=verdict, submitted_at=entry.request.submitted_at, at=now))
        told = [verdict]
        if verdict.kind is VerdictKind.MERGED:
            self._satisfy(verdict.bead)
            for later in [item.request for item in self.entries if item.request.bead == verdict.bead]:
                same = verdict.model_copy(update={"merge_request": later.id, "attempt": later.attempt})
                told += self.decide(same, now)
        return tuple(told)

    def _satisfy(self, bead: str) -> None:
        """What others needed of this bead is there."""
        for entry in self.entries:
            if entry.needs and bead in entry.needs:
                self._change(entry.request.id, needs=tuple(need for need in entry.needs if need != bead))

    def troubled(self, target: str) -> bool:
        """Something waits for this target that stalled alone."""
        return any(entry.stalled_alone and entry.request.target == target for entry in self._entries.values())

    def in_order(self, now: datetime) -> tuple[QueueEntry, ...]:
        """What waits and is not held, in the order in which it is to be merged."""
        waiting = (entry for entry in self._entries.values() if not (entry.held or entry.merging or entry.unsure))
        return tuple(self._entries[item] for item in order(tuple(map(_candidate, waiting)), now))

    def _next(self, now: datetime, limit: int, scope: Scope) -> tuple[str, ...]:
        # What a change needs has to be known before it may be merged.
        ranked = [entry for entry in self.in_order(now) if scope.covers(entry) and entry.needs is not None]
        for head in ranked:
            alike = [
                entry for entry in ranked
                if entry.request.target == head.request.target and not entry.stalled_alone
            ]  # fmt: skip
            batch = joinable(map(_candidate, [head] if head.stalled_alone else alike), limit)
            if batch:
                return batch
        return ()

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
                bare = kept.verdict.model_copy(update={"detail": "", "files": (), "rivals": ()})
                self._decided[name] = kept.model_copy(update={"verdict": bare})


def _candidate(entry: QueueEntry) -> Candidate:
    return Candidate(
        id=entry.request.id,
        bead=entry.request.bead,
        priority=entry.request.priority,
        submitted_at=entry.request.submitted_at,
        setbacks=entry.setbacks,
        stalled_alone=entry.stalled_alone,
        now=entry.now,
        needs=entry.needs or (),
    )


def _again(known: Decided, request: MergeRequest) -> bool:
    """A request that went back to its job may be submitted anew; what was judged stays judged."""
    return known.verdict.kind is VerdictKind.RETURNED and request.submitted_at > known.submitted_at


def _returned(request: MergeRequest, detail: str) -> Verdict:
    return Verdict(
        merge_request=request.id,
        bead=request.bead,
        attempt=request.attempt,
        kind=VerdictKind.RETURNED,
        detail=detail,
        cleared=detail == CLEARED,
        submitted_at=request.submitted_at,
    )
