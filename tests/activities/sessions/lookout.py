"""A scanner whose clock the test moves, and what it sees of the desk's rig."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from activities.git.worktree.polecat_repo import PolecatRepo
from activities.sessions.progress import TreeState, read_tree
from activities.sessions.scanner import TICK_S, Scanner
from models.job.attempts import WatchReport, WatchRig, observation_key
from models.job.health import HealthKind, HealthReport, Thresholds
from models.job.messages import Observation, ObservationKind
from tests.activities.sessions.desk import Desk

LIMITS = Thresholds(polecat_timeout_s=30, grace_s=10, stuck_timeout_s=100)


def read_at_once(repo: PolecatRepo) -> Future[TreeState]:
    done: Future[TreeState] = Future()
    done.set_result(read_tree(repo))
    return done


class Lookout:
    """What a Witness does with one host, a look at a time."""

    def __init__(self, desk: Desk, **orders: Any) -> None:
        self.desk = desk
        self.now = 1000.0
        self.orders: dict[str, Any] = {"rig": "shop", "host": "h1", "interval_s": 60, "thresholds": LIMITS} | orders
        self.last = WatchReport()
        self.relieve()

    def relieve(self, **more: Any) -> None:
        """A fresh scanner takes over, as after a restart of the worker."""
        self.scanner = Scanner(
            self.desk.paths, self.desk.tmux, "h1", clock=lambda: self.now, ask_tree=read_at_once, **more
        )

    def look(self, **orders: Any) -> WatchReport:
        """The next look, one tick after the last."""
        return self.after(TICK_S, **orders)

    def after(self, seconds: float, **orders: Any) -> WatchReport:
        """One look, so many seconds after the last one."""
        self.now += seconds
        self.orders |= orders
        self.last = asyncio.run(self.scanner.survey(WatchRig(**self.orders)))
        return self.last

    def watch(self, seconds: float) -> list[WatchReport]:
        """A look each tick for so long."""
        return [self.look() for _ in range(int(seconds / TICK_S))]

    def health(self, bead: str = "sh-1") -> HealthReport:
        return self.last.health[bead]

    def verdict(self, bead: str = "sh-1") -> HealthKind:
        return self.last.health[bead].diagnosis.kind

    def said(self) -> list[Observation]:
        """What the last look would tell a job."""
        return list(self.last.observations)

    def only(self) -> Observation:
        (one,) = self.last.observations
        return one

    def kinds(self) -> set[ObservationKind]:
        return {one.kind for one in self.last.observations}

    def keys(self) -> tuple[str, ...]:
        return tuple(observation_key(one) for one in self.last.observations)
