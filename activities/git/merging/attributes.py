"""The `.gitattributes` files of a tree, found without a checkout and laid out as a checkout would have them."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.command import GitRepo, ObjectReader
from models.errors import DISK_FULL_HINT, ErrorCode, GtError

NAME: Final = b".gitattributes"
MOST_FILES: Final = 10_000
_MOST_PATH_BYTES: Final = 4000
"""Linux opens no longer path, so neither git nor anybody finds attributes there."""
_MOST_FILE_BYTES: Final = 100 << 20
"""git passes over larger attributes files (attr.h, ATTR_MAX_FILE_SIZE)"""
_NO_FOLDERS: Final = {b"", b".", b"..", b".git"}
"""what no folder of a checkout is called, whatever a tree says"""
_BUILT_IN: Final = frozenset({b"text", b"binary", b"union"})
_NAMED_DRIVER: Final = re.compile(rb"merge=([^ \t\r\n\0]{1,2048})")
"""git reads no longer lines; what only looks like one is set up and never called"""
MOST_DRIVERS: Final = 1000
_TOLD: Final = "GT_DRIVERS_CALLED"
_TEXT_OF_PLAIN_GIT: Final = frozenset({b"lfs"})
"""`git lfs track` names a driver that git-lfs does not set up: everybody's git merges pointers as text."""
_KEEPS_OURS: Final = b"ours"
"""not built in, but by convention (gitattributes(5)) everybody's `merge.ours.driver` is `true`"""


class _Listing(NamedTuple):
    attributes: str
    """the blob, or "" """
    folders: tuple[tuple[bytes, str], ...]
    """name and tree of each"""


class TooMuch(Exception):
    """More attributes than any real tree has; said in words."""


