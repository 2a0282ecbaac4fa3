"""Timers that end at a moment, and one for many waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from temporalio import workflow

SHORTEST = timedelta(milliseconds=1)
"""Whether there is a timer must not depend on the clock: a query may see an earlier time (docs/decisions/0017)."""


def until(moment: datetime) -> timedelta:
    """How long the timer is that ends then, of a millisecond at least.

    That it has fired says that the moment has come, never a look at the clock.
    """
    left: timedelta = moment - workflow.now()
    return max(left, SHORTEST)


class Alarm:
    """One timer for all that a run waits for, since most waits end long before their time.

    A wait that ends early leaves the timer to the next one, which starts another only where it is due sooner.
    """

    def __init__(self) -> None:
        self._timer: asyncio.Task[None] | None = None
        self._set_for = datetime.min.replace(tzinfo=UTC)
        """when the timer that runs ends, or the last one has"""

    async def wait(self, holds: Callable[[], bool], at_most: timedelta, summary: str) -> bool:
        """Wait until `holds`; False once `at_most` is over.

        Args:
            summary: what people read of the timer, while it is started for this wait.
        """
        due = workflow.now() + at_most
        while True:
            if not self._runs or due < self._set_for:
                self._set(due, summary)
            await workflow.wait_condition(lambda: holds() or not self._runs)
            if holds():
                return True
            if self._set_for >= due:
                return False

    @property
    def _runs(self) -> bool:
        return self._timer is not None and not self._timer.done()

    def _set(self, due: datetime, summary: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = due
        self._timer = asyncio.create_task(workflow.sleep(until(due), summary=summary))
