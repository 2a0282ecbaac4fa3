"""A job's writes on their way into the record: in order, none lost, however long the ledger is down."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.ledger import LedgerActivities
from models.ledger.records import JobWrite, JobWrites
from workflows.shared import activity_options

BATCH = 20
REFUSED_PAUSE = timedelta(seconds=60)
"""before the next try, after the ledger refused a write for another reason than being down"""


SETTLE = timedelta(seconds=5)
"""what is under way gets to end before a run hands over"""


class Outbox:
    """Drains `pending` in the background.

    A write leaves `pending` only once the ledger has it, so carrying `pending` through
    continue-as-new loses nothing; a write that is sent twice changes nothing.

    Args:
        pending: the list in the workflow's state.
    """

    def __init__(self, pending: list[JobWrite]) -> None:
        self._pending = pending
        self._draining: asyncio.Task[None] | None = None
        self._sending = False
        self._handing_over = False

    def start(self) -> None:
        """Begin to drain; call once, from the workflow's run method."""
        self._draining = asyncio.create_task(self._drain())

    def add(self, write: JobWrite) -> None:
        self._pending.append(write)

    async def drained(self) -> None:
        """Wait until the ledger has every write."""
        draining = self._draining
        assert draining is not None, "the outbox was never started"
        await workflow.wait_condition(lambda: not self._pending or draining.done())
        if draining.done():
            draining.result()

    async def hand_over(self) -> None:
        """Begin nothing more, and give what is under way a moment: the next run sends the rest.

        A run should end with no activity under way (docs/architecture.md), but not wait for a ledger that is down.
        """
        self._handing_over = True
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: not self._sending, timeout=SETTLE, timeout_summary="the record takes what is under way"
            )

    async def _drain(self) -> None:
        while True:
            await workflow.wait_condition(lambda: bool(self._pending) and not self._handing_over)
            batch = tuple(self._pending[:BATCH])
            self._sending = True
            try:
                await workflow.execute_activity_method(
                    LedgerActivities.record_job,
                    JobWrites(writes=batch),
                    summary=", ".join(write.event for write in batch)[:200],
                    **activity_options.ledger_write(),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.error("the ledger refused writes of %s: %s", batch[0].bead, error.cause)
                await workflow.sleep(REFUSED_PAUSE, summary="the ledger refused a write; tried again")
                continue
            finally:
                self._sending = False
            del self._pending[: len(batch)]
