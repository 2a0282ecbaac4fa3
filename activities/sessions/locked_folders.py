"""Session folders that an agent may have locked: it runs as the town's own user, and they are its own to write.

`Path.exists` raises for what is behind a lock. Here that is an answer, so that one agent blinds nobody for the others.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from agents import session_folder


def listed(folder: Path) -> list[str]:
    """Names in a folder; none where there is no such folder, or it is locked."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def changed_ns(folder: Path) -> int:
    """When the folder's entries changed last, or who may see them; 0 where it is not to be seen."""
    try:
        return os.stat(folder).st_ctime_ns
    except OSError:
        return 0


def is_locked(attempt: Path) -> bool:
    """Nobody can tell what is in the folder of this attempt."""
    try:
        os.stat(attempt / session_folder.SESSION)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def reopen(folder: Path, levels: int) -> None:
    """Let the town into its own folder again, and into those so many levels below; one that is another's stays shut."""
    with contextlib.suppress(OSError):
        mode = os.lstat(folder).st_mode
        if not stat.S_ISDIR(mode):
            return
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(folder, stat.S_IMODE(mode) | stat.S_IRWXU)
    for name in listed(folder) if levels else ():
        reopen(folder / name, levels - 1)
