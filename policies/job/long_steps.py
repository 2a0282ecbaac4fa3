"""How a job waits for a step on its host that takes long: when it speaks of it, and what counts as waiting.

Pure; the timers are the job's own.
"""

from __future__ import annotations

from datetime import timedelta

AGAIN = timedelta(minutes=10)
"""after this long others are told of the attempt again: a Witness forgets what it neither sees nor hears of in 15"""
TELL_AFTER = timedelta(minutes=15)
"""A step that has not come about for this long is told to a person; it is tried on."""
LATE = timedelta(seconds=30)
"""A timer that comes this much later than it was due: nothing ran meanwhile, and the step had no chance."""


def next_pause(waited: timedelta) -> timedelta:
    """How long to wait before something has to be said again."""
    return min(AGAIN, TELL_AFTER - waited) if waited < TELL_AFTER else AGAIN


def counted(waited: timedelta, pause: timedelta, late_by: timedelta) -> timedelta:
    """What has been waited after one more pause; after a gap the step gets its whole time anew.

    Args:
        late_by: how much later than due the pause's timer came.
    """
    return timedelta(0) if late_by > LATE else waited + pause
