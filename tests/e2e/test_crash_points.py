"""Every durable step of the main path of one job, with the worker killed right there.

A town has one job or two. Each worker is started armed to kill itself at one point, and when it has done so the next
one is armed for a later point on that job's way; in the end the job must be merged exactly once.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from activities.crash_points import JOB_POINTS
from services.supervisor.programs import temporal_settings
from tests.e2e.living_town import BIN, QUICK, git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.pace import DEADLINE_S


@dataclass(frozen=True)
class Way:
    """Points in the order in which a job gets to them, and what its agent does beside its work."""

    points: tuple[str, ...]
    before: str = "true"
    after: str = ""


ASKS = "gt escalate 'which way?' || true"
WAYS: dict[str, tuple[Way, ...]] = {
    # A step of several points is killed at each of them by another job: its retries come ever later.
    "merged": (
        Way(
            points=(
                *("attempt.worktree_ready", "work.verified", "chain.fetched", "gate.checked_out", "gate.finished"),
                *("land.pushed", "land.branches_deleted", "worktree.parked", "ledger.committed"),
            ),
            after=" && echo left > leftover.txt",
        ),
    ),
    "merged too": (
        Way(
            points=(
                *("attempt.folder_written", "work.pushed", "chain.built", "gate.started", "land.before_push"),
                *("land.verified", "land.confirmed", "worktree.released", "ledger.before_commit"),
            ),
        ),
    ),
    "asked and ended": (
        # Its session ends while its work is merged, and whoever is called hears of it while the job goes on.
        Way(
            points=(
                *("attempt.session_started", "mayor.told", "work.intent_settled"),
                *("session.evidence_saved", "session.ended"),
            ),
            before=ASKS,
        ),
        Way(points=("notice.logged",), before=ASKS),
    ),
}
"""By town."""


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

    def start_worker(self, point: str | None) -> subprocess.Popen[bytes]:
        """One that kills itself at the point, if any."""
        armed = {} if point is None else {"GT_CRASH_MARK": str(self.mark(point)), "GT_CRASH_POINT": point}
        with self.log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "worker", "--town", str(self.root)],
                cwd=self.folder, env={**self.env, **armed}, stdout=stream, stderr=stream,
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
            # What is to be parked is left after `gt done`: a busy machine's session lives on long enough for that.
            town.configure(QUICK | {"session.done_grace": 10})
            town.add_rig()
            yield town
        finally:
            subprocess.run(["tmux", "-L", town.tmux_socket(), "kill-server"], env=town.env, check=False)
            temporal.kill()
            temporal.wait()


@pytest.mark.document("1: 每个操作可安全重试")
@pytest.mark.parametrize("name", WAYS)
def test_a_worker_killed_at_any_durable_step_still_lands_the_job_exactly_once(
    bare_town: BareTown, name: str, record_property: Callable[[str, object], None]
) -> None:
    for number, way in enumerate(WAYS[name]):
        kill_along(bare_town, way, number)
    points = sum(len(way.points) for way in WAYS[name])
    record_property("crash_points", (points, sum(1 for _ in bare_town.folder.glob("*.mark"))))


def test_each_point_on_a_job_s_way_is_killed_at_once() -> None:
    assert sorted(point for ways in WAYS.values() for way in ways for point in way.points) == sorted(JOB_POINTS)


def heads(town: BareTown) -> list[str]:
    return git(town.remote, "for-each-ref", "--format=%(refname)", "refs/heads").split()


def ended(worker: subprocess.Popen[bytes]) -> bool:
    return worker.poll() is not None


def kill_along(town: BareTown, way: Way, number: int) -> None:
    """A job whose worker dies at each of the points in turn, and which the last worker finishes."""
    agent = shell_agent(file=f"f{number}.py", before=way.before, after=f"gt done{way.after}")
    bead = town.bead(f"killed along {way.points}")
    worker = town.start_worker(way.points[0])
    try:
        with ThreadPoolExecutor(1) as pool:
            # The worker may die before it has answered: a later one does.
            slung = pool.submit(town.sling, bead, agent)
            for point, following in zip(way.points, (*way.points[1:], None), strict=True):
                try:
                    wait_until(f"the worker to die at {point}", partial(ended, worker))
                finally:
                    worker.kill()
                    code, worker = worker.wait(), town.start_worker(following)
                log = town.log.read_text()[-3000:]
                assert (code, town.mark(point).exists()) == (-signal.SIGKILL, True), f"{point}: ended {code}\n{log}"
            slung.result()
        town.wait_closed(bead)
        wait_until("the session to end", lambda: town.sessions() == [])
        wait_until("main alone to be left", lambda: heads(town) == ["refs/heads/main"])
        assert len(town.landed(bead)) == 1
    finally:
        worker.terminate()
        worker.wait(DEADLINE_S)