class AttributeFinder:
    """Finds the attributes files of trees; what a later tree shares with an earlier one is not read again."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._listings: dict[str, _Listing] = {}
        self._parents: dict[str, list[str]] = {}
        self._holding: set[str] = set()
        """trees with an attributes file somewhere in them"""

    def find(self, tree: str) -> dict[bytes, str]:
        """The attributes files of `tree`: path → blob.

        Raises:
            GtError: GIT_FAILED where an object is missing.
            TooMuch: files.
        """
        self._read(tree)
        found: dict[bytes, str] = {}
        waiting = [(b"", tree)] if tree in self._holding else []
        while waiting:
            folder, sha = waiting.pop()
            listing = self._listings[sha]
            if listing.attributes:
                found[folder + NAME] = listing.attributes
            if len(found) + len(waiting) > MOST_FILES:
                raise TooMuch(f"more than {MOST_FILES} .gitattributes files")
            waiting += [
                (path, below)
                for name, below in listing.folders
                if below in self._holding and len(path := folder + name + b"/") <= _MOST_PATH_BYTES
            ]
        return found

    def contents(self, blobs: list[str]) -> list[bytes]:
        """The blobs' contents; nothing for what is larger than git would read."""
        return self._reader.read(blobs, _MOST_FILE_BYTES)

    def _read(self, tree: str) -> None:
        """List all of `tree` that is not known, each tree once: in a tree bomb few trees stand in many places."""
        wave = [] if tree in self._listings else [tree]
        while wave:
            below: dict[str, None] = {}
            for sha, content in zip(wave, self._reader.read(wave, _MOST_FILE_BYTES), strict=True):
                listing = self._listings[sha] = _listing(content, len(sha) // 2)
                for _, child in listing.folders:
                    self._parents.setdefault(child, []).append(sha)
                    below[child] = None
                if listing.attributes or any(child in self._holding for _, child in listing.folders):
                    self._mark_holding(sha)
            wave = [sha for sha in below if sha not in self._listings]

    def _mark_holding(self, tree: str) -> None:
        waiting = [tree]
        while waiting:
            sha = waiting.pop()
            if sha not in self._holding:
                self._holding.add(sha)
                waiting += self._parents.get(sha, ())


def _listing(content: bytes, width: int) -> _Listing:
    """What a tree object has of interest; `width`: bytes of an object name in it."""
    attributes, folders = "", []
    for entry in _entry(width).finditer(content):
        mode, name, sha = entry.groups()
        if mode == b"40000" and name not in _NO_FOLDERS:
            folders.append((name, sha.hex()))
        elif name == NAME and mode.startswith(b"100"):
            # git follows no symbolic link to attributes.
            attributes = sha.hex()
    return _Listing(attributes, tuple(folders))


def _entry(width: int) -> re.Pattern[bytes]:
    return re.compile(rb"0*([0-7]+) ([^\0/]*)\0(.{%d})" % width, re.DOTALL)


class AttributeFolder:
    """A folder that holds the attributes files of one tree and nothing else: git's work tree while it merges.

    Drivers that the attributes name and git does not have are set up so that git, where it would
    run one, leaves its name and the file's in `called` and takes the file as conflicting.

    Args:
        place: a folder of the caller's alone; made here, and emptied.
    """

    def __init__(self, repo: GitRepo, place: Path) -> None:
        self._repo = repo
        self._place = place
        self._work_tree = place / "tree"
        self._config = place / "drivers"
        self._record = place / "called"
        self._drivers: tuple[bytes, ...] = ()

    @property
    def repo(self) -> GitRepo:
        """The repository with the folder as its work tree."""
        return GitRepo(self._repo.git_dir, self._work_tree, {_TOLD: str(self._record)})

    @property
    def options(self) -> tuple[str, ...]:
        """Options of git that set the named drivers up."""
        return ("-c", f"include.path={self._config}") if self._drivers else ()

    def fill(self, blobs: Mapping[bytes, str], files: Mapping[bytes, bytes]) -> None:
        """Hold exactly `files` (path → content), which are `blobs` (path → blob).

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
            TooMuch: drivers.
        """
        named = {name for content in files.values() for name in _NAMED_DRIVER.findall(content)}
        if len(named) > MOST_DRIVERS:
            raise TooMuch(f"more than {MOST_DRIVERS} merge drivers")
        self._drivers = tuple(sorted(named - _BUILT_IN - _TEXT_OF_PLAIN_GIT))
        try:
            shutil.rmtree(self._place, ignore_errors=True)
            self._work_tree.mkdir(parents=True)
            self._config.write_bytes(b"".join(map(_driver_config, range(len(self._drivers)), self._drivers)))
            self._write(files)
            if any(b"working-tree-encoding" in content for content in files.values()):
                self._write({path: self._encoded(path, blob) for path, blob in blobs.items()})
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            code, hint = (ErrorCode.DISK_FULL, DISK_FULL_HINT) if full else (ErrorCode.GIT_FAILED, "")
            raise GtError(code, f"laying attributes out for a merge: {error}", hint) from error

    def _write(self, files: Mapping[bytes, bytes]) -> None:
        for path, content in files.items():
            _write(os.fsencode(self._work_tree) + b"/" + path, content)

    def _encoded(self, path: bytes, blob: str) -> bytes:
        """An attributes file as a checkout has it, where its own attributes give it another encoding."""
        return self.repo.run("cat-file", "--filters", f"--path={os.fsdecode(path)}", blob).stdout

    def called(self) -> list[tuple[str, str]]:
        """Driver and file of each call since this was asked last."""
        if not self._drivers or not self._record.exists():
            return []
        fields = self._record.read_bytes().split(b"\0")
        self._record.unlink()
        pairs = zip(fields[0::2], fields[1::2], strict=False)
        return [(_text(self._drivers[int(number)]), _text(path)) for number, path in dict.fromkeys(pairs)]


def _driver_config(number: int, name: bytes) -> bytes:
    """git's configuration of a driver; %P is the file's path, quoted for the shell, and %% a percent sign."""
    command = f"printf '%%s\\\\0' {number} %P >> \\\"${_TOLD}\\\"; exit 1"
    if name == _KEEPS_OURS:
        command = "true"
    quoted = name.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'[merge "%s"]\n\tdriver = "%s"\n' % (quoted, command.encode())


def _write(path: bytes, content: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        # Nobody can check such a path out, so nobody's git reads attributes there.
        if error.errno not in {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ}:
            raise


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
