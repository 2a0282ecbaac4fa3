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

import contextlib
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
_CHUNK_BYTES: Final = 65_536
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


@dataclass(frozen=True)
class _Entry:
    """A process as the system's listing shows it."""

    pid: int
    parent: int
    session: int
    """-1: not known"""
    terminal: int
    """0: it has none; -1: not known. Not psutil's: it remembers what terminals there were, a new one would be none"""
    born: int | None
    """in clock ticks since boot. Not psutil's `create_time`: that is a second wrong where the clock is"""


def _members(panes: Panes, traces: Traces | None) -> list[psutil.Process]:
    listing = {entry.pid: entry for entry in _listing()}
    children: dict[int, list[_Entry]] = defaultdict(list)
    for entry in listing.values():
        children[entry.parent].append(entry)
    found = {entry.pid: entry for root in panes.living if root in listing for entry in _tree(listing[root], children)}
    gone = panes.dead - listing.keys()
    for entry in listing.values():
        if entry.pid in found:
            continue
        if entry.session in panes.living or (traces is not None and _is_marked(entry.pid, traces.mark)):
            found[entry.pid] = entry
        elif traces is not None and entry.session in gone and _is_younger(entry, traces.since_s):
            # Its leader is gone, and a number that a session still has is given to nobody.
            found[entry.pid] = entry
    if traces is not None:
        found |= {entry.pid: entry for entry in _left_behind(traces, _adopters(panes, listing), children)}
    for ours in _with_ancestors(os.getpid(), listing):
        found.pop(ours, None)
    processes = [_process(entry) for entry in found.values()]
    return [process for process in processes if process is not None and _is_alive(process)]


def _listing() -> Iterator[_Entry]:
    """Every process. Of some hundred a session's few are looked for, so each costs one read, and no psutil.Process."""
    for pid in psutil.pids():
        if psutil.LINUX:
            fields = _stat(pid)
            if fields is not None:
                yield _Entry(pid, int(fields[1]), int(fields[3]), int(fields[4]), int(fields[19]))
        else:
            with contextlib.suppress(psutil.Error, OSError):
                yield _Entry(pid, psutil.Process(pid).ppid(), os.getsid(pid), -1, None)


def _stat(pid: int) -> list[bytes] | None:
    """/proc/PID/stat (proc(5)) from the state on; None: the process is gone."""
    content = _read(f"/proc/{pid}/stat")
    return content.rpartition(b")")[2].split() if content else None


def _read(path: str) -> bytes | None:
    """A file of /proc; None where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = part = os.read(file, _CHUNK_BYTES)
        while len(part) == _CHUNK_BYTES:
            content += (part := os.read(file, _CHUNK_BYTES))
    except OSError:
        return None
    finally:
        os.close(file)
    return content


def _process(entry: _Entry) -> psutil.Process | None:
    """By what it is signalled; None where it has ended since it was listed, though another may have its number."""
    try:
        process = psutil.Process(entry.pid)
    except psutil.Error:
        return None
    fields = _stat(entry.pid) if entry.born is not None else None
    return process if entry.born is None or (fields is not None and int(fields[19]) == entry.born) else None


def _tree(top: _Entry, children: Mapping[int, list[_Entry]]) -> list[_Entry]:
    """`top` and all that descends from it: younger than its parent, else a number was given anew meanwhile."""
    tree = {top.pid: top}
    waiting = [top]
    while waiting:
        parent = waiting.pop()
        for child in children.get(parent.pid, ()):
            if child.pid not in tree and (child.born or 0) >= (parent.born or 0):
                tree[child.pid] = child
                waiting.append(child)
    return list(tree.values())


def _with_ancestors(pid: int, listing: Mapping[int, _Entry]) -> list[int]:
    line = [pid]
    while line[-1] in listing and listing[line[-1]].parent not in line:
        line.append(listing[line[-1]].parent)
    return line


def _left_behind(traces: Traces, adopters: frozenset[int], children: Mapping[int, list[_Entry]]) -> Iterator[_Entry]:
    """Orphans that stand in the worktree, each with all that descends from it; see the head of this module."""
    if traces.worktree is None or not traces.since_s:
        return
    place = os.path.realpath(traces.worktree)
    for top in (entry for adopter in adopters for entry in children.get(adopter, ())):
        if not _is_younger(top, traces.since_s) or not _stands_in(top.pid, place) or _is_anothers(top.pid, traces.mark):
            continue
        tree = _tree(top, children)
        if all(entry.terminal == 0 and _is_of_this_user(entry.pid) for entry in tree):
            yield from tree


def _adopters(panes: Panes, listing: Mapping[int, _Entry]) -> frozenset[int]:
    """Who gets the orphans of the tmux server's descendants: init, and the one that once adopted the server itself."""
    server = listing.get(panes.server) if panes.server is not None else None
    return frozenset({_INIT, server.parent if server is not None else _INIT} - {0})


def _stands_in(pid: int, place: str) -> bool:
    for name in ("cwd", "exe"):
        try:
            path = getattr(psutil.Process(pid), name)()
        except (psutil.Error, OSError):
            continue
        if path == place or path.startswith(f"{place}/"):
            return True
    return False


def _is_younger(entry: _Entry, since_s: float) -> bool:
    return bool(since_s) and entry.born is not None and entry.born / os.sysconf("SC_CLK_TCK") >= since_s - _TICK_S


def _is_of_this_user(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).uids().real == os.getuid())
    except psutil.Error:
        return False


def _is_anothers(pid: int, mark: tuple[str, str]) -> bool:
    """Whether its environment is another attempt's, or a person's login."""
    variables = _environment(pid)
    if variables is None:
        return True
    names = {variable.partition(b"=")[0] for variable in variables}
    if os.fsencode(mark[0]) in names:
        return _as_variable(mark) not in variables
    return any(os.fsencode(name) in names for name in _LOGIN) and not any(name.startswith(b"GT_") for name in names)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_marked(pid: int, mark: tuple[str, str]) -> bool:
    return _as_variable(mark) in (_environment(pid) or ())


def _as_variable(mark: tuple[str, str]) -> bytes:
    return os.fsencode("=".join(mark))


def _environment(pid: int) -> list[bytes] | None:
    """`name=value` each; None where it cannot be read."""
    if psutil.LINUX:
        content = _read(f"/proc/{pid}/environ")
        return content.split(b"\0") if content is not None else None
    try:
        return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
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
