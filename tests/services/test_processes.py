"""What other processes of the same user may learn of one."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from services.supervisor.processes import Birth, forbid_tracing, leave_keyring

NOBODY = 65534
PR_SET_DUMPABLE = 4
LIBC = ctypes.CDLL(None)


def as_ordinary_user(work: Callable[[], object]) -> int:
    """Fork a child that is no root, whoever runs the tests; returns its pid. It exits with `work()`."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            code = int(bool(work()))
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def can_read_environment(pid: int) -> bool:
    try:
        Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return False
    return True


def test_nobody_reads_the_environment_of_one_that_forbids_it_and_its_life_is_still_seen() -> None:
    ready, is_ready = os.pipe()
    may_end, end = os.pipe()

    def wait(*, forbid: bool) -> None:
        # Changing its user has made it untraceable; a program that it ran would not be.
        LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if forbid:
            forbid_tracing()
        os.write(is_ready, b"x")
        os.close(end)
        os.read(may_end, 1)

    closed, open_ = (as_ordinary_user(lambda forbid=forbid: wait(forbid=forbid)) for forbid in (True, False))  # type: ignore[misc]
    os.close(is_ready)
    try:
        assert len(os.read(ready, 1) + os.read(ready, 1)) == 2
        assert exit_code(as_ordinary_user(lambda: can_read_environment(open_))) == 1
        assert exit_code(as_ordinary_user(lambda: can_read_environment(closed))) == 0

        def is_seen() -> bool:
            process = psutil.Process(closed)
            born = Birth.of(closed)
            return (
                born is not None and born.lives() and process.cpu_times() is not None and process.memory_info().rss > 0
            )

        assert exit_code(as_ordinary_user(is_seen)) == 1
    finally:
        for descriptor in (ready, may_end, end):
            os.close(descriptor)
        assert [exit_code(pid) for pid in (closed, open_)] == [0, 0]


ADD_KEY, KEYCTL = {"aarch64": (217, 219)}.get(platform.machine(), (248, 250))
SESSION_KEYRING, SEARCH = -3, 10
LOOKS = f"import ctypes; print(ctypes.CDLL(None).syscall({KEYCTL}, {SEARCH}, {SESSION_KEYRING}, b'user', b'gt', 0) > 0)"


def test_keys_of_the_login_are_not_handed_down_to_what_the_worker_starts() -> None:
    sandboxed = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--unshare-pid", "--", sys.executable, "-c", LOOKS]

    def finds() -> bool:
        return "True" in subprocess.run(sandboxed, capture_output=True, text=True, check=True).stdout

    def is_left_behind() -> bool:
        held = LIBC.syscall(ADD_KEY, b"user", b"gt", b"secret", 6, SESSION_KEYRING) > 0
        before = finds()
        leave_keyring()
        return before == held and not finds()

    child = os.fork()
    if child == 0:
        code = 70
        try:
            LIBC.syscall(KEYCTL, 1, None)
            code = int(is_left_behind())
        finally:
            os._exit(code)
    assert exit_code(child) == 1
