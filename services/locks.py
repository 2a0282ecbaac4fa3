"""Locks on files that the kernel takes back when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from services.atomic_files import make_folders

_POLL_S = 0.05


def open_lock(path: Path) -> io.FileIO:
    """The lock file, in a private folder that is made where there is none; not locked yet. Closing it frees the lock.

    It is an object and no descriptor, so that it is closed by whatever ends its holder: Temporal throws into the
    thread of an activity that timed out, and may do so before a `try` is reached.
    """
    make_folders(path.parent)
    return io.FileIO(path, "r+", opener=_opened)


def locked_within(lock: io.FileIO, wait_s: float) -> bool:
    """Take the lock of `open_lock` within `wait_s` seconds; False when somebody else keeps it."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` alone, among threads and processes of this host; waits for it."""
    with open_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def try_exclusive(path: Path) -> io.FileIO | None:
    """Take `path` if it is free: a file that holds it until it is closed, else None."""
    lock = open_lock(path)
    if locked_within(lock, 0.0):
        return lock
    lock.close()
    return None


def _opened(path: str, _: int) -> int:
    """Not inheritable, so that no orphaned child of ours goes on holding the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
