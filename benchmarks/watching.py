"""What watching costs, and how soon it notices: the real scanner on real tmux sessions in real worktrees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from activities.git.worktree.worktrees import Worktrees
from activities.sessions.attempts import AttemptActivities
from activities.sessions.progress import PACE
from activities.sessions.scanner import Scanner
from activities.sessions.tmux import Tmux
from activities.sessions.watching import WatchActivities
from models.job.attempts import StartAttempt, WatchRig
from models.job.health import Thresholds
from models.job.messages import ObservationKind
from models.ledger.records import Rig
from models.settings import HealthSettings
from models.town import TownPaths

QUIET = "exec sleep 100000"
FILES = 200
"""in the repository of the quiet sessions"""
WATCHED_AT_KILLS = 10
"""sessions that live while one is killed"""
SEED = 20
ROOT = Path(__file__).resolve().parent.parent


def measure(seconds: float = 60, sessions: tuple[int, ...] = (50, 200), kills: int = 10) -> dict[str, Any]:
    """CPU in percent of one core, memory in MB, subprocesses a second by number of quiet sessions; latencies in s."""
    figures: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}}
    for number in sessions:
        with _host() as host:
            host.start(number)
            figures[f"{number} quiet sessions"] = host.quiet(seconds)
    with _host() as host:
        host.start(min(WATCHED_AT_KILLS, max(sessions)))
        figures["noticed after"] = asyncio.run(host.kill_and_notice(kills))
    return figures


class Host:
    """A town's sessions without the town: one rig, one polecat a bead."""

    def __init__(self, folder: Path) -> None:
        self.paths = TownPaths(folder / "town")
        self.tmux = Tmux(f"gt-bench-{os.getpid()}-{time.monotonic_ns()}")
        url = _repository(folder / "remote.git")
        self.rig = Rig(name="shop", url=url, prefix="sh", branch="main", created_at=datetime.now(UTC))
        self.attempts = AttemptActivities(self.paths, self.tmux, Worktrees(self.paths))
        self.current: dict[int, int] = {}
        """attempt by number of the session"""

    def start(self, sessions: int) -> None:
        for number in range(sessions):
            self.restart(number)

    def restart(self, number: int) -> None:
        """The next attempt of one session."""
        attempt = self.current[number] = self.current.get(number, 0) + 1
        request = StartAttempt(
            rig=self.rig, bead=f"sh-{number}", title="Quiet", description="", polecat=f"toast{number}",
            attempt=attempt, agent=QUIET,
        )  # fmt: skip
        self.attempts.start_attempt(request)

    # --- quiet ------------------------------------------------------------------------------------

    def quiet(self, seconds: float) -> dict[str, Any]:
        """Watch from a process of its own, so that its cost is its own."""
        argv = [sys.executable, "-m", "benchmarks.watching", str(self.paths.root), self.tmux.socket, str(seconds)]
        server = psutil.Process(self._server_pid())
        before = server.cpu_times()
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
        after = server.cpu_times()
        figures: dict[str, Any] = json.loads(done.stdout)
        spent = after.user + after.system - before.user - before.system
        cpu = figures["cpu_percent"] | {"tmux server": round(100 * spent / figures["seconds"], 2)}
        figures["cpu_percent"] = cpu | {"together": round(sum(cpu.values()), 2)}
        figures["memory_mb"] |= {"tmux server": round(server.memory_info().rss / 1e6, 1)}
        return figures

    # --- kills ------------------------------------------------------------------------------------

    async def kill_and_notice(self, times: int) -> dict[str, Any]:
        chance = random.Random(SEED)
        watch = WatchActivities(Scanner(self.paths, self.tmux, "h1"))
        ways: dict[str, Callable[[int], object]] = {
            "agent": lambda number: os.kill(self.tmux.panes()[f"shop--toast{number}"].pane_pid, signal.SIGKILL),
            "pane": lambda number: self._tmux("kill-pane", "-t", f"=shop--toast{number}:"),
            "session": lambda number: self._tmux("kill-session", "-t", f"=shop--toast{number}:"),
            "tmux server": lambda _: os.kill(self._server_pid(), signal.SIGKILL),
        }
        figures = {}
        for what, kill in ways.items():
            waits = [await self._kill_once(watch, what, kill, chance) for _ in range(times)]
            waits.sort()
            figures[what] = {
                "p50_s": round(statistics.median(waits), 2),
                "p99_s": round(waits[min(len(waits) - 1, int(0.99 * len(waits)))], 2),
                "times": times,
            }
        return figures

    async def _kill_once(
        self, watch: WatchActivities, what: str, kill: Callable[[int], object], chance: random.Random
    ) -> float:
        number = chance.randrange(len(self.current))
        victims = set(self.current) if what == "tmux server" else {number}
        watching = asyncio.create_task(watch.watch_rig(WatchRig(rig="shop", host="h1", interval_s=600)))
        await asyncio.sleep(1 + chance.random())  # any moment between two looks
        await asyncio.to_thread(kill, number)
        killed = time.monotonic()
        report = await watching
        took = time.monotonic() - killed
        told = {one.bead for one in report.observations if one.kind is ObservationKind.DIED}
        if told != {f"sh-{victim}" for victim in victims}:
            raise RuntimeError(f"{what}: {victims} were killed and {told} were noticed")
        for victim in victims:
            await asyncio.to_thread(self.restart, victim)
        return took

    def _server_pid(self) -> int:
        return int(self._tmux("display-message", "-p", "#{pid}"))

    def _tmux(self, *argv: str) -> str:
        done = subprocess.run(["tmux", "-L", self.tmux.socket, *argv], capture_output=True, text=True, check=True)
        return done.stdout.strip()


