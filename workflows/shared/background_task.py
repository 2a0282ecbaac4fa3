"""Work beside a loop: the loop does not wait for it, but a run that hands over does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Beside:
    """One round of work at a time."""

    def __init__(self) -> None:
        self._round: asyncio.Task[None] | None = None
        self.closing = False
        """the run hands over: a round leaves to the next run what it has not begun"""

    def start(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin a round, unless one is under way. What the one before has raised is raised here."""
        if self._round is not None:
            if not self._round.done():
                return
            self._round.result()
        self._round = asyncio.create_task(work())

    async def finished(self) -> None:
        """Wait for the round under way; no other is begun."""
        self.closing = True
        if self._round is not None:
            await self._round
