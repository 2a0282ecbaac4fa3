"""How slow the machine is while a test runs, for promises in seconds of a machine that has nothing else to do."""

from __future__ import annotations

import time


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
