"""Timers that end at a moment."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

SHORTEST = timedelta(milliseconds=1)
"""Whether there is a timer must not depend on the clock: a query may see an earlier time (docs/decisions/0017)."""


def until(moment: datetime) -> timedelta:
    """How long the timer is that ends then, of a millisecond at least.

    That it has fired says that the moment has come, never a look at the clock.
    """
    left: timedelta = moment - workflow.now()
    return max(left, SHORTEST)
