"""Ending everything that a session started, by process identity and never by name.

A process counts as the session's when it descends from the pane's process, shares its kernel session, or carries the
session's mark in its environment. A daemon can leave all three (`env -i setsid server`). What has left them and still
stands in the attempt's worktree, by its working directory or its program's file, is the session's too, but for what may
be a person's: whoever looks into a worktree must not lose an editor. So such a tree of processes is ended only where
all of this holds:

- It is an orphan: its topmost process was adopted by whoever adopts the orphans of the town's tmux server. What a
  person's editor, shell or language server has started has that for a parent.
- No process of it has a terminal. A person's shell has one, and so have the children of a person's own tmux or xterm.
- It began after the attempt did.
- Its environment is not a login's: one that names a screen or an SSH connection and not the town is a person's, as
  `code .` or `nohup make &`. A daemon that kept the agent's environment has the mark.
- It carries no other attempt's mark, and belongs to the town's own user.

psutil compares creation times before each signal, so a recycled pid is never hit.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

TERM_GRACE_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""

_ROUNDS: Final = 5
"""Sweeps for children that were born while their parents were ended."""
_INIT: Final = 1
_TERMINAL, _START_TIME = 4, 19
_TICK_S: Final = 0.02
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_LOGIN: Final = (
    "DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_ID", "SSH_CONNECTION", "SSH_TTY", "TERM_PROGRAM", "VSCODE_IPC_HOOK_CLI",
)  # fmt: skip
"""Variables of a person's login, or of the programs that people work in."""


@dataclass(frozen=True)
class Traces:
    """By what processes of one attempt are known that left its pane."""

    mark: tuple[str, str]
    """an environment variable and its value that only this session's processes carry"""
    worktree: Path | None = None
    """None: somebody else works there by now"""
    since_s: float = 0.0
    """when the attempt began, in seconds since this host's boot; nothing older is its own. 0: not known, and the
    worktree is not searched"""


@dataclass(frozen=True)
class Panes:
    """What tmux says of a session, and of itself."""

    living: frozenset[int] = frozenset()
    """pids of living panes"""
    dead: frozenset[int] = frozenset()
    """pids that dead panes had; they may be somebody else's by now"""
    server: int | None = None
    """pid of the tmux server"""


def end_processes(panes: Panes, traces: Traces | None) -> int:
    """SIGTERM, then SIGKILL, to all processes of a session.

    Returns:
        How many processes were ended.
    """
    victims = _members(panes, traces)
    count = len(victims)
    _signal(victims, force=False)
    _wait_until_gone(victims)
    for _ in range(_ROUNDS):
        left = [process for process in {*victims, *_members(panes, traces)} if _is_alive(process)]
        if not left:
            break
        count += len(set(left) - set(victims))
        victims = left
        _signal(left, force=True)
        _wait_until_gone(left)
    return count


def moment() -> str:
    """This moment, to be kept with an attempt: of which boot, and how many seconds after it; "" where nobody tells."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {time.clock_gettime(time.CLOCK_BOOTTIME):.2f}"
    except (OSError, AttributeError):
        return ""


def since_boot_s(kept: str) -> float:
    """The seconds of a moment of this boot; 0 for any other text."""
    boot, _, seconds = kept.partition(" ")
    try:
        return float(seconds) if boot and moment().startswith(f"{boot} ") else 0.0
    except ValueError:
        return 0.0


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


def _members(panes: Panes, traces: Traces | None) -> list[psutil.Process]:
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for root in panes.living:
        try:
            process = psutil.Process(root)
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = member
        except psutil.NoSuchProcess:
            continue
    everything = list(psutil.process_iter())
    pids = {process.pid for process in everything}
    for process in everything:
        if process.pid in found:
            continue
        session = _kernel_session(process.pid)
        if session in panes.living or (traces is not None and _is_marked(process, traces.mark)):
            found[process.pid] = process
        elif traces is not None and session in panes.dead - pids and _is_younger(process.pid, traces.since_s):
            # Its leader is gone, and a number that a session still has is given to nobody.
            found[process.pid] = process
    if traces is not None:
        for process in _left_behind(traces, _adopters(panes), everything):
            found.setdefault(process.pid, process)
    return [process for pid, process in found.items() if pid not in ours and _is_alive(process)]


def _left_behind(
    traces: Traces, adopters: frozenset[int], everything: list[psutil.Process]
) -> Iterator[psutil.Process]:
    """Orphans that stand in the worktree, each with all that descends from it; see the head of this module."""
    if traces.worktree is None or not traces.since_s:
        return
    place = os.path.realpath(traces.worktree)
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    for process in everything:
        children[_parent(process)].append(process)
    for adopter in adopters:
        for top in children[adopter]:
            if not _stands_in(top, place) or not _is_younger(top.pid, traces.since_s) or _is_anothers(top, traces.mark):
                continue
            tree = [top]
            for process in tree:
                tree += children[process.pid]
            if all(_is_of_this_user(process) and not _has_terminal(process.pid) for process in tree):
                yield from tree


def _adopters(panes: Panes) -> frozenset[int]:
    """Who gets the orphans of the tmux server's descendants: init, and the one that once adopted the server itself."""
    if panes.server is None:
        return frozenset({_INIT})
    try:
        return frozenset({_INIT, _parent(psutil.Process(panes.server))} - {0})
    except psutil.Error:
        return frozenset({_INIT})


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


def _stands_in(process: psutil.Process, place: str) -> bool:
    for where in (process.cwd, process.exe):
        try:
            path = where()
        except (psutil.Error, OSError):
            continue
        if path == place or path.startswith(f"{place}/"):
            return True
    return False


def _is_younger(pid: int, since_s: float) -> bool:
    # Not psutil's `create_time`: it is a second wrong where the clock is, and this is the kernel's own count.
    born = _stat(pid, _START_TIME)
    return bool(since_s) and born is not None and born / os.sysconf("SC_CLK_TCK") >= since_s - _TICK_S


def _is_of_this_user(process: psutil.Process) -> bool:
    try:
        return bool(process.uids().real == os.getuid())
    except psutil.Error:
        return False


def _has_terminal(pid: int) -> bool:
    # Not psutil's `terminal`: it remembers what terminals there were, and a person's new one would be none.
    return _stat(pid, _TERMINAL) != 0


def _stat(pid: int, field: int) -> int | None:
    """A number of /proc/PID/stat (proc(5)), counted from the state on; None: it is gone, or the system has no such."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[field])
    except (OSError, IndexError, ValueError):
        return None


def _is_anothers(process: psutil.Process, mark: tuple[str, str]) -> bool:
    """Whether its environment is another attempt's, or a person's login."""
    environment = _environment(process)
    if environment is None:
        return True
    if mark[0] in environment:
        return environment[mark[0]] != mark[1]
    return any(name in environment for name in _LOGIN) and not any(name.startswith("GT_") for name in environment)


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


def _is_marked(process: psutil.Process, mark: tuple[str, str]) -> bool:
    return (_environment(process) or {}).get(mark[0]) == mark[1]


def _environment(process: psutil.Process) -> Mapping[str, str] | None:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return None


def _signal(processes: Iterable[psutil.Process], *, force: bool) -> None:
    for process in processes:
        try:
            if force:
                process.kill()
            else:
                process.terminate()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
