"""Run a program so that nothing of it outlives it: no daemon, no tmux server, no file.

The program gets a scratch folder as TMPDIR and TMUX_TMPDIR. This process adopts what the program's
children leave behind (PR_SET_CHILD_SUBREAPER; Linux), so that a town's detached supervisor is found
and killed however the program ends: by itself, too late, or because SIGINT, SIGTERM or SIGHUP
reached this process. Elsewhere only what the program still holds as a child is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class TimedOut(Exception):
    """The program took too long and was ended."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first ending signal raises Interrupted; later ones are ignored: nothing interrupts the clean-up."""

    def interrupt(number: int, _: FrameType | None) -> None:
        for one in _ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_contained(argv: Sequence[str], log: Path, limit_s: float) -> int:
    """Run `argv`, all that it prints in `log`, and end all that it started; its exit code (negative: the signal).

    Raises:
        TimedOut: it did not end within `limit_s`.
    """
    _adopt_orphans()
    folder = tempfile.mkdtemp(prefix="gt-bench-")
    env = {**os.environ, "TMPDIR": folder, "TMUX_TMPDIR": folder}
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        with _limit(limit_s):
            return _wait(process)
    finally:
        _end_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the program, and meanwhile for every orphan: a zombie would count as a process that still lives."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode


@contextlib.contextmanager
def _limit(limit_s: float) -> Iterator[None]:
    def expire(_: int, __: FrameType | None) -> None:
        raise TimedOut(f"not ended after {limit_s:.0f} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _end_descendants() -> None:
    """Kill every descendant; what a killed one leaves becomes this process's child and is killed next."""
    while True:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
