"""How each fault is injected, and what it may have hit."""

from __future__ import annotations

import contextlib
import sched
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psutil

from tests.chaos.judge import Attempt, Injury
from tests.chaos.schedule import Fault, Kind
from tests.chaos.town import SETTINGS, ChaosTown
from tests.pace import DEADLINE_S

PAUSE_S = 4.0
FREEZE_S = SETTINGS["health.polecat_timeout"] + SETTINGS["health.grace"] + 5.0
"""Longer than every timeout that could accuse an agent meanwhile."""
TARGET_WAIT_S = 8.0
"""For an agent to hit; after that the fault is left out."""

_SERVICES = {Kind.WORKER: "worker", Kind.FREEZE: "worker", Kind.TEMPORAL: "temporal", Kind.DOLT: "dolt"}

T = TypeVar("T")


class Injector:
    """Works off a schedule in real time; what was stopped is continued when its time has come, whatever takes long."""

    def __init__(self, town: ChaosTown) -> None:
        self._town = town
        self._timeline = sched.scheduler(time.monotonic, time.sleep)
        self._stopped: list[threading.Timer] = []
        self.injuries: list[Injury] = []
        self.left_out: list[Kind] = []
        """faults for which there was nothing to hit"""

    def run(self, faults: Sequence[Fault], started: float) -> None:
        """Inject each fault at its time, counted from the monotonic time `started`."""
        for fault in faults:
            self._timeline.enterabs(started + fault.at_s, 1, self._inject, (fault,))
        self._timeline.run()
        for timer in self._stopped:
            timer.join()

    def _inject(self, fault: Fault) -> None:
        since = time.time()
        hit: Attempt | None = None
        try:
            match fault.kind:
                case Kind.AGENT | Kind.PAUSE:
                    hit, agent = _drawn(fault, self._town.working_agents)
                    self._pause(agent, PAUSE_S) if fault.kind is Kind.PAUSE else agent.kill()
                case Kind.HANG:
                    hit, agent = _drawn(fault, lambda: self._town.working_agents(beating=True))
                    agent.suspend()
                case Kind.PANE:
                    pane = _drawn(fault, self._town.panes)
                    hit = pane.attempt
                    psutil.Process(pane.pid).kill()
                case Kind.SESSION:
                    pane = _drawn(fault, self._town.panes)
                    hit = pane.attempt
                    self._town.tmux("kill-session", "-t", f"={pane.session}")
                case Kind.TMUX_SERVER:
                    _one(self._town.tmux_server, DEADLINE_S).kill()
                case Kind.SUPERVISOR:
                    self._town.kill_supervisor()
                    self._town.up()
                case Kind.FREEZE:
                    self._pause(self._service(fault.kind), FREEZE_S)
                case Kind.WORKER | Kind.TEMPORAL | Kind.DOLT:
                    self._service(fault.kind).kill()
        except (LookupError, psutil.NoSuchProcess):
            self.left_out.append(fault.kind)
            return
        self.injuries.append(Injury(fault.kind, since, time.time(), hit))
        print(f"{fault.at_s:7.1f} s  {fault.kind}  {'.'.join(map(str, hit or ()))}", file=sys.stderr, flush=True)

    def _service(self, kind: Kind) -> psutil.Process:
        return _one(lambda: self._town.service_process(_SERVICES[kind]), DEADLINE_S)

    def _pause(self, process: psutil.Process, seconds: float) -> None:
        process.suspend()
        self._stopped.append(threading.Timer(seconds, _resume, (process,)))
        self._stopped[-1].start()


def _resume(process: psutil.Process) -> None:
    """Another fault may have killed it meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def _drawn(fault: Fault, candidates: Callable[[], Sequence[T]]) -> T:
    """One of the candidates as soon as there are any; LookupError when there are none in time."""
    found = _one(candidates)
    return found[int(fault.draw * len(found))]


def _one(look: Callable[[], T | None], wait_s: float = TARGET_WAIT_S) -> T:
    deadline = time.monotonic() + wait_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise LookupError("nothing to hit")
        time.sleep(0.1)
