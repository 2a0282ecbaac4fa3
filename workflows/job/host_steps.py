"""A job's steps on a host take as long as they take: meanwhile others are told again, and after a while a person is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow

from models.errors import Level
from models.mayor.alerts import AlertType
from policies.job.long_steps import TELL_AFTER, counted, next_pause
from workflows.job.reporting import REMINDER, Job

WAITS = AlertType.ESCALATION.value
"""A kind that only a person answers: what could be tried is tried already, again and again."""


class Steps:
    """Waits for one step at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def wait(
        self, over: Callable[[], bool], doing: str, again: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Wait until the step is `over`, or waited for no more.

        Args:
            doing: what people are told of it: "the start of attempt 2 on h1".
            again: what tells others of the attempt.
        """
        waited = timedelta(0)
        while True:
            pause = next_pause(waited)
            due = workflow.now() + pause
            if await self._job.alarm.wait(over, pause, REMINDER):
                break
            waited = counted(waited, pause, workflow.now() - due)
            if waited >= TELL_AFTER:
                await self._tell(doing)
            if again is not None:
                await again()

    async def passed(self, doing: str) -> None:
        """The step is over, or has become pointless: nobody needs to come for it."""
        await self._job.end_faults(f"{doing} is waited for no more", WAITS)

    async def _tell(self, doing: str) -> None:
        limit = f"{TELL_AFTER.total_seconds() / 60:.0f} minutes"
        await self._job.raise_fault(
            WAITS,
            f"{doing} has not come about for {limit}: the remote or the host does not answer; it is tried on",
            evidence=f"Temporal shows the last failure among the pending activities of {workflow.info().workflow_id}",
            level=Level.L3,
        )