@contextlib.contextmanager
def _host() -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="gt-bench-"))
    host = Host(folder)
    try:
        yield host
    finally:
        with contextlib.suppress(Exception):  # the figure is out; what is left is only this benchmark's own
            host.tmux.kill_server()
        shutil.rmtree(folder, ignore_errors=True)


def _repository(path: Path) -> str:
    """A bare repository with one commit of some files."""
    work = path.parent / "seed"
    work.mkdir()
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.com"]

    def git(*argv: str) -> None:
        subprocess.run(["git", *identity, *argv], cwd=work, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    for number in range(FILES):
        file = work / f"part{number % 20}" / f"file{number}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"value = {number}\n")
    git("add", ".")
    git("commit", "-q", "-m", "Parts")
    git("clone", "-q", "--bare", ".", str(path))
    return str(path)


# --- the watching process ---------------------------------------------------------------------------


async def _watch(root: str, socket: str, seconds: float) -> dict[str, Any]:
    """Rounds as a Witness asks for them, for so long; what they cost this process."""
    started: list[str] = []
    sys.addaudithook(lambda event, arguments: started.append(arguments[0]) if event == "subprocess.Popen" else None)
    watch = WatchActivities(Scanner(TownPaths(Path(root)), Tmux(socket), "h1"))
    # Twice in the measured time each tree is read: with the default limit it would be once in 180 s.
    limits = Thresholds.of(HealthSettings()).model_copy(update={"stuck_timeout_s": seconds / 2 / PACE})
    order = WatchRig(rig="shop", host="h1", interval_s=min(60.0, seconds), thresholds=limits)
    await watch.watch_rig(order.model_copy(update={"interval_s": 3.0}))  # the first look reads every tree once
    started.clear()
    process, began = psutil.Process(), time.monotonic()
    before, report = process.cpu_times(), None
    while time.monotonic() - began < seconds:
        report = await watch.watch_rig(order)
        order = order.model_copy(update={"carried": report.health})
    took, after = time.monotonic() - began, process.cpu_times()
    assert report is not None

    def percent(spent: float) -> float:
        return round(100 * spent / took, 2)

    return {
        "seconds": round(took, 1),
        "living": len(report.living),
        "cpu_percent": {
            "scanner": percent(after.user + after.system - before.user - before.system),
            "its subprocesses": percent(
                after.children_user + after.children_system - before.children_user - before.children_system
            ),
        },
        "memory_mb": {"scanner": round(process.memory_info().rss / 1e6, 1)},
        "subprocesses_per_s": round(len(started) / took, 2),
        "trees_read": sum(program != "tmux" for program in started),
        "report_kb": round(len(report.model_dump_json()) / 1000, 1),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_watch(sys.argv[1], sys.argv[2], float(sys.argv[3])))))
