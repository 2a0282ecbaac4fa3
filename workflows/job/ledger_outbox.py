"""A job's writes on their way into the record: in order, none lost, however long the ledger is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

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

    While the answer to a signal is awaited, its workflow task takes a write along as a local activity: one event
    instead of six. The task in which the write was decided must not: it may be done again, after a kill, with a message
    that decides otherwise, when the ledger has the write already. Where no answer is awaited, or the ledger does not
    answer at once, it is an ordinary activity.

    Args:
        pending: the list in the workflow's state.
    """

    def __init__(self, pending: list[JobWrite]) -> None:
        self._pending = pending
        self._draining: asyncio.Task[None] | None = None
        self._answers = 0
        """awaited now"""
        self._sending = False
        self._handing_over = False

    def start(self) -> None:
        """Begin to drain; call once, from the workflow's run method.

        What is pending by then must follow from what the run was started with, whatever it has heard: it is sent now.
        """
        self._draining = asyncio.create_task(self._drain(tuple(self._pending[:BATCH])))

    def add(self, write: JobWrite) -> None:
        self._pending.append(write)

    @contextlib.contextmanager
    def awaiting_answer(self) -> Iterator[None]:
        """Around the wait for what comes soon, in a workflow task of its own."""
        self._answers += 1
        try:
            yield
        finally:
            self._answers -= 1

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

    async def _drain(self, first: tuple[JobWrite, ...]) -> None:
        if first:
            await self._send(first, at_once=True)
        while True:
            await workflow.wait_condition(lambda: bool(self._pending) and not self._handing_over)
            batch, answered = tuple(self._pending[:BATCH]), bool(self._answers)
            await workflow.wait_condition(lambda: not self._answers or self._handing_over)
            if not self._handing_over:
                await self._send(batch, at_once=answered)

    async def _send(self, batch: tuple[JobWrite, ...], *, at_once: bool) -> None:
        """Have the ledger take a batch; one that it refuses stays pending.

        Args:
            at_once: by a local activity first.
        """
        self._sending = True
        try:
            if not (at_once and await self._recorded_at_once(batch)):
                await workflow.execute_activity_method(
                    LedgerActivities.record_job,
                    JobWrites(writes=batch),
                    summary=_story(batch),
                    **activity_options.ledger_write(),
                )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("the ledger refused writes of %s: %s", batch[0].bead, error.cause)
            await workflow.sleep(REFUSED_PAUSE, summary="the ledger refused a write; tried again")
            return
        finally:
            self._sending = False
        del self._pending[: len(batch)]

    async def _recorded_at_once(self, batch: tuple[JobWrite, ...]) -> bool:
        """Whether the ledger has taken a batch within this workflow task."""
        try:
            await workflow.execute_local_activity_method(
                LedgerActivities.record_job,
                JobWrites(writes=batch),
                summary=_story(batch),
                **activity_options.ledger_write_at_once(),
            )
        except FailureError as error:  # a local one that fails is not always wrapped
            if is_cancelled_exception(error):
                raise
            return False
        return True


def _story(batch: tuple[JobWrite, ...]) -> str:
    return ", ".join(write.event for write in batch)[:200]
