"""Session folders that an agent may have locked or bent: it runs as the town's own user, and they are its to write.

`Path.exists` raises for what is behind a lock. Here that is an answer, so that one agent blinds nobody for the others.
What stands in a folder's or a file's place, a link above all, stops nothing and leads nobody elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from activities.git.trees import discard
from agents import session_folder

_ODD: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST})
"""What comes of writing through a link, or over a folder."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Leave `what` unwritten, and log it, where an agent has put something else in its place."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ODD:
            raise
        _log.warning("%s was not written: %s", what, error)


def cleared(place: Path, folders: int, files: Iterable[str], trash: Path) -> None:
    """Make room in a session folder for what the town writes: what is in the way, links too, goes.

    Args:
        place: the session folder; it need not exist.
        folders: so many above it are the town's to write too.
        files: names in it that are to be plain files.

    Raises:
        OSError: something can be neither removed nor renamed.
    """
    for folder in (*reversed(place.parents[:folders]), place):
        if os.path.lexists(folder) and (os.path.islink(folder) or not os.path.isdir(folder)):
            discard(folder, trash)
    for name in files:
        if os.path.lexists(place / name) and not session_folder.is_file(place / name):
            discard(place / name, trash)


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
