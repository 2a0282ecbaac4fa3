"""Telling one process from another: a pid alone may have been given to somebody else."""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from pathlib import Path
from typing import TypeVar

import psutil
from pydantic import Field, ValidationError

from models.base import Frozen
from services.atomic_files import write_whole

R = TypeVar("R", bound=Frozen)
_PR_SET_DUMPABLE = 4
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
"""number of the system call, by machine"""
_JOIN_SESSION_KEYRING = 1


class Birth(Frozen):
    """A process for good: its pid and the moment it started, by the kernel's clock."""

    pid: int = Field(gt=0)
    started: float
    """seconds since the epoch, as psutil gives it"""

    @staticmethod
    def of(pid: int) -> Birth | None:
        """The process that has `pid` now, or None (a zombie counts as gone)."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return Birth(pid=pid, started=process.create_time())
        except psutil.Error:
            return None

    def lives(self) -> bool:
        """Whether this very process runs; create times may differ by clock ticks after a clock change."""
        now = Birth.of(self.pid)
        return now is not None and abs(now.started - self.started) < 1.0

    def end(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; returns when it is gone. Nothing if it is not this process."""
        try:
            process = psutil.Process(self.pid)
            if not self.lives():
                return
            process.terminate()
            try:
                process.wait(grace_s)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
        except psutil.NoSuchProcess:
            return


def forbid_tracing() -> None:
    """Keep other processes of this user, agents and gates among them, out of this one's memory and environment.

    Linux alone; until the next exec. Nobody but root reads `/proc/PID/environ`, `cwd` and `fd` from then on.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def leave_keyring() -> None:
    """Have a session keyring of one's own, empty, for this process and all that it starts.

    The kernel hands keys of the login that a process descends from (Kerberos tickets, keys of encrypted disks) down to
    all of its children, whatever namespaces they have. Linux alone; where the kernel keeps no keys there are none.
    """
    number = _KEYCTL.get(platform.machine())
    if sys.platform == "linux" and number is not None:
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


def write_record(path: Path, record: Frozen) -> None:
    """Replace `path` by `record`, whole."""
    write_whole(path, record.model_dump_json() + "\n")


def read_record(path: Path, kind: type[R]) -> R | None:
    """What `write_record` wrote, or None where there is nothing that can be understood."""
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
