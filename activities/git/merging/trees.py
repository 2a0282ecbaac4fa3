"""Merged trees and commits, without a checkout and without a process of git for each.

Trees are as a plain `git merge` on a checkout of the target makes them. git takes attributes from the
checkout that it merges in; `merge-tree` in a bare repository sees none. So it is given a work tree with
the `.gitattributes` of the tree that is merged into, and nothing else. Attributes and settings of people
and hosts play no part: the same commits merge to the same tree everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from activities.git.command import GitProcess, GitRepo, ObjectReader, failure
from activities.git.merging.attributes import (
    AttributeFinder,
    AttributeFolder,
    TooMuch,
)
from models.git_errors import plain_words
from services.locks import try_exclusive

_MAX_FILES: Final = 100
"""A conflict names at most this many files: what a message carries stays small."""
_MAX_DRIVERS_TOLD: Final = 5
_MOST_AT_ONCE: Final = 1000


class Conflict(NamedTuple):
    """The change does not apply."""

    files: tuple[str, ...] = ()
    detail: str = ""


class TreeMerger:
    """Merges commits of one repository; what it needs for that ends with its `with` block."""

    def __init__(self, repo: GitRepo) -> None:
        self._repo = repo
        self._open = contextlib.ExitStack()
        self._finder = AttributeFinder(self._open.enter_context(ObjectReader(repo)))
        self._folder: AttributeFolder | None = None
        self._filled: dict[bytes, str] = {}
        """the attributes files that the folder holds"""
        self._git: GitProcess | None = None
        self._merges_with: dict[bytes, str] = {}
        """the attributes that it has read"""
        self._kept_back = False
        """the last byte of its last answer was not read yet"""

        self._writer = self._open.enter_context(GitProcess(repo, "hash-object", "-w", "-t", "commit", "--stdin-paths"))
        self._written = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="gt-commit-")), "commit")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def merge(self, onto: str, onto_tree: str, head_sha: str) -> str | Conflict:
        """The tree of both commits, by their real merge base.

        Args:
            onto_tree: the tree of `onto`, whose attributes count.

        Raises:
            GtError: what models.git_errors.classify finds; a conflict is an answer, not an error.
        """
        try:
            attributes = self._finder.find(onto_tree)
            folder = self._folder_with(attributes) if attributes else None
        except TooMuch as much:
            return Conflict(detail=f"the target has {much}")
        merged = self._asked(self._process(attributes, folder), onto, head_sha)
        drivers = folder.called() if folder else []
        return _refused(merged, drivers) if drivers else merged

    def write(self, commit: bytes) -> str:
        """Make a commit object of this content; its name.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        self._written.write_bytes(commit)
        name = self._writer.ask(os.fsencode(self._written) + b"\n").readline().decode().strip()
        if not name:
            raise failure(self._writer.ended(), "committing")
        return name

    def _asked(self, process: GitProcess, onto: str, head_sha: str) -> str | Conflict:
        # git keeps back the last byte of an answer until it writes more: a second merge, of nothing, brings it out.
        stream = process.ask(f"{onto} {head_sha}\n{onto} {onto}\n".encode())
        try:
            if self._kept_back:
                _field(stream)
            merged = _read(stream)
            self._kept_back = True
            for _ in ("clean", "tree", "no file"):
                _field(stream)
            return merged
        except EOFError:
            answer, self._kept_back = process.ended(), False
        if "unrelated histories" in answer.stderr:
            return Conflict(detail="the branch has no commit in common with the target")
        raise failure(answer, "merging")

    def _process(self, attributes: dict[bytes, str], folder: AttributeFolder | None) -> GitProcess:
        """git, which reads attributes and options once."""
        if self._git is None or attributes != self._merges_with:
            if self._git is not None:
                self._git.close()
            self._kept_back = False
            repo, options = (folder.repo, folder.options) if folder else (self._repo, ())
            command = (*options, "merge-tree", "--write-tree", "--stdin", "-z", "--name-only", "--messages")
            self._git, self._merges_with = self._open.enter_context(GitProcess(repo, *command)), attributes
        return self._git

    def _folder_with(self, attributes: dict[bytes, str]) -> AttributeFolder:
        if self._folder is None:
            self._folder = self._own_folder()
        if attributes != self._filled:
            contents = self._finder.contents(list(attributes.values()))
            self._folder.fill(attributes, dict(zip(attributes, contents, strict=True)))
            self._filled = attributes
        return self._folder

    def _own_folder(self) -> AttributeFolder:
        """The first that nobody holds: what a killed merge left in one is gone with its next use."""
        for number in range(_MOST_AT_ONCE):
            place = self._repo.git_dir / "merging" / str(number)
            lock = try_exclusive(place.with_name(f"{number}.lock"))
            if lock is not None:
                self._open.enter_context(lock)
                self._open.callback(shutil.rmtree, place, ignore_errors=True)
                return AttributeFolder(self._repo, place)
        raise AssertionError(f"{_MOST_AT_ONCE} merges at once in {self._repo.git_dir}")


def _read(stream: IO[bytes]) -> str | Conflict:
    """What `git merge-tree --stdin` answers of one merge.

    Raises:
        EOFError: git has ended.
    """
    # <1: clean> NUL <tree> NUL (<file> NUL)* NUL (<count> NUL (<path> NUL)* <kind> NUL <message> NUL)* [<advice>] NUL
    clean, tree = _field(stream) == "1", _field(stream)
    files = [*iter(lambda: _field(stream), "")]
    said = []
    for count in iter(lambda: _field(stream), ""):
        if not count.isdecimal():
            break  # what git advises about submodules, as on a terminal, with the end of the answer right behind it
        *_, kind, message = [_field(stream) for _ in range(int(count) + 2)]
        if kind.startswith("CONFLICT"):
            said.append(message.strip())
    return tree if clean else Conflict(tuple(dict.fromkeys(files))[:_MAX_FILES], plain_words("\n".join(said)))


def _field(stream: IO[bytes]) -> str:
    field = bytearray()
    while (byte := stream.read(1)) != b"\0":
        if not byte:
            raise EOFError
        field += byte
    return field.decode("utf-8", "replace")


def _refused(merged: str | Conflict, drivers: list[tuple[str, str]]) -> Conflict:
    """Both sides changed files that the repository's owner wants merged by a program of his own."""
    files = (*(path for _, path in drivers), *(merged.files if isinstance(merged, Conflict) else ()))
    told = [
        f"both sides changed {path}, whose merge driver {driver} (.gitattributes) is not one of git's own "
        "and is not run by the queue: merge it with that program, or by hand"
        for driver, path in drivers[:_MAX_DRIVERS_TOLD]
    ]
    # The end is kept where the text is too long.
    also = [merged.detail] if isinstance(merged, Conflict) and merged.detail else []
    return Conflict(tuple(dict.fromkeys(files))[:_MAX_FILES], plain_words("\n".join([*also, *told])))
