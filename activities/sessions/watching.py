"""The patrol's long poll: it waits on the host's scanner until there is something to decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.git.worktree.checkpoints import Checkpointer
from activities.sessions.scanner import Scanner
from models.job.attempts import WatchReport, WatchRig, observation_key
from models.job.messages import Observation, ObservationKind

MOST_NEWS: Final = 200
MOST_BYTES: Final = 500_000
"""of what one report tells in words; a message of Temporal's holds 2 MB"""


class WatchActivities:
    """One round of a Witness on one host.

    Args:
        checkpoints: saves unfinished work beside it; None: nobody does.
    """

    def __init__(self, scanner: Scanner, checkpoints: Checkpointer | None = None) -> None:
        self._scanner = scanner
        self._checkpoints = checkpoints

    @activity.defn
    async def watch_rig(self, request: WatchRig) -> WatchReport:
        """Return as soon as there is something that is not known yet, else after the interval.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING.
        """
        if self._checkpoints is not None and request.checkpoint is not None:
            self._checkpoints.follow(request.checkpoint)
        known = set(request.known)
        deadline = time.monotonic() + request.interval_s
        while True:
            seen = await self._scanner.survey(request)
            news = first_news(one for one in seen.observations if observation_key(one) not in known)
            left = deadline - time.monotonic()
            if news or left <= 0:
                present = tuple(observation_key(one) for one in seen.observations)
                return seen.model_copy(update={"observations": news, "present": present, "in_time": not news})
            _end_with_the_worker()
            await asyncio.sleep(min(self._scanner.tick_s, left))


def first_news(news: Iterable[Observation]) -> tuple[Observation, ...]:
    """So many as one of Temporal's messages holds, calls for help only where there is room beside all else.

    In the order in which they are to be heard: a `gt done` that came before a call for help would end what was asked.
    The rest is news for the next round.
    """
    everything = list(news)
    chosen: list[int] = []
    room = MOST_BYTES
    for place in sorted(range(len(everything)), key=lambda place: everything[place].kind is ObservationKind.HELP):
        room -= len(everything[place].detail.encode("utf-8", "replace"))
        if chosen and (len(chosen) == MOST_NEWS or room < 0):
            break
        chosen.append(place)
    return tuple(everything[place] for place in sorted(chosen))


def _end_with_the_worker() -> None:
    """A watch is nothing that a stopping worker should wait for: the next worker takes it over at once."""
    if activity.in_activity() and activity.is_worker_shutdown():
        raise ApplicationError("the worker stops", type="WorkerShutdown", category=ApplicationErrorCategory.BENIGN)
