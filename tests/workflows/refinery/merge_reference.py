"""What must be true of a merge queue whatever happens: a small reference, and a world that dies at numbered steps."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from models.job.messages import VerdictKind
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import BuildChain, Chain, LandChain, LandOutcome, LandResult
from tests.workflows.refinery.merge_world import FAILED, PASSED, MergeWorld, beads

AT_ONCE = timedelta(milliseconds=10)
"""before an activity is tried again: real time"""


@dataclass(frozen=True)
class Story:
    """Changes and what is the matter with them."""

    changes: tuple[str, ...]
    bad: frozenset[str] = frozenset()
    """red wherever they are in"""
    bad_together: frozenset[str] = frozenset()
    """red where all of them are in"""
    conflicts: tuple[tuple[str, str], ...] = ()
    """the first does not apply where the second is in"""
    needs: tuple[tuple[str, str], ...] = ()
    flaky: bool = False
    """each commit's first run is red with chance 1 in 4"""
    moves: tuple[int, ...] = ()
    """before these pushes somebody else pushes"""
    withdrawn: tuple[str, ...] = ()
    """their jobs take them back while the queue is at work"""

    def green(self, held: Collection[str]) -> bool:
        together = bool(self.bad_together) and self.bad_together <= set(held)
        return not (self.bad & set(held)) and not together

    @staticmethod
    def random(source: random.Random) -> Story:
        names = beads(source.randint(3, 9))
        pick = names[:]
        source.shuffle(pick)
        pair = frozenset(pick[:2]) if source.random() < 0.5 else frozenset()
        return Story(
            changes=tuple(names),
            bad=frozenset(name for name in pick[2:] if source.random() < 0.2),
            bad_together=pair,
            conflicts=((pick[-1], pick[0]),) if source.random() < 0.5 else (),
            needs=((pick[1], pick[2]),) if source.random() < 0.5 else (),
            flaky=source.random() < 0.5,
            moves=tuple(sorted(source.sample(range(1, 8), source.randint(0, 2)))),
            withdrawn=tuple(source.sample(names, source.randint(0, 2))),
        )


@dataclass
class KilledWorld(MergeWorld):
    """A MergeWorld whose worker dies at chosen durable steps: what was done stays done, the answer is lost."""

    story: Story = field(default_factory=lambda: Story(changes=()))
    kill_at: frozenset[int] = frozenset()
    steps: list[str] = field(default_factory=list)
    """every durable step, in the order reached"""
    pushed: list[tuple[str, ...]] = field(default_factory=list)
    """what the target held after each push of ours"""
    parents: dict[str, str] = field(default_factory=dict)
    pushes_tried: int = 0

    def __post_init__(self) -> None:
        self.gates = lambda held, run: PASSED if self.story.green(held) else FAILED

    def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) in self.kill_at:
            raise ApplicationError(
                f"killed at step {len(self.steps)}: {name}", type="worker_died", next_retry_delay=AT_ONCE
            )

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        self.step("chain.fetched")
        self.conflicts = {
            late: early for late, early in self.story.conflicts if late not in self.landed and early != late
        }
        chain = await super().build_chain(request)
        for link, before in zip(chain.links, (chain.base_sha, *(each.sha for each in chain.links)), strict=False):
            self.parents[link.sha] = before
        self.step("chain.built")
        return chain

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        self.step("gate.checked_out")
        report = await super().run_gates(request)
        first = self.gated.count(request.sha) == 1
        if self.story.flaky and first and int(request.sha[:2] if request.sha != "base" else "1", 16) % 4 == 0:
            report = FAILED
        self.step("gate.finished")
        return report

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        tip = request.links[-1].sha
        if self._stands_on(tip):
            return LandResult(outcome=LandOutcome.LANDED, target_sha=self.target)
        self.step("land.before_push")
        self.pushes_tried += 1
        if self.pushes_tried in self.story.moves:
            other = f"other-{self.pushes_tried}"
            self.parents[moved := self._commit(self.target, other, other)] = self.target
            self.target = moved
        if request.base_sha != self.target:
            return LandResult(outcome=LandOutcome.MOVED, target_sha=self.target)
        self.target = tip
        self.landings.append(tuple(link.bead for link in request.links))
        self.pushed.append(self.landed)
        self.step("land.pushed")
        return LandResult(outcome=LandOutcome.LANDED, target_sha=self.target)

    def _stands_on(self, sha: str) -> bool:
        at: str | None = self.target
        while at is not None and at != sha:
            at = self.parents.get(at)
        return at == sha


def check(
    story: Story,
    pushed: Sequence[Collection[str]],
    landed: Sequence[str],
    verdicts: dict[str, list[VerdictKind]],
    waiting: Collection[str],
) -> None:
    """Hold a finished queue against the reference.

    Args:
        pushed: what the target held after each push.
        landed: the target's changes in order.
        verdicts: by bead, what was decided of it.
        waiting: what is still in the queue.
    """
    ours = [bead for bead in landed if bead in story.changes]
    assert len(set(ours)) == len(ours), "each landed exactly once"
    for held in pushed:
        assert story.green(held), f"a tip that is red landed: {held}"
    for late, early in story.needs:
        if late in ours:
            assert early in ours[: ours.index(late)], f"{late} landed before {early}, which it needs"
    for bead in story.changes:
        said = verdicts.get(bead, [])
        assert len(said) <= 1, f"{bead} was decided twice: {said}"
        assert bool(said) != (bead in waiting), f"{bead} was forgotten, or decided and kept"
        assert (said == [VerdictKind.MERGED]) == (bead in ours), f"{bead}: {said}, landed: {bead in ours}"
        back = bead in story.withdrawn and said == [VerdictKind.RETURNED]
        assert back or said == expected(story, bead, ours) or bead in waiting, f"{bead}: {said}"
    for bead in waiting:
        blocked = [early for late, early in story.needs if late == bead]
        assert blocked, f"{bead} waits although it needs nothing"
        assert not set(blocked) <= set(ours), f"{bead} waits for what has landed"


def expected(story: Story, bead: str, ours: Sequence[str]) -> list[VerdictKind]:
    """The one right verdict about a decided change, given what has landed."""
    if bead in story.bad:
        return [VerdictKind.FAILED]
    if any(late == bead and early in ours and bead not in ours for late, early in story.conflicts):
        return [VerdictKind.CONFLICT]
    others = story.bad_together - {bead}
    if bead in story.bad_together and others <= set(ours):
        before = ours[: ours.index(bead)] if bead in ours else ours
        return [VerdictKind.FAILED] if others <= set(before) and bead not in ours else [VerdictKind.MERGED]
    return [VerdictKind.MERGED]
