"""Lock files of git commands that were killed: they would fail every later command for ever."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil


def clear_stale_locks(candidates: Iterable[Path], users: Iterable[Path]) -> None:
    """Remove those of `candidates` that exist while no git process works in or on the folders `users`."""
    seen = {path: os.stat(path) for path in candidates if path.exists()}
    if not seen or _in_use([str(folder.resolve()) for folder in users]):
        return
    for path, before in seen.items():
        with contextlib.suppress(FileNotFoundError):
            now = os.stat(path)
            # A new lock under the same name belongs to a command that started after we looked.
            if (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns):
                path.unlink()


def _in_use(folders: list[str]) -> bool:
    for process in psutil.process_iter(["name", "cwd", "cmdline"]):
        if not (process.info["name"] or "").startswith("git"):
            continue
        cwd = process.info["cwd"] or ""
        words = process.info["cmdline"] or []
        for folder in folders:
            if cwd == folder or cwd.startswith(f"{folder}/") or any(folder in word for word in words):
                return True
    return False
