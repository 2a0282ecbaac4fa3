"""When a long-lived run hands over to a fresh one.

The server's own hint watches the size of the history but not the number of messages, and a run
takes no more than 2,000 updates and 10,000 signals. So messages are counted here, and a run
continues as new far below those limits.

It also ends long before the hint does (at 4,096 events): after a worker was killed the next one replays
the run's history within one workflow task, and that has a time limit (docs/decisions/0022).
"""

from __future__ import annotations

from temporalio import workflow

MESSAGES_PER_RUN = 1000
EVENTS_PER_RUN = 1000


class Patience:
    """Counts the messages of one run.

    Args:
        limit: messages after which the run should end; tests lower it.
    """

    def __init__(self, limit: int = MESSAGES_PER_RUN) -> None:
        self._limit = limit
        self._taken = 0

    def count(self) -> None:
        """One message was taken."""
        self._taken += 1

    @property
    def exhausted(self) -> bool:
        """The run should continue as new at its next safe point."""
        run = workflow.info()
        too_long = run.get_current_history_length() >= EVENTS_PER_RUN
        return self._taken >= self._limit or too_long or run.is_continue_as_new_suggested()
