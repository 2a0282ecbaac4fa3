"""One gate's command: started apart from the worker, read without end, ended with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from models.errors import DISK_FULL_HINT, ErrorCode, GtError
from models.settings import SandboxSettings
from policies.refinery.gate_environment import RUN_MARK
from policies.security.redaction import redact_bytes, whole_lines
from policies.security.sandbox import SandboxPlan
from services.atomic_files import make_folders
from services.sandbox import in_sandbox

LOG_LIMIT_BYTES: Final = 20_000_000
"""A log holds this much from the start and the last TAIL_BYTES of the rest."""
TAIL_BYTES: Final = 65_536
TERM_GRACE_S: Final = 2.0
DRAIN_GRACE_S: Final = 0.5
"""How long output is awaited from what outlived its gate."""
_NICENESS: Final = "5"
_POLL_S: Final = 0.02


class Ended(NamedTuple):
    exit_code: int
    """negative: died of that signal; in a sandbox 128 + its number"""
    timed_out: bool
    disk_full: bool
    tail: bytes
    duration_s: float
    started: bool = True
    """False: its sandbox could not be made"""


class Confined(NamedTuple):
    """How a gate's command is put into its sandbox."""

    kind: str
    """bwrap, command or none"""
    plan: SandboxPlan
    settings: SandboxSettings


class GateLog:
    """A log file of bounded size; what does not fit is still read, so that the gate never waits for us.

    Args:
        clean: takes secrets out of what is written. It is given whole lines, so that it sees each secret whole.
    """

    def __init__(self, path: Path, clean: Callable[[bytes], bytes] = redact_bytes) -> None:
        make_folders(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)
        self._clean = clean
        self._pending = bytearray()
        """read, and not written yet: lines whose end has not come"""
        self._written = 0
        self._left_out = 0
        self._tail = bytearray()
        self.disk_full = False

    @property
    def tail(self) -> bytes:
        """The last of the output; whole once the log is closed."""
        return bytes(self._tail[-TAIL_BYTES:])

    def add(self, chunk: bytes) -> None:
        self._pending += chunk
        if self._written >= LOG_LIMIT_BYTES:
            # Of the rest only the tail is kept, and that is cleaned at the end.
            if len(self._pending) > 4 * TAIL_BYTES:
                cut = self._pending.find(b"\n", len(self._pending) - 2 * TAIL_BYTES) + 1
                cut = cut or len(self._pending) - 2 * TAIL_BYTES
                self._left_out += cut
                del self._pending[:cut]
            return
        ready = whole_lines(self._pending)
        if ready:
            self._add(self._clean(bytes(self._pending[:ready])))
            del self._pending[:ready]

    def close(self) -> None:
        self._add(self._clean(bytes(self._pending)))
        self._pending.clear()
        if self._left_out > TAIL_BYTES:
            self._write(b"\n[... %d bytes left out ...]\n" % (self._left_out - TAIL_BYTES))
        if self._left_out:
            self._write(self.tail[-self._left_out :])
        self._file.close()

    def _add(self, text: bytes) -> None:
        self._tail += text
        if len(self._tail) > 4 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        room = max(0, LOG_LIMIT_BYTES - self._written)
        self._write(text[:room])
        self._written += len(text)
        self._left_out += max(0, len(text) - room)

    def _write(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError:
            # The gate's own verdict is worth more than its log; that the disk is full is told beside it.
            self.disk_full = True


async def run_command(
    command: str,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout_s: float,
    started: Callable[[int], None],
    clean: Callable[[bytes], bytes] = redact_bytes,
    confined: Confined | None = None,
) -> Ended:
    """Run `sh -c command` in `folder` until it ends, its time is over, or this task is cancelled.

    Whatever it started is ended with it: its process group, its session, and strays that carry its run mark.

    Args:
        started: told the process id as soon as there is one.
        clean: takes secrets out of its output.
        confined: its sandbox; None: without.

    Raises:
        GtError: SERVICE_FAILED where no process can be started, DISK_FULL where no log can be made.
    """
    began = time.monotonic()
    try:
        output = GateLog(log, clean)
    except OSError as error:
        raise GtError(ErrorCode.DISK_FULL, f"no log can be written: {error}", DISK_FULL_HINT) from error
    timed_out = False
    status: tuple[int, int] | None = None
    words: list[str] = []
    if confined is not None:
        status = os.pipe() if confined.kind == "bwrap" else None
        words, environment = in_sandbox(
            confined.kind, confined.plan, confined.settings, environment, status[1] if status else None
        )
    try:
        async with _reading(output) as (write_end, finished):
            process = await _start([*words, "sh", "-c", command], folder, environment, write_end, status)
            try:
                started(process.pid)
                async with asyncio.timeout(timeout_s):
                    await process.wait()
            except TimeoutError:
                timed_out = True
            finally:
                await _end_group(process)
                await asyncio.to_thread(end_marked, environment[RUN_MARK], process.pid)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), DRAIN_GRACE_S)
        was_started = status is None or _was_started(status[0], process.returncode)
    finally:
        output.close()
        if status is not None:
            os.close(status[0])
    assert process.returncode is not None
    took = time.monotonic() - began
    return Ended(process.returncode, timed_out, output.disk_full, output.tail, took, was_started)


