"""In which order the Refinery takes waiting changes.

    score = 100 * (4 - priority) + hours waited - 50 * min(setbacks, 6)

The highest score goes first; equal scores by time of submission, then by id. A step of priority
is worth 100 hours of waiting, so urgent work goes first and nothing waits for ever: the setbacks
(merges that could not finish with this change in them) cost at most 300 in all, which lets
others past a change that troubles the queue without burying it. What a person asked to be
processed now goes before everything.

A change whose merge stalled although it was alone in it (the remote refuses it, say) goes behind
all that have stalled alone less often, and is merged alone: one bad change never blocks the rest.
"""

from __future__ import annotations

from datetime import datetime

from models.base import Frozen

PRIORITY_WEIGHT = 100.0
SETBACK_WEIGHT = 50.0
MAX_SETBACKS_COUNTED = 6
LOWEST_PRIORITY = 4


class Candidate(Frozen):
    """What the order depends on."""

    id: str
    priority: int
    """0 (most urgent) to 4"""
    submitted_at: datetime
    setbacks: int = 0
    stalled_alone: int = 0
    """merges of this change alone that stalled"""
    now: bool = False
    """a person asked for it: `gt refinery process`"""


def score(candidate: Candidate, now: datetime) -> float:
    """The candidate's score at `now`; see the module for the formula."""
    waited_h = max((now - candidate.submitted_at).total_seconds(), 0.0) / 3600
    penalty = SETBACK_WEIGHT * min(candidate.setbacks, MAX_SETBACKS_COUNTED)
    return PRIORITY_WEIGHT * (LOWEST_PRIORITY - candidate.priority) + waited_h - penalty


def order(candidates: tuple[Candidate, ...], now: datetime) -> tuple[str, ...]:
    """The ids in the order in which they are to be merged."""

    def rank(item: Candidate) -> tuple[bool, int, float, datetime, str]:
        return (not item.now, item.stalled_alone, -score(item, now), item.submitted_at, item.id)

    return tuple(item.id for item in sorted(candidates, key=rank))
