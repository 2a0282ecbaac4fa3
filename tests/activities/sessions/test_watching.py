"""The long poll on a real scanner, real tmux and the real clock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.sessions.scanner import Scanner
from activities.sessions.watching import WatchActivities
from agents import session_folder
from models.job.attempts import WatchReport, WatchRig, observation_key
from models.job.health import HealthKind, Thresholds
from models.job.messages import ObservationKind
from tests.activities.sessions.desk import IDLE, Desk, eventually

LONG_S = 200.0
SHORT = Thresholds(polecat_timeout_s=6, grace_s=1, stuck_timeout_s=600)


@pytest.fixture
def watch(desk: Desk) -> WatchActivities:
    return WatchActivities(Scanner(desk.paths, desk.tmux, "h1"))


def order(**more: Any) -> WatchRig:
    return WatchRig(**({"rig": "shop", "host": "h1", "interval_s": LONG_S} | more))


async def test_a_round_without_news_lasts_its_interval_and_tells_how_things_stand(
    desk: Desk, watch: WatchActivities
) -> None:
    desk.start(IDLE)
    began = time.monotonic()
    report = await watch.watch_rig(order(interval_s=2.5))
    assert time.monotonic() - began >= 2.5
    while report.health["sh-1"].sighting.session_age_s < 1:  # of a machine that took all that time for one look
        report = await watch.watch_rig(order(interval_s=2.5))
    assert (report.observations, report.present, report.living) == ((), (), ("sh-1",))
    assert report.health["sh-1"].diagnosis.kind is HealthKind.HEALTHY


async def test_a_round_ends_as_soon_as_an_agent_dies(desk: Desk, watch: WatchActivities) -> None:
    desk.start(IDLE)
    desk.shown("ready")
    round_ = asyncio.create_task(watch.watch_rig(order()))
    await asyncio.sleep(0.2)
    pane = desk.pane()
    assert pane is not None
    os.kill(pane.pane_pid, signal.SIGKILL)
    report: WatchReport = await asyncio.wait_for(round_, LONG_S / 2)
    assert [one.kind for one in report.observations] == [ObservationKind.DIED]


async def test_a_round_does_not_end_for_what_is_known_and_still_counts_it_as_present(
    desk: Desk, watch: WatchActivities
) -> None:
    desk.start("exit 3")
    first = await watch.watch_rig(order())
    key = observation_key(first.observations[0])
    again = await watch.watch_rig(order(interval_s=1.5, known=(key,)))
    assert (again.observations, again.present) == ((), (key,))


async def test_a_round_does_not_keep_a_worker_that_stops(desk: Desk, watch: WatchActivities) -> None:
    desk.start(IDLE)
    host = ActivityEnvironment()
    round_ = asyncio.create_task(host.run(watch.watch_rig, order()))
    host.worker_shutdown()
    with pytest.raises(ApplicationError, match="the worker stops") as failed:
        await asyncio.wait_for(round_, LONG_S / 2)
    assert not failed.value.non_retryable, "the next worker takes it over"


async def test_two_rounds_at_once_share_their_looks(desk: Desk) -> None:
    looks = 0

    class Counted(Scanner):
        def look(self) -> dict[str, WatchReport]:
            nonlocal looks
            looks += 1
            return super().look()

    desk.start(IDLE)
    watch = WatchActivities(Counted(desk.paths, desk.tmux, "h1"))
    await asyncio.gather(*(watch.watch_rig(order(rig=rig, interval_s=4)) for rig in ("shop", "bank", "mill", "farm")))
    assert looks <= 4 + 8, "one for each that begins, and then one a tick for all"


# --- the real freeze ----------------------------------------------------------------------------------------

_PATROL = """
import asyncio, json, sys
from pathlib import Path
from activities.sessions.scanner import Scanner
from activities.sessions.tmux import Tmux
from models.job.attempts import WatchRig
from models.town import TownPaths

async def patrol(root, socket, order):
    scanner = Scanner(TownPaths(Path(root)), Tmux(socket), "h1", tick_s=0.2)
    order = WatchRig.model_validate_json(order)
    while True:
        report = await scanner.survey(order)
        print(report.model_dump_json(), flush=True)
        await asyncio.sleep(0.2)

asyncio.run(patrol(*sys.argv[1:]))
"""


class Patrol:
    """A scanner in a process of its own, which can be frozen."""

    def __init__(self, desk: Desk, log: Path) -> None:
        self.log = log
        arguments = [str(desk.paths.root), desk.tmux.socket, order(thresholds=SHORT).model_dump_json()]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PATROL, *arguments], cwd=Path(__file__).parents[3], stdout=out
            )

    def looks(self) -> list[dict[str, Any]]:
        whole = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole]

    def looks_again(self, times: int = 5) -> None:
        already = len(self.looks())
        eventually(lambda: len(self.looks()) >= already + times)


@pytest.fixture
def patrol(desk: Desk, tmp_path: Path) -> Iterator[Patrol]:
    desk.start('(while :; do touch "${GT_TASK_FILE%/*}/heartbeat"; sleep 0.2; done); true')
    eventually((desk.folder() / session_folder.HEARTBEAT).exists)
    patrol = Patrol(desk, tmp_path / "looks")
    yield patrol
    patrol.process.kill()
    patrol.process.wait()


def test_a_patrol_and_an_agent_that_were_frozen_for_longer_than_every_limit_accuse_nobody(
    desk: Desk, patrol: Patrol
) -> None:
    patrol.looks_again()
    pane = desk.pane()
    assert pane is not None
    agent = psutil.Process(pane.pane_pid).children()[0]
    agent.suspend()
    patrol.process.send_signal(signal.SIGSTOP)
    time.sleep(SHORT.polecat_timeout_s + SHORT.grace_s + 2)  # the freeze itself
    patrol.process.send_signal(signal.SIGCONT)
    patrol.looks_again(1)
    agent.resume()
    patrol.looks_again(20)
    assert [look["observations"] for look in patrol.looks() if look["observations"]] == []
    assert {look["health"]["sh-1"]["diagnosis"]["kind"] for look in patrol.looks()} == {"healthy"}


def test_a_patrol_that_was_frozen_sees_at_once_who_died_meanwhile(desk: Desk, patrol: Patrol) -> None:
    patrol.looks_again()
    patrol.process.send_signal(signal.SIGSTOP)
    pane = desk.pane()
    assert pane is not None
    os.kill(pane.pane_pid, signal.SIGKILL)
    patrol.process.send_signal(signal.SIGCONT)
    eventually(lambda: patrol.looks()[-1]["observations"])
    assert [seen["kind"] for seen in patrol.looks()[-1]["observations"]] == ["died"]
