"""A benchmark leaves no process, tmux server or file behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.living_town import wait_until
from tests.pace import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
# A town in small: a daemon in a session of its own that ignores SIGTERM, a tmux server, a folder.
LEAVES_ALL = """
import os, signal, subprocess, sys, tempfile, time
mark, end = sys.argv[1:]
tempfile.mkdtemp(prefix="town-")
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        daemon = subprocess.Popen([sys.executable, "-c", stubborn, mark], stdout=subprocess.PIPE)
        daemon.stdout.readline()
        open(os.environ["TMPDIR"] + "/up", "w").close()
        os._exit(0)
    os._exit(0)
while not os.path.exists(os.environ["TMPDIR"] + "/up"):
    time.sleep(0.02)
subprocess.run(["tmux", "-L", mark, "-f", "/dev/null", "new-session", "-d", f"exec sleep 600.{mark[4:]}"], check=True)
open(os.environ["TMPDIR"] + "/ready", "w").close()
if end == "fails":
    sys.exit(3)
if end == "waits":
    time.sleep(600)
"""
RUN = """
import sys
from pathlib import Path
from benchmarks.contained import Interrupted, TimedOut, interruptible, run_contained
try:
    with interruptible():
        code = run_contained([sys.executable, *sys.argv[3:]], Path(sys.argv[1]), float(sys.argv[2]))
except Interrupted as error:
    code = error.exit_code
except TimedOut:
    code = 99
sys.exit(code)
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Short, as sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="gt-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("end", "number", "limit_s", "code"),
    [
        ("ends", None, 300, 0),
        ("fails", None, 300, 3),
        ("waits", None, 5, 99),
        ("waits", signal.SIGINT, 300, 130),
        ("waits", signal.SIGTERM, 300, 143),
        ("waits", signal.SIGHUP, 300, 129),
    ],
)
def test_nothing_outlives_a_benchmark(
    end: str, number: signal.Signals | None, limit_s: float, code: int, tmp_path: Path, scratch: Path
) -> None:
    mark = f"gtb-{os.getpid()}{abs(hash(tmp_path.name)) % 100_000}"
    program = tmp_path / "program.py"
    program.write_text(LEAVES_ALL)
    runner = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "log"), str(limit_s), str(program), mark, end],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    if number is not None:
        wait_until("the program to wait", lambda: list(scratch.glob("*/ready")) or runner.poll() is not None)
        runner.send_signal(number)
    runner.wait(timeout=DEADLINE_S)
    assert runner.returncode == code, (tmp_path / "log").read_text()
    assert living_with(mark) == []
    assert list(scratch.iterdir()) == []


def living_with(mark: str) -> list[list[str]]:
    """Command lines that name the mark or, of the tmux session, its number."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if mark in words or f"600.{mark[4:]}" in words:
            found.append(process.info["cmdline"])
    return found
