"""Every durable step of the main path of one job, with the worker killed right there.

One town serves all points. For each point a worker is started that kills itself when it gets
there; another worker is started after it; the job must still be merged exactly once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from activities.crash_points import JOB_POINTS
from services.programs import temporal_settings
from tests.e2e.living_town import BIN, LivingTown, git, shell_agent, wait_until

pytestmark = pytest.mark.timeout(900)

SHARES = 4
"""Towns that share the points, side by side: most of a point's time is waiting."""


class BareTown(LivingTown):
    """A town whose Temporal and worker belong to the test, so that it can arm the worker."""

    def start_temporal(self) -> subprocess.Popen[bytes]:
        temporal = tomllib.loads((self.root / "town.toml").read_text())["temporal"]
        process = subprocess.Popen(
            [
                str(BIN / "temporal"), "server", "start-dev", "--headless", "--ip", "127.0.0.1",
                "--port", str(temporal["port"]), "--namespace", temporal["namespace"], "--log-level", "error",
                *temporal_settings(),
            ],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until("Temporal to listen", lambda: _listens(int(temporal["port"])), 30)
        return process

    def start_worker(self, log: Path, **extra: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "worker", "--town", str(self.root)],
                cwd=self.folder, env={**self.env, **extra}, stdout=stream, stderr=stream,
            )  # fmt: skip


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def bare_town() -> Iterator[BareTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        town = BareTown(Path(folder))
        town.init()
        temporal = town.start_temporal()
        try:
            town.add_rig()
            yield town
        finally:
            subprocess.run(["tmux", "-L", town.tmux_socket(), "kill-server"], env=town.env, check=False)
            temporal.kill()
            temporal.wait()


def agent_of(point: str, number: int) -> str:
    """The agent asks for help first, so that the Mayor's step is on the path; one leaves work to be parked."""
    leave = " && echo left > leftover.txt" if point == "worktree.parked" else ""
    return shell_agent(file=f"f{number}.py", before="gt escalate 'which way?' || true", after=f"gt done{leave}")


@pytest.mark.document("1: 每个操作可安全重试")
@pytest.mark.parametrize("share", range(SHARES))
def test_a_worker_killed_at_any_durable_step_still_lands_the_job_exactly_once(
    bare_town: BareTown, share: int, record_property: Callable[[str, object], None]
) -> None:
    points = JOB_POINTS[share::SHARES]
    passed = 0
    for number, point in enumerate(points):
        crash_here(bare_town, point, number)
        passed += 1
    record_property("crash_points", (len(points), passed))
    assert passed == len(points)


def crash_here(town: BareTown, point: str, number: int) -> None:
    log, mark = town.folder / f"{point}.log", town.folder / f"{point}.mark"
    armed = town.start_worker(log, GT_CRASH_POINT=point, GT_CRASH_MARK=str(mark))
    second = None
    try:
        bead = town.bead(f"killed at {point}")
        slung = wait_until_slung(town, bead, agent_of(point, number), armed)
        wait_until(f"the worker to die at {point}", lambda: armed.poll() is not None, 90)
        assert armed.returncode == -signal.SIGKILL, f"{point}: ended {armed.returncode}\n{log.read_text()[-3000:]}"
        assert mark.exists()
        second = town.start_worker(log)
        if not slung:
            wait_until_slung(town, bead, agent_of(point, number), second)
        town.wait_closed(bead, 90)
        assert len(town.landed(bead)) == 1, f"{point}: landed {town.landed(bead)}"
        wait_until("the session to end", lambda: town.sessions() == [], 30)
        branches = git(town.remote, "for-each-ref", "--format=%(refname)", "refs/heads").split()
        assert branches == ["refs/heads/main"], f"{point}: left {branches}"
    finally:
        for worker in (armed, second):
            if worker is not None and worker.poll() is None:
                os.kill(worker.pid, signal.SIGTERM)
                worker.wait(30)


def wait_until_slung(town: BareTown, bead: str, agent: str, worker: subprocess.Popen[bytes]) -> bool:
    """Sling; False if the worker died before it could answer."""

    def slung() -> bool:
        if worker.poll() is not None:
            return True
        return town.run("gt", "sling", bead, "shop", "--agent", agent, expect=None).returncode == 0

    wait_until(f"{bead} to be slung", slung, 60)
    return worker.poll() is None
