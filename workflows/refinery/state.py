"""What a Refinery carries from run to run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import Field
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.base import Frozen
    from models.job.messages import RigFacts, Verdict
    from models.ledger.records import MergeRequest
    from models.mayor.escalations import Letter
    from models.refinery.gates import Seen
    from models.refinery.messages import ForeignCommit, MergeOutcome, QueueItemState, TargetRed
    from policies.dispatch.room import CHANGES_BYTES
    from policies.refinery.merge_rates import after_merge

MERGES_NOTED = 300
"""merges that figures are drawn from"""


class QueueEntry(Frozen):
    """One merge request in the queue."""

    request: MergeRequest
    arrived: int = 0
    """counts up; what arrived before a drain began is told from what came later"""
    needs: tuple[str, ...] | None = None
    """beads that have to be merged before, as the record last said; None: it was not asked yet"""
    merging: bool = False
    held: bool = False
    now: bool = False
    """a person asked for it to go before others"""
    withdrawn: bool = False
    """taken back while it was being merged: leaves when that decides nothing"""
    cleared: bool = False
    """cleared while it was being merged: goes back to its job when that decides nothing"""
    unsure: bool = False
    """wanted back while its landing was under way: it is not known yet whether the target holds it"""
    attempts: int = 0
    """merges it took part in"""
    setbacks: int = 0
    """those of them that could not finish"""
    stalled_alone: int = 0
    """those of them that stalled with nothing else in them"""
    reason: str = ""
    tried_on: str = ""
    """the red tip of its target on which it was tried by a person's order, and failed too"""

    @property
    def wanted_back(self) -> bool:
        """A person or its job does not want it merged now."""
        return self.withdrawn or self.cleared or self.held

    @property
    def state(self) -> QueueItemState:
        if self.merging or self.unsure:
            return QueueItemState.MERGING
        if self.held:
            return QueueItemState.HELD
        return QueueItemState.RETRYING if self.reason else QueueItemState.WAITING


class Decided(Frozen):
    verdict: Verdict
    submitted_at: datetime
    at: datetime | None = None


class MergeNote(Frozen):
    """What one merge came to, for figures."""

    number: int
    at: datetime
    landed: int = 0
    sent_back: int = 0
    gate_runs: int = 0


class Trouble(Frozen):
    """What keeps merges to one target from finishing."""

    broken: int = 0
    """merges in a row whose gates could not run"""
    stalls: int = 0
    """merges in a row that stalled"""
    window: int = 0
    """the largest batch after a stall, which halves it; merges that go well double it; 0 = any"""
    retry_at: datetime | None = None
    held: str = ""
    """why nothing is merged to it until somebody answers; trouble on the rig's own branch pauses the whole queue"""
    red: TargetRed | None = None
    """the target itself fails its gates: only what a person asked for is tried, until `retry_at` or until it moves"""
    reds: int = 0
    """merges in a row that found it red"""
    look_at: datetime | None = None
    """when to look whether a red target has moved"""


class RefineryState(Frozen):
    """All that a Refinery carries from run to run. A bare `{"rig": …}` is a fresh one."""

    rig: str
    facts: RigFacts | None = None
    host: str | None = None
    """merges here instead of on the rig's first host"""
    entries: tuple[QueueEntry, ...] = ()
    decided: tuple[Decided, ...] = ()
    """oldest first"""
    arrivals: int = 0
    merges: int = 0
    noted: tuple[MergeNote, ...] = ()
    """the last merges, oldest first"""
    seen: Seen = Seen()
    stopped: bool = False
    """until `start`: it takes changes in and merges none"""
    paused: bool = False
    pause_reason: str = ""
    paused_for: str = ""
    """the escalation whose answer ends the pause; "": a person's order does"""
    above_priority: int | None = None
    """while paused, changes more urgent than this are merged all the same"""
    drain_upto: int | None = None
    """merges what arrived no later than this, then pauses"""
    troubles: dict[str, Trouble] = Field(default_factory=dict)
    """by target; what is not there has none"""
    faults: dict[str, str] = Field(default_factory=dict)
    """open escalations of this Refinery: ids by kind, or by `<kind>/<target>` where it is not the rig's own branch"""
    foreign: tuple[ForeignCommit, ...] = ()
    """what came to its targets past the queue, the latest last"""
    rewinds: tuple[str, ...] = ()
    """of targets, that people were told of: the escalations' ids, the latest last"""
    letters: tuple[Letter, ...] = ()
    """what the Mayor was not told yet, in order"""
    waits_in_ledger: bool = False
    """changes were handed in for which there was no room"""
    cleared_upto: datetime | None = None
    """what waited in the ledger when the queue was cleared, submitted until then, is returned as it comes in"""
    capacity: int = CHANGES_BYTES
    """of all entries, as `policies.dispatch.room` counts"""
    patience: int = 1000
    """messages after which a run hands over"""

    @property
    def branch(self) -> str:
        """The rig's own branch; "" while it is not known."""
        return self.facts.rig.branch if self.facts else ""

    def trouble(self, target: str) -> Trouble:
        return self.troubles.get(target, Trouble())

    @property
    def red(self) -> dict[str, TargetRed]:
        """The targets that are red themselves."""
        return {name: each.red for name, each in self.troubles.items() if each.red is not None}

    def resting(self, now: datetime) -> frozenset[str]:
        """Targets to which nothing is merged now."""
        troubles = self.troubles.items()
        return frozenset(name for name, each in troubles if each.held or (each.retry_at and each.retry_at > now))

    def next_try(self, targets: Iterable[str], now: datetime) -> datetime | None:
        """When the first of these targets that wait for another try is tried, or looked at."""
        troubles = [self.trouble(target) for target in targets]
        due = [at for each in troubles for at in (each.retry_at, each.look_at)]
        return min((at for at in due if at is not None and at > now), default=None)


def remember(state: RefineryState, outcome: MergeOutcome, facts: RigFacts, now: datetime) -> RefineryState:
    """Learn from a merge that ran the rig's gates as `facts` has them, and note it for figures."""
    note = MergeNote(
        number=state.merges,
        at=now,
        landed=outcome.landed,
        sent_back=sum(verdict.merged_sha is None for verdict in outcome.verdicts),
        gate_runs=outcome.gate_runs,
    )
    seen = after_merge(
        state.seen,
        landed=outcome.landed,
        failed=outcome.blamed,
        tallies=outcome.tallies,
        commits=outcome.commits,
        gates=facts.rig.gates,
        world=facts.settings.gate,
        now=now,
    )
    return state.model_copy(update={"seen": seen, "noted": (*state.noted, note)[-MERGES_NOTED:]})
