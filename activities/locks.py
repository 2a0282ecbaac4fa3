"""Locks on files that the kernel takes back when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from pathlib import Path

from services.atomic_files import make_folders


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` alone, among threads and processes of this host; waits for it."""
    with _open(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def try_exclusive(path: Path) -> io.FileIO | None:
    """Take `path` if it is free: a file that holds it until it is closed, else None."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _open(path: Path) -> io.FileIO:
    """An object and no descriptor, so that it is closed by whatever ends its holder.

    Temporal throws into the thread of an activity that timed out, and may do so before a `try` is reached.
    """
    make_folders(path.parent)
    return io.FileIO(path, "r+", opener=_opened)


def _opened(path: str, _: int) -> int:
    """Not inheritable, so that no orphaned child of ours goes on holding the lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
