"""The restart budget: how often, and how soon, a dead agent is started again.

The budget runs on a clock that ticks only while an agent lives. Delays and waits for a slot do
not tick, so an agent that always dies at once reaches its limit whatever the delays and the
window are; and since an agent lives no longer than time passes, no window of real time ever sees
more than `max_retries` restarts.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil

from models.base import Frozen
from models.settings import RecoverySettings

JITTER = 0.4
"""width of the jitter around a delay: 0.8 to 1.2 times"""


WAVES = 2
"""in which agents that died of one cause come back: with a third, a second later, the last of ten were told of
after 3.2 s, not 2 (docs/watchdog-chain.md)"""


def wave_size(together: int) -> int:
    """How many of `together` agents that died of one cause are started at a time; at least 1."""
    return max(1, ceil(together / WAVES))


class RestartBudget(Frozen):
    """What was spent so far. A fresh one is the full budget."""

    lived_s: float = 0.0
    """seconds that this job's agents lived, since the budget was fresh"""
    restarts: tuple[float, ...] = ()
    """when restarts happened, in `lived_s`"""


class Restart(Frozen):
    """The answer to a death."""

    allowed: bool
    delay: timedelta = timedelta(0)
    number: int = 0
    """which restart of the window this is, from 1"""
    budget: RestartBudget


def after_death(budget: RestartBudget, ran: timedelta, settings: RecoverySettings, jitter: float) -> Restart:
    """Decide what follows the death of an agent.

    The first restart in a window comes at once, the second after `retry_delay`, then doubling up
    to `max_delay`. An agent that lived for `healthy_reset` starts with a full budget again.

    Args:
        ran: how long this agent lived; negative counts as zero.
        jitter: a random number in [0, 1).
    """
    lived_s = budget.lived_s + max(ran.total_seconds(), 0.0)
    forgiven = ran.total_seconds() >= settings.healthy_reset
    recent = () if forgiven else tuple(at for at in budget.restarts if lived_s - at < settings.window)
    if len(recent) >= settings.max_retries:
        return Restart(allowed=False, budget=RestartBudget(lived_s=lived_s, restarts=recent))
    return Restart(
        allowed=True,
        delay=_delay(len(recent), settings, jitter),
        number=len(recent) + 1,
        budget=RestartBudget(lived_s=lived_s, restarts=(*recent, lived_s)),
    )


SETUP_RUNS = 3
"""so often in a row a worktree's set-up may fail before a person is told: it is the rig's, and not an agent's, fault"""


def after_failed_setup(budget: RestartBudget, settings: RecoverySettings, jitter: float) -> Restart:
    """Decide what follows a set-up that failed: nobody lived, however long it took."""
    fewer = settings.model_copy(update={"max_retries": min(settings.max_retries, SETUP_RUNS - 1)})
    return after_death(budget, timedelta(0), fewer, jitter)


def _delay(earlier: int, settings: RecoverySettings, jitter: float) -> timedelta:
    if earlier == 0:
        return timedelta(0)
    doubled = settings.retry_delay * 2.0 ** (earlier - 1)
    return timedelta(seconds=min(doubled * (1 - JITTER / 2 + JITTER * jitter), settings.max_delay))
