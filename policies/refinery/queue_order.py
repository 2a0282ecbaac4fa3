"""In which order the Refinery takes waiting changes.

    score = 100 * (4 - priority) + hours waited - 50 * min(setbacks, 6)

The highest score goes first; equal scores by time of submission, then by id. A step of priority
is worth 100 hours of waiting, so urgent work goes first and nothing waits for ever: the setbacks
(merges that could not finish with this change in them) cost at most 300 in all, which lets
others past a change that troubles the queue without burying it. All that speaks for a later
change is worth at most 400 + 300, so whatever is submitted 700 hours after it goes behind it.
What a person asked to be processed now goes before everything.

A change whose merge stalled although it was alone in it (the remote refuses it, say) goes behind
all that have stalled alone less often, and is merged alone: one bad change never blocks the rest.

What a change needs goes before it, at its place where that is earlier. A change that needs what
neither is merged nor can be merged with it waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from models.base import Frozen

PRIORITY_WEIGHT = 100.0
SETBACK_WEIGHT = 50.0
MAX_SETBACKS_COUNTED = 6
LOWEST_PRIORITY = 4
OVERTAKEN_AT_MOST_H = PRIORITY_WEIGHT * LOWEST_PRIORITY + SETBACK_WEIGHT * MAX_SETBACKS_COUNTED
"""hours after which nothing that is submitted can pass any more"""


class Candidate(Frozen):
    """What the order depends on."""

    id: str
    bead: str = ""
    priority: int
    """0 (most urgent) to 4"""
    submitted_at: datetime
    setbacks: int = 0
    stalled_alone: int = 0
    """merges of this change alone that stalled"""
    now: bool = False
    """a person asked for it: `gt refinery process`"""
    needs: tuple[str, ...] = ()
    """beads that have to be merged before, and are not yet"""


def score(candidate: Candidate, now: datetime) -> float:
    """The candidate's score at `now`; see the module for the formula."""
    waited_h = max((now - candidate.submitted_at).total_seconds(), 0.0) / 3600
    penalty = SETBACK_WEIGHT * min(candidate.setbacks, MAX_SETBACKS_COUNTED)
    return PRIORITY_WEIGHT * (LOWEST_PRIORITY - candidate.priority) + waited_h - penalty


def order(candidates: tuple[Candidate, ...], now: datetime) -> tuple[str, ...]:
    """The ids in the order in which they are to be merged; those that wait for others have their place too."""

    def rank(item: Candidate) -> tuple[bool, int, float, datetime, str]:
        return (not item.now, item.stalled_alone, -score(item, now), item.submitted_at, item.id)

    by_bead = {item.bead: item for item in candidates}
    placed: dict[str, None] = {}
    for first in sorted(candidates, key=rank):
        # What it needs, deepest first. An item is opened once, so that a circle does not trap us.
        opened: set[str] = set()
        stack = [first]
        while stack:
            item = stack[-1]
            missing = [by_bead[bead] for bead in item.needs if bead in by_bead and by_bead[bead].id not in placed]
            if item.id in opened or not missing:
                placed[stack.pop().id] = None
            else:
                opened.add(item.id)
                stack += sorted((need for need in missing if need.id not in opened), key=rank, reverse=True)
    return tuple(placed)


def joinable(candidates: Iterable[Candidate], at_most: int) -> tuple[str, ...]:
    """The longest batch that may be merged as one, from candidates in order: nothing without what it needs."""
    taken: list[str] = []
    beads: set[str] = set()
    for item in candidates:
        if len(taken) < at_most and set(item.needs) <= beads:
            taken.append(item.id)
            beads.add(item.bead)
    return tuple(taken)
