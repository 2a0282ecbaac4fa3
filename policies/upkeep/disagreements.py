"""Which disagreements between Dolt, git and Temporal are news, and which are over."""

from __future__ import annotations

from pydantic import Field

from models.base import Frozen
from models.upkeep.verification import OF_GIT, OF_TEMPORAL, Problem, ToldProblem, TownLook

MOST_TOLD = 20
"""told one by one; all further ones are one alert"""
MORE = "more"


class News(Frozen):
    """What people have to be told."""

    begun: tuple[Problem, ...] = ()
    more: int = 0
    """further ones, if nobody was told of any yet"""
    over: dict[str, ToldProblem] = Field(default_factory=dict)
    """by key"""


def still_there(earlier: TownLook, later: TownLook) -> TownLook:
    """What both looks have found: the rest was work under way."""
    known = {problem.key for problem in earlier.problems}
    kept = tuple(problem for problem in later.problems if problem.key in known)
    return later.model_copy(update={"problems": kept, "more": min(earlier.more, later.more)})


def news(look: TownLook, told: dict[str, ToldProblem]) -> News:
    """What has begun and what is over since people were told of `told`.

    Nothing is over that this look could not see.
    """
    found = {problem.key: problem for problem in look.problems}
    one_by_one = [key for key in told if key != MORE]
    fresh = [problem for key, problem in found.items() if key not in told]
    room = max(MOST_TOLD - len([key for key in one_by_one if key in found]), 0)
    rest = len(fresh[room:]) + look.more
    over = {key: told[key] for key in one_by_one if key not in found and _seen(look, told[key])}
    if MORE in told and not rest and _all_seen(look):
        over[MORE] = told[MORE]
    return News(begun=tuple(fresh[:room]), more=0 if MORE in told else rest, over=over)


def _seen(look: TownLook, told: ToldProblem) -> bool:
    """Whether the look would have found it."""
    if told.kind in OF_GIT and told.rig in look.unread_rigs:
        return False
    if told.kind in OF_TEMPORAL and look.temporal_unread:
        return False
    return not look.ledger_unread


def _all_seen(look: TownLook) -> bool:
    return not (look.unread_rigs or look.temporal_unread or look.ledger_unread)
