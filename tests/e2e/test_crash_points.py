"""Every durable step of the main path of one job, with the worker killed right there.

One town serves several points. For each the worker is armed to kill itself when it gets there, with a
job of the point's own; another worker is started after it, and the job must still be merged exactly once.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from activities.crash_points import JOB_POINTS
from services.supervisor.programs import temporal_settings
from services.worker.readiness import last_worker
from tests.e2e import armed_worker
from tests.e2e.living_town import BIN, QUICK, git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.pace import DEADLINE_S

SHARES = 4
"""Towns that share the points, side by side: most of a point's time is waiting."""


ASKED = frozenset({"mayor.told", "notice.logged", "work.intent_settled"})
"""what a call for help leads to; the intent of accepted work needs no settling"""


class BareTown(QuickTown):
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
        wait_until("Temporal to listen", lambda: _listens(int(temporal["port"])))
        return process

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"

    def mark(self, point: str) -> Path:
        """There once a worker has died at the point."""
        return self.folder / f"{point}.mark"

    def start_worker(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", armed_worker.__spec__.name, "--town", str(self.root)],
                cwd=self.folder, env=self.env, stdout=stream, stderr=stream,
            )  # fmt: skip

    def arm(self, worker: subprocess.Popen[bytes], point: str) -> None:
        """Have this worker, which is at work, kill itself at the point."""

        def at_work() -> bool:
            ready = last_worker(self.town)
            return ready is not None and ready.pid == worker.pid

        wait_until("the worker to be at work", at_work)
        armed_worker.arm(self.folder, {"GT_CRASH_MARK": str(self.mark(point)), "GT_CRASH_POINT": point}, worker.pid)
        wait_until("the worker to be armed", lambda: not (self.folder / armed_worker.ORDER).exists())


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
            town.configure(QUICK)
            town.add_rig()
            yield town
        finally:
            subprocess.run(["tmux", "-L", town.tmux_socket(), "kill-server"], env=town.env, check=False)
            temporal.kill()
            temporal.wait()


def agent_of(point: str, number: int) -> str:
    """An agent whose job gets there: it asks the Mayor for help, or leaves work to be parked."""
    ask = "gt escalate 'which way?'" if point in ASKED else "true"
    leave = " && echo left > leftover.txt" if point == "worktree.parked" else ""
    return shell_agent(file=f"f{number}.py", before=f"{ask} || true", after=f"gt done{leave}")


@pytest.mark.document("1: 每个操作可安全重试")
@pytest.mark.parametrize("share", range(SHARES))
def test_a_worker_killed_at_any_durable_step_still_lands_the_job_exactly_once(
    bare_town: BareTown, share: int, record_property: Callable[[str, object], None]
) -> None:
    points = JOB_POINTS[share::SHARES]
    worker = bare_town.start_worker()
    passed = 0
    try:
        for number, point in enumerate(points):
            # What is to be parked is left after `gt done`: a busy machine's session lives on long enough for that.
            bare_town.configure(QUICK | ({"session.done_grace": 10} if point == "worktree.parked" else {}))
            bare_town.arm(worker, point)
            worker = crash_here(bare_town, worker, point, number)
            passed += 1
    finally:
        if worker.poll() is None:
            worker.terminate()
            worker.wait(DEADLINE_S)
    record_property("crash_points", (len(points), passed))
    assert passed == len(points)


def heads(town: BareTown) -> list[str]:
    return git(town.remote, "for-each-ref", "--format=%(refname)", "refs/heads").split()


def crash_here(town: BareTown, armed: subprocess.Popen[bytes], point: str, number: int) -> subprocess.Popen[bytes]:
    """A job whose worker dies at the point; returns the worker that has finished it."""
    bead = town.bead(f"killed at {point}")
    with ThreadPoolExecutor(1) as pool:
        # The worker may die before it has answered: the one after it does.
        slung = pool.submit(town.sling, bead, agent_of(point, number))
        try:
            wait_until(f"the worker to die at {point}", lambda: armed.poll() is not None)
        finally:
            armed.kill()
            armed.wait()
            following = town.start_worker()
        slung.result()
    try:
        assert armed.returncode == -signal.SIGKILL, f"{point}: ended {armed.returncode}\n{town.log.read_text()[-3000:]}"
        assert town.mark(point).exists()
        town.wait_closed(bead)
        assert len(town.landed(bead)) == 1, f"{point}: landed {town.landed(bead)}"
        wait_until("the session to end", lambda: town.sessions() == [])
        wait_until(f"{point}: main alone to be left", lambda: heads(town) == ["refs/heads/main"])
    except BaseException:
        following.kill()
        following.wait()
        raise
    return following
