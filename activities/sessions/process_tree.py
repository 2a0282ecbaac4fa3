"""Ending everything that a session started, by process identity and never by name.

A process counts as the session's when it descends from the pane's process, shares its kernel
session, or carries the session's mark in its environment (a daemon that left both). psutil
compares creation times before each signal, so a recycled pid is never hit.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import Final

import psutil

TERM_GRACE_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""

_ROUNDS: Final = 5
"""Sweeps for children that were born while their parents were ended."""


def end_processes(pane_pids: Iterable[int], mark: tuple[str, str] | None) -> int:
    """SIGTERM, then SIGKILL, to all processes of a session.

    Args:
        pane_pids: processes of living panes (a dead pane's pid may be somebody else's by now).
        mark: an environment variable and its value that only this session's processes carry.

    Returns:
        How many processes were ended.
    """
    roots = frozenset(pane_pids)
    victims = _members(roots, mark)
    count = len(victims)
    _signal(victims, force=False)
    _wait_until_gone(victims)
    for _ in range(_ROUNDS):
        left = [process for process in {*victims, *_members(roots, mark)} if _is_alive(process)]
        if not left:
            break
        count += len(set(left) - set(victims))
        victims = left
        _signal(left, force=True)
        _wait_until_gone(left)
    return count


def prompt_reaping(pid: int) -> bool:
    """Remind the parent of a process that has ended to ask how it did. False: it has not ended, or was asked already.

    tmux 3.3 misses about one in twenty of those that end right after their start, for as long as no other child
    ends. The reminder is SIGCHLD, which does nothing to a process that does not wait for it.
    """
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        os.kill(process.ppid(), signal.SIGCHLD)
    except (psutil.Error, OSError):  # gone meanwhile, or not ours
        return False
    return True


def _wait_until_gone(processes: list[psutil.Process]) -> None:
    """Not psutil.wait_procs: that waits its whole time for what is dead but not reaped yet."""
    deadline = time.monotonic() + TERM_GRACE_S
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _members(roots: frozenset[int], mark: tuple[str, str] | None) -> list[psutil.Process]:
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = member
        except psutil.NoSuchProcess:
            continue
    for process in psutil.process_iter():
        if process.pid not in found and (_kernel_session(process.pid) in roots or _is_marked(process, mark)):
            found[process.pid] = process
    return [process for pid, process in found.items() if pid not in ours and _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kernel_session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _is_marked(process: psutil.Process, mark: tuple[str, str] | None) -> bool:
    if mark is None:
        return False
    try:
        return bool(process.environ().get(mark[0]) == mark[1])
    except (psutil.Error, OSError):
        return False


def _signal(processes: Iterable[psutil.Process], *, force: bool) -> None:
    for process in processes:
        try:
            if force:
                process.kill()
            else:
                process.terminate()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
