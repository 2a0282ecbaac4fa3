"""Whether a worktree's work moves on, told by a handful of `stat` calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FILES: Final = ("HEAD", "index", "logs/HEAD", "COMMIT_EDITMSG", "rebase-merge/msgnum", "MERGE_HEAD")


class Progress:
    """The fingerprint of one worktree: HEAD, index, reflog, the branch's tip, the top folder."""

    def __init__(self, worktree: Path, branch: str) -> None:
        self._worktree = worktree
        self._branch = branch
        self._files: tuple[Path, ...] = ()
        self._last: tuple[tuple[int, int], ...] | None = None

    def moved(self) -> bool:
        """Whether anything differs from the last call; the first call tells of progress."""
        if not self._files:
            self._files = self._locate()
        now = tuple(_fingerprint(path) for path in self._files)
        moved, self._last = now != self._last, now
        return moved

    def _locate(self) -> tuple[Path, ...]:
        """git's own files for the worktree; none while the worktree is not there."""
        try:
            kind, _, place = (self._worktree / ".git").read_text(encoding="utf-8").strip().partition(": ")
        except (OSError, UnicodeDecodeError):
            return ()
        if kind != "gitdir":
            return ()
        git_dir = self._worktree / place
        common = git_dir.parent.parent
        return (self._worktree, common / "refs" / "heads" / self._branch, *(git_dir / name for name in _FILES))


def _fingerprint(path: Path) -> tuple[int, int]:
    try:
        facts = os.stat(path)
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)
