"""Removing folders whatever is in them: deep, read-only or odd trees, as agents and gates leave them.

`shutil.rmtree` recurses, so that a tree of a thousand levels ends it, and paths beyond 4,096 bytes cannot be named at
all. Here every folder that is found is moved up beside its root's other entries and emptied there: no recursion, no
long path, two open folders at a time. A link is never followed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path
from typing import Final

_ENTERED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})

_log = logging.getLogger(__name__)


def remove_tree(path: Path) -> None:
    """Remove `path` with everything in it; absent is fine, a link loses only itself.

    Raises:
        OSError: something in it cannot be removed (another user's, immutable, a mount); what could be is gone.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if error.errno in _GONE:
            return
        raise
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    _open_to_us(path, mode)
    root = os.open(path, _ENTERED)
    try:
        failed = _empty(root)
    finally:
        os.close(root)
    if failed is not None:
        raise failed
    os.rmdir(path)


def discard(path: Path, trash: Path) -> Path | None:
    """Make `path` free: remove what stands there or, where that cannot be done, rename it into `trash` and log it.

    Returns:
        Where the rest of it stands; None: nothing is left.

    Raises:
        OSError: it could be neither removed nor renamed.
    """
    try:
        remove_tree(path)
        return None
    except OSError as error:
        aside = _aside(path, trash)
        _log.warning("%s cannot be removed (%s): what is left of it stands in %s", path, error.strerror, aside)
        return aside


def remove_special_files(tree: Path) -> None:
    """Remove pipes, sockets and devices from a clean work tree: git neither sees nor cleans them, and a pipe hangs
    whoever reads it. What cannot be removed stays."""
    waiting = [os.fspath(tree)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def _aside(path: Path, trash: Path) -> Path:
    name = f"{path.name[:80]}.{os.urandom(4).hex()}"
    trash.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.rename(path, trash / name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another file system than the town's: its own name is free at least.
        beside = path.with_name(f".{name}")
        os.rename(path, beside)
        return beside
    return trash / name


def _empty(root: int) -> OSError | None:
    """Remove all that is in the open folder `root`; the first reason why something is left."""
    failed = None
    waiting = _take_out(root, root)
    while waiting:
        name = waiting.pop()
        try:
            folder = os.open(name, _ENTERED, dir_fd=root)
        except OSError as error:
            failed = failed or error
            continue
        try:
            waiting += _take_out(folder, root)
        except OSError as error:
            failed = failed or error
        finally:
            os.close(folder)
        try:
            os.rmdir(name, dir_fd=root)
        except OSError as error:
            failed = failed or error
    return failed


def _take_out(folder: int, root: int) -> list[str]:
    """Unlink the files of an open folder and move its folders up into `root`, openable: their names there."""
    found, failed = [], None
    for entry in os.listdir(folder):
        try:
            mode = os.lstat(entry, dir_fd=folder).st_mode
            if not stat.S_ISDIR(mode):
                os.unlink(entry, dir_fd=folder)
                continue
            # Before the move: a folder that may not be written cannot be given another parent.
            _open_to_us(entry, mode, folder)
            name = entry if folder == root else f".removed.{os.urandom(8).hex()}"
            if folder != root:
                os.rename(entry, name, src_dir_fd=folder, dst_dir_fd=root)
            found.append(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            failed = failed or error
    if failed is not None and not found:
        raise failed
    return found


def _open_to_us(path: Path | str, mode: int, folder: int | None = None) -> None:
    """Let us into a folder of ours; one that is another's stays as it is."""
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU, dir_fd=folder)
