"""A town's directory that is gone: what works for it ends, instead of running on for nobody."""

from __future__ import annotations

import os
import sys
import syslog
import time
from pathlib import Path


class Place:
    """The directory that a process works for: whether it is still there.

    One that was deleted, or moved away, leaves processes that serve nobody, and would make parts of it anew.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._was = _identity(root)
        self._gone_since: float | None = None

    def gone_s(self) -> float:
        """For how long it has been gone, as far as it was asked; 0: it is there."""
        if _identity(self._root) == self._was is not None:
            self._gone_since = None
            return 0.0
        now = time.monotonic()
        self._gone_since = now if self._gone_since is None else self._gone_since
        return max(now - self._gone_since, 1e-3)


def say_gone(root: Path, what: str) -> None:
    """The last word, in the system's log and on standard error: the town's own logs are gone."""
    words = f"gastown: the town {root} is gone (deleted or moved): {what} ends"
    syslog.syslog(syslog.LOG_ERR, words)
    print(words, file=sys.stderr, flush=True)


def _identity(root: Path) -> tuple[int, int] | None:
    """None where there is nothing; a directory that only cannot be read now (a network's) is no other one.

    Raises:
        OSError: it is not to be told.
    """
    try:
        status = os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
