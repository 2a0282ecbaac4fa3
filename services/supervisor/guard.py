"""Becomes a program that holds a lock for its whole life and dies with its supervisor.

    python -m services.supervisor.guard --lock FILE [--parent-pid-file FILE] [--no-secrets] -- program argument…

- The flock on FILE is inherited across exec and ends with the program, however that dies, so two
  servers never share a directory. When it is held by a leftover of ours (its pid and start time are in
  FILE.json), that one is given ten seconds and then ended.
- PR_SET_PDEATHSIG makes the kernel kill the program when its supervisor dies (Linux; elsewhere the lock
  alone keeps a second one out). `--parent-pid-file` closes the gap before that is set: a guard whose
  parent is no longer the supervisor in that file ends at once.
- No program gets the variables that say where supervisord listens; with `--no-secrets` it gets no credentials of the
  environment either (models/secret_variables.py).
- A program that keeps failing is started again with a growing delay, but never more than five seconds
  apart. supervisord counts neither starts nor backoff (`startsecs=0`): its own backoff grows
  without bound, and after `startretries` it gives up silently.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from models.errors import ErrorCode, GtError
from models.secret_variables import needless_for_a_server
from services.locks import locked_within, open_lock
from services.supervisor.processes import Birth, read_record, write_record

LEFTOVER_WAIT_S = 10.0
LEFTOVER_GRACE_S = 5.0
STEADY_S = 10.0
"""A program that ran this long was well: the delay starts anew."""
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0
_PR_SET_PDEATHSIG = 1
_entered: list[io.FileIO] = []
"""locks of this process until it ends"""


class Tenancy(Birth):
    """What FILE.json says of the program under the lock."""

    starts: int = 1
    """how often the program was started since `gt up`"""
    failures: int = 0
    """short lives in a row before this one"""

    def unsteady(self, clock: float) -> bool:
        """Whether the program has ended soon after its start at least twice and has not been well since."""
        return self.failures >= 2 and clock - self.started < STEADY_S + delay_s(self.failures)


def record_path(lock: Path) -> Path:
    return lock.with_name(lock.name + ".json")


def tenant(lock: Path) -> Tenancy | None:
    """Who holds `lock`, or held it last; ask `.lives()`."""
    return read_record(record_path(lock), Tenancy)


def hold(lock: Path, wait_s: float = LEFTOVER_WAIT_S) -> io.FileIO:
    """Take `lock` for this process until the file is closed; it stays open across exec.

    Raises:
        GtError: REFUSED when it stays held by a process that is not known to be ours.
    """
    held = open_lock(lock)
    if not locked_within(held, wait_s):
        leftover = tenant(lock)
        if leftover is not None:
            leftover.end(LEFTOVER_GRACE_S)
        if not locked_within(held, 2.0):
            held.close()
            raise GtError(ErrorCode.REFUSED, f"{lock} is held by a process that is not ours", f"fuser {lock}")
    os.set_inheritable(held.fileno(), True)
    return held


def enter(lock: Path) -> None:
    """Hold `lock` until this process ends, in a program that may run under a guard already, or was started by hand.

    Raises:
        GtError: REFUSED when another process holds it; that one is left alone.
    """
    before = tenant(lock)
    me = Birth.of(os.getpid())
    assert me is not None, "this process exists"
    if before is not None and before.pid == me.pid and before.lives():
        return
    held = open_lock(lock)
    if not locked_within(held, 0.0):
        held.close()
        who = f" (pid {before.pid})" if before is not None and before.lives() else ""
        raise GtError(ErrorCode.REFUSED, f"another process{who} holds {lock}", "gt status")
    _entered.append(held)
    write_record(record_path(lock), Tenancy(pid=me.pid, started=me.started))


def die_with_parent(parent_pid_file: Path | None) -> None:
    """Ask the kernel for SIGKILL when the parent dies; end now if it has died already."""
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    expected = parent if parent_pid_file is None else _pid_in(parent_pid_file)
    if os.getppid() != expected:
        raise GtError(ErrorCode.REFUSED, "the supervisor that started this is gone", "gt up")


def _pid_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return -1


def settle_in(lock: Path, clock: float) -> float:
    """Write down that the program starts now; returns how long to wait first, in seconds.

    Args:
        lock: the lock that this process holds.
        clock: the time now, in seconds since the epoch.
    """
    before = tenant(lock)
    born = Birth.of(os.getpid())
    assert born is not None, "this process exists"
    starts = failures = 0
    if before is not None:
        starts = before.starts
        failures = before.failures + 1 if clock - before.started < STEADY_S + delay_s(before.failures) else 0
    write_record(record_path(lock), Tenancy(pid=born.pid, started=born.started, starts=starts + 1, failures=failures))
    return delay_s(failures)


def delay_s(failures: int) -> float:
    """How long to wait before the start that follows `failures` short lives; the first restart is at once."""
    return 0.0 if failures <= 1 else min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 2, 16))


def program_environment(inherited: Mapping[str, str], *, no_secrets: bool) -> dict[str, str]:
    """What the guarded program gets of the supervisor's environment."""
    if no_secrets:
        return {name: value for name, value in inherited.items() if not needless_for_a_server(name, value)}
    return {name: value for name, value in inherited.items() if not name.startswith("SUPERVISOR_")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Become a program under a lock; it dies with its supervisor.")
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--parent-pid-file", type=Path)
    parser.add_argument("--no-secrets", action="store_true", help="withhold the environment's credentials")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    program = shutil.which(options.argv[0])
    try:
        die_with_parent(options.parent_pid_file)
        with hold(options.lock):
            time.sleep(settle_in(options.lock, time.time()))
            if program is None:
                raise GtError(ErrorCode.PROGRAM_MISSING, f"{options.argv[0]} is not installed")
            environment = program_environment(os.environ, no_secrets=options.no_secrets)
            os.execve(program, options.argv, environment)  # noqa: S606
    except GtError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
