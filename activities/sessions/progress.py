"""Whether a worktree's work moves on: a handful of `stat` calls at each look, the whole tree now and then.

Commits, staging and new files show in the few files that are looked at each time. An agent that
edits a file deep in the tree shows only when git is asked, which costs a process: so that happens
at a slow pace, in a thread of its own, and always before an agent is called stuck.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol

from activities.git.worktree.polecat_repo import PolecatRepo
from models.errors import GtError

PACE: Final = 0.1
"""The tree is asked each time that this part of the limit has passed: so late at most is a standstill noticed."""
REST: Final = 15
"""The reader rests so many times as long as it read: all trees together take a sixteenth of a core at most."""
STATUS_TIMEOUT_S: Final = 10.0
MOST_FILES: Final = 5_000
"""Of the files that git names as changed, so many are looked at."""

_INDEX: Final = "progress.index"
_FILES: Final = ("HEAD", "index", "logs/HEAD", "COMMIT_EDITMSG", "rebase-merge/msgnum", "MERGE_HEAD")


@dataclass(frozen=True)
class TreeState:
    fingerprint: str
    took_s: float


class AskTree(Protocol):
    def __call__(self, repo: PolecatRepo) -> Future[TreeState]: ...


class TreeReader:
    """Asks git about whole worktrees, one at a time and beside everything else.

    It rests after each, so that many quiet sessions, or large trees, take little of the machine.
    """

    def __init__(self) -> None:
        self._wanted: SimpleQueue[tuple[PolecatRepo, Future[TreeState]]] = SimpleQueue()
        # A daemon: what is still unread keeps no worker from ending.
        self._thread = threading.Thread(target=self._read, name="trees", daemon=True)

    def __call__(self, repo: PolecatRepo) -> Future[TreeState]:
        if self._thread.ident is None:
            self._thread.start()
        answer: Future[TreeState] = Future()
        self._wanted.put((repo, answer))
        return answer

    def _read(self) -> None:
        while True:
            repo, answer = self._wanted.get()
            state = read_tree(repo)
            answer.set_result(state)
            time.sleep(REST * state.took_s)


class Progress:
    """Age of one worktree's last change: HEAD, index, reflog, the branch's tip, the top folder, all files.

    Args:
        ask: starts reading the whole tree.
    """

    def __init__(self, repo: PolecatRepo, branch: str, ask: AskTree) -> None:
        self._repo = repo
        self._branch = branch
        self._ask = ask
        self._files: tuple[str, ...] = ()
        self._stats: tuple[tuple[int, int], ...] = ()
        self._quick = ""
        self._tree = ""
        self._age_s = 0.0
        self._unread_s = float("inf")
        """the last reading of the tree that has ended began so long ago"""
        self._reading: Future[TreeState] | None = None
        self._reading_s = 0.0

    @property
    def fingerprint(self) -> str:
        return f"{self._quick}.{self._tree}"

    def resume(self, fingerprint: str, age_s: float) -> None:
        """Go on from what an earlier watcher saw."""
        self._quick, _, self._tree = fingerprint.partition(".")
        self._age_s = age_s

    def look(self, elapsed_s: float, limit_s: float) -> float:
        """Age of the last change in watched seconds.

        Args:
            elapsed_s: since the last look, as far as it counts.
            limit_s: an age beyond it accuses, so it is told only once the tree was read beyond it too.
        """
        self._age_s += elapsed_s
        self._unread_s += elapsed_s
        self._reading_s += elapsed_s
        if self._moved():
            self._age_s = 0.0
        self._hear()
        confirmed = self._age_s - self._unread_s > limit_s
        if self._reading is None and self._due(limit_s, confirmed):
            self._reading, self._reading_s = self._ask(self._repo), 0.0
        return self._age_s if confirmed else min(self._age_s, limit_s)

    def _due(self, limit_s: float, confirmed: bool) -> bool:
        return self._unread_s >= PACE * limit_s or (self._age_s > limit_s and not confirmed)

    def _hear(self) -> None:
        """Take in what the reader has found, once it has."""
        if self._reading is None or not self._reading.done():
            return
        found, self._reading = self._reading.result(), None
        self._unread_s = self._reading_s
        if self._tree and found.fingerprint != self._tree:
            self._age_s = 0.0
        self._tree = found.fingerprint

    def _moved(self) -> bool:
        if not self._files:
            self._files = self._locate()
        stats = tuple(_stat(path) for path in self._files)
        if stats == self._stats:
            return False
        self._stats = stats
        quick = _digest(repr(stats))
        moved, self._quick = quick != self._quick, quick
        return moved

    def _locate(self) -> tuple[str, ...]:
        """What is looked at each time; nothing while the worktree is not there."""
        git_dir = self._repo.git_dir
        if git_dir is None:
            return ()
        # As text: a Path costs more than looking at it does.
        return tuple(
            map(str, (self._repo.path, git_dir / "refs" / "heads" / self._branch, *map(git_dir.joinpath, _FILES)))
        )


def read_tree(repo: PolecatRepo) -> TreeState:
    """State of all files that differ from the index or are new: which, and when each was last written.

    What cannot be read counts as one more state; it takes locks of nobody and writes nothing of the agent's.
    """
    began = time.monotonic()
    if repo.git_dir is None:
        return TreeState("absent", 0.0)
    try:
        view, given = repo.view(), repo.copy_index(_INDEX)
        status = view.attempt(
            "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty",
            environment=given, timeout_s=STATUS_TIMEOUT_S,
        )  # fmt: skip
    except (GtError, OSError, ValueError):
        return TreeState("unreadable", time.monotonic() - began)
    if status.exit_code != 0:
        return TreeState("unreadable", time.monotonic() - began)
    names = [os.fsdecode(entry[3:]) for entry in status.stdout.split(b"\0") if len(entry) > 3]
    files = [(name, _stat(repo.path / name)) for name in names[:MOST_FILES]]
    return TreeState(_digest(repr((len(names), files))), time.monotonic() - began)


def _stat(path: str | Path) -> tuple[int, int]:
    try:
        facts = os.lstat(path)
    except (OSError, ValueError):
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
