"""Files that are there whole or not at all, whatever is killed, and for good once written.

Standard library only, and little of it, because the agent's commands write through it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

_PIECE: Final = 1_000_000
"""bytes in memory"""


def write_whole(
    path: Path, content: str | bytes, mode: int = 0o600, within: Path | None = None, *, synced: bool = True
) -> None:
    """Write `content` to `path`, over what was there, making the folders above it.

    Args:
        within: a folder above, from which on no link is followed: others may write there, and must not choose where
            we do.
        synced: it outlives a host that loses power. Not for what is made again or means nothing after that: two waits
            for the disk.

    Raises:
        OSError: what was there is there still; ELOOP or ENOTDIR for a link or a file in a folder's place.
    """
    _write(path, lambda stream: stream.write(_encoded(content)), mode, os.replace, within, synced=synced)


def copy_whole(source: Path, path: Path, mode: int = 0o600) -> None:
    """Copy a file's content to `path`, over what was there, making the folders above it.

    Raises:
        OSError: what was there is there still.
    """
    with source.open("rb") as given:
        _write(path, lambda stream: _pour(given, stream), mode, os.replace)


def write_once(path: Path, text: str) -> bool:
    """Write `text` to `path`, private, where there is nothing yet; False: there was something, and it stays.

    Raises:
        OSError: nothing was written.
    """
    try:
        _write(path, lambda stream: stream.write(_encoded(text)), 0o600, os.link)
    except FileExistsError:
        return False
    return True


def make_folders(folder: Path, mode: int = 0o700) -> None:
    """Make a folder and those above it, each with that mode; what is there stays as it is."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folders(folder.parent, mode)
    folder.mkdir(mode, exist_ok=True)


def is_no_plain_file(path: Path) -> bool:
    """Whether something else stands at `path`, behind links too: a device, a pipe, a socket, a folder."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def read_plain(path: Path, most: int = _PIECE) -> bytes:
    """The content of a plain file that others may write to.

    A pipe in its place would be waited for, and one without an end read, for ever.

    Args:
        most: bytes.

    Raises:
        OSError: there is none, it is no plain file, or it is longer than `most`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def rename_whole(source: Path, target: Path) -> bool:
    """Move a file within its folder for good; False where it is gone already."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        return False
    _sync_directory(target.parent)
    return True


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")


def _pour(source: BinaryIO, target: BinaryIO) -> None:
    # shutil would cost the agent's commands its imports.
    while piece := source.read(_PIECE):
        target.write(piece)


def _write(
    path: Path,
    fill: Callable[[BinaryIO], object],
    mode: int,
    put: Callable[..., None],
    within: Path | None = None,
    *,
    synced: bool = True,
) -> None:
    # tempfile would cost the agent's commands 8 ms of imports.
    temporary = f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"
    # What is private stands in folders that are, whatever the umask is.
    folder = _opened(path.parent, within, 0o777 if mode & 0o077 else 0o700)
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchmod(handle, mode)
                fill(stream)
                stream.flush()
                if synced:
                    os.fsync(handle)
            put(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            # Replaced, it is gone; linked or failed, it goes.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
        if synced:
            os.fsync(folder)
    finally:
        os.close(folder)


def _opened(folder: Path, within: Path | None, mode: int) -> int:
    """The folder, made where there is none, with those above it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if within is None:
        make_folders(folder, mode)
        return os.open(folder, flags)
    below = folder.relative_to(within).parts
    make_folders(within, mode)
    here = os.open(within, flags)
    for name in below:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=here)
            there = os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
