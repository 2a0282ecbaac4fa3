"""How often a bead's agent runs before a person is asked: restarts, another polecat and reworks, counted together.

A run is a start of the agent. Within one window of the restart budget a bead has at most

    1 + recovery.max_retries + 1 + polecat.max_reworks

of them (`most_runs`): the first, its restarts, the one with another polecat, its reworks. Nothing gives any of these
back but a person's decision, an agent that lived for `recovery.healthy_reset`, or time that agents lived (the window).
Not counted are starts that no agent is to blame for: those after a lost host, and those that the brake holds back.
A job that is rebuilt from the record, because Temporal lost it, knows its reworks and counts its restarts anew.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from models.base import Frozen
from models.settings import RecoverySettings, Settings
from policies.job.restarts import Restart, RestartBudget, after_death

RUNS_WITHOUT_CHANGE = 2
"""An agent that ends well and has changed nothing has something to say: after so many runs a person reads it."""


class Spent(Frozen):
    """What a bead's runs have used up since a person last decided."""

    budget: RestartBudget = RestartBudget()
    reworks: int = 0
    reassigned: bool = False
    unchanged: int = 0
    """runs in a row that ended well without a change"""


class Then(StrEnum):
    """What follows a run."""

    RESTART = "restart"
    REASSIGN = "reassign"
    """another polecat, one more start"""
    REWORK = "rework"
    ASK = "ask"
    """a person decides"""


class Next(Frozen):
    then: Then
    spent: Spent
    restart: Restart | None = None
    """how soon, for RESTART"""


def most_runs(settings: Settings) -> int:
    """The bound of this page."""
    return settings.recovery.max_retries + 2 + settings.polecat.max_reworks


def after_end(spent: Spent, ran: timedelta, recovery: RecoverySettings, jitter: float, *, unchanged: bool) -> Next:
    """What follows a run that ended without its work being taken.

    Args:
        ran: how long the agent lived.
        unchanged: it ended well, its tree is clean, and there is nothing new to hand in.
        jitter: a random number in [0, 1).
    """
    spent = spent.model_copy(update={"unchanged": spent.unchanged + 1 if unchanged else 0})
    if spent.unchanged >= RUNS_WITHOUT_CHANGE:
        return Next(then=Then.ASK, spent=spent)
    restart = after_death(spent.budget, ran, recovery, jitter)
    spent = spent.model_copy(update={"budget": restart.budget})
    if restart.allowed:
        return Next(then=Then.RESTART, spent=spent, restart=restart)
    return _elsewhere(spent)


def after_sent_back(spent: Spent, max_reworks: int) -> Next:
    """What follows work that the Refinery sent back."""
    if spent.reworks >= max_reworks:
        return Next(then=Then.ASK, spent=spent)
    return Next(then=Then.REWORK, spent=spent.model_copy(update={"reworks": spent.reworks + 1}))


def after_retry_of_nobody(spent: Spent, recovery: RecoverySettings) -> Next:
    """What follows a retry that no person decided (the Mayor's) of a job whose agent has run: a restart, counted."""
    restart = after_death(spent.budget, timedelta(0), recovery, 0.0)
    spent = spent.model_copy(update={"budget": restart.budget})
    return Next(then=Then.RESTART if restart.allowed else Then.ASK, spent=spent, restart=restart)


def after_reassignment_of_nobody(spent: Spent) -> Next:
    """What follows a reassignment that no person decided: the one that the job has, if it has it still."""
    return _elsewhere(spent)


def _elsewhere(spent: Spent) -> Next:
    if spent.reassigned:
        return Next(then=Then.ASK, spent=spent)
    return Next(then=Then.REASSIGN, spent=spent.model_copy(update={"reassigned": True}))
