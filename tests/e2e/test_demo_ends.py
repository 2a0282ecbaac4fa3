"""`gt demo` that is told to end takes its town with it, and one that cannot go on says so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.errors import ExitCode
from tests.e2e.living_town import BIN, wait_until
from tests.pace import DEADLINE_S


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Short, as sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="gt-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("number", "reached"),
    [
        # While `gt up` starts the services, and while agents are at work.
        (signal.SIGTERM, "*/town/run/supervisord.pid"),
        (signal.SIGINT, "*/stage/*"),
    ],
)
def test_an_interrupted_demonstration_leaves_nothing_behind(
    number: signal.Signals, reached: str, scratch: Path
) -> None:
    demo = subprocess.Popen(
        [str(BIN / "gt"), "demo"], env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True
    )
    wait_until(f"{reached} of the demonstration", lambda: list(scratch.glob(reached)))
    demo.send_signal(number)
    _, said = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == ExitCode.INTERRUPTED, said
    assert list(scratch.iterdir()) == []
    wait_until("every process to be gone", lambda: processes_of(scratch) == [])


def test_a_demonstration_whose_town_does_not_start_fails_and_says_why(scratch: Path) -> None:
    programs = scratch / "programs"
    programs.mkdir()
    git = shutil.which("git")
    assert git is not None
    (programs / "git").symlink_to(git)
    env = {**os.environ, "TMPDIR": str(scratch), "PATH": str(programs)}
    done = subprocess.run([str(BIN / "gt"), "demo"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.FAILED
    assert "tmux is not installed" in done.stderr
    assert list(scratch.iterdir()) == [programs]


def processes_of(folder: Path) -> list[list[str]]:
    """Command lines of the processes that work in the folder, or were started with it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "environ"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or "", *(process.info["environ"] or {}).values()]
        if any(str(folder) in word for word in words):
            found.append(process.info["cmdline"])
    return found