def _was_started(status: int, exit_code: int | None) -> bool:
    """Whether bubblewrap says how its command ended: without a word, and not killed itself, it never started it."""
    os.set_blocking(status, False)
    try:
        said = os.read(status, 1 << 16)
    except BlockingIOError:
        said = b""
    return b'"exit-code"' in said or exit_code is None or exit_code <= 0


@contextlib.asynccontextmanager
async def _reading(output: GateLog) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A pipe whose content goes to `output`: its write end, to be given away, and the event of its end.

    Not asyncio's own pipe: waiting for such a process also waits for everyone who holds the pipe.
    """
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    finished = asyncio.Event()

    def read() -> None:
        try:
            chunk = os.read(read_end, 1 << 16)
        except BlockingIOError:
            return
        if chunk:
            output.add(chunk)
        else:
            loop.remove_reader(read_end)
            finished.set()

    loop.add_reader(read_end, read)
    try:
        yield write_end, finished
    finally:
        loop.remove_reader(read_end)
        os.close(read_end)


async def _start(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    write_end: int,
    status: tuple[int, int] | None,
) -> asyncio.subprocess.Process:
    """Start the command as leader of a session of its own, and close our copies of what only it writes to."""
    try:
        return await asyncio.create_subprocess_exec(
            *("nice", "-n", _NICENESS, *argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            pass_fds=(status[1],) if status else (),
        )
    except OSError as error:
        raise GtError(ErrorCode.SERVICE_FAILED, f"the gate's process cannot be started: {error}") from error
    finally:
        os.close(write_end)
        if status is not None:
            os.close(status[1])


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End what is left of the command's process group: asked first, then killed."""
    for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, TERM_GRACE_S)):
        if not _signal_group(process.pid, number):
            break
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and _lives(process):  # noqa: ASYNC110 - grandchildren tell nobody
            await asyncio.sleep(_POLL_S)
    await process.wait()


def _lives(process: asyncio.subprocess.Process) -> bool:
    return process.returncode is None or _signal_group(process.pid, 0)


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; False where it has no process that could still do anything."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return bool(number) or any(True for _ in _group_members(group))


def _group_members(group: int) -> list[psutil.Process]:
    """Living members; the dead that nobody has collected yet do not count."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and not _is_over(process):
                members.append(process)
    return members


def end_marked(mark: str, session: int = 0) -> None:
    """Kill every process that carries the run mark in the environment it was started with, or is of the session."""
    for process in psutil.process_iter():
        # psutil compares start times before it signals, so a recycled process id is never hit.
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            found = (session and os.getsid(process.pid) == session) or process.environ().get(RUN_MARK) == mark
            if found and not _is_over(process):
                kill_process(process)


def end_in_folder(folder: Path) -> None:
    """Kill every process that works in the folder, whatever its environment, unless a person's terminal is its own.

    Not while gates run there that are to go on.
    """
    inside = f"{folder}/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, OSError):
            if not f"{process.cwd()}/".startswith(inside) or process.pid == os.getpid():
                continue
            if process.uids().real == os.getuid() and process.terminal() is None:
                kill_process(process)


def kill_process(process: psutil.Process) -> None:
    """Kill a process and wait until it does nothing any more. Not psutil's own wait: the dead wait for init, which may
    take its time to collect them."""
    process.kill()
    deadline = time.monotonic() + TERM_GRACE_S
    while not _is_over(process) and time.monotonic() < deadline:
        time.sleep(_POLL_S / 10)


def _is_over(process: psutil.Process) -> bool:
    """Whether it does nothing any more: gone, not collected yet, or without memory, as the first process of a sandbox
    is while the kernel takes its namespaces down."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or process.memory_info().vms == 0
    except psutil.NoSuchProcess:
        return True
