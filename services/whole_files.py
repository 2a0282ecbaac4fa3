"""Files that are there whole or not at all, whatever is killed, and for good once written.

Standard library only, and little of it, because the agent's commands write through it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path`, over what was there, making the folders above it.

    Raises:
        OSError: what was there is there still.
    """
    _write(path, text, mode, os.replace)


def write_once(path: Path, text: str) -> bool:
    """Write `text` to `path`, private, where there is nothing yet; False: there was something, and it stays.

    Raises:
        OSError: nothing was written.
    """
    try:
        _write(path, text, 0o600, os.link)
    except FileExistsError:
        return False
    return True


def rename_whole(source: Path, target: Path) -> bool:
    """Move a file within its folder for good; False where it is gone already."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        return False
    _sync_directory(target.parent)
    return True


def _write(path: Path, text: str, mode: int, put: Callable[[Path, Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile would cost the agent's commands 8 ms of imports.
    temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            os.fchmod(handle, mode)
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        put(temporary, path)
    finally:
        # Replaced, it is gone; linked or failed, it goes.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_directory(path.parent)


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
