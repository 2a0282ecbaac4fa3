"""How often to ask, and how slow the machine is: for promises in seconds of one that has nothing else to do."""

from __future__ import annotations

import time

DEADLINE_S = 400.0
"""For whatever a test waits for: far longer than a busy machine needs, as no test that passes waits it out."""


def pause_s(waited_s: float, first_s: float = 0.05) -> float:
    """How long to wait before asking again: longer the longer it takes already, as most waits are short.

    To ask costs a town's time too: a command or a query each.
    """
    return min(1.0, first_s + waited_s / 20)


class Pace:
    """How many times longer than on a quiet machine things take at present."""

    def __init__(self) -> None:
        self._wall, self._cpu = 0.0, 0.0

    def sample(self) -> None:
        wall, cpu = time.monotonic(), time.thread_time()
        while time.thread_time() - cpu < 0.02:
            pass
        self._wall += time.monotonic() - wall
        self._cpu += time.thread_time() - cpu

    @property
    def slowness(self) -> float:
        return max(1.0, self._wall / self._cpu)
