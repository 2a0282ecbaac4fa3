"""Merged trees as a plain `git merge` on a checkout of the target makes them, without a checkout.

git takes attributes from the checkout that it merges in; `merge-tree` in a bare repository sees
none. So it is given a work tree with the `.gitattributes` of the tree that is merged into, and
nothing else. Attributes and settings of people and hosts play no part: the same commits merge to
the same tree everywhere.
"""

from __future__ import annotations

import contextlib
import shutil
from types import TracebackType
from typing import Final, NamedTuple, Self

from activities.git.command import Answer, GitRepo, ObjectReader, failure
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
        answer = (folder.repo if folder else self._repo).attempt(
            *(folder.options if folder else ()),
            "merge-tree", "--write-tree", "-z", "--name-only", "--messages", onto, head_sha,
        )  # fmt: skip
        merged = _read(answer)
        drivers = folder.called() if folder else []
        return _refused(merged, drivers) if drivers else merged

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


def _read(answer: Answer) -> str | Conflict:
    """What `git merge-tree` answered."""
    if answer.exit_code == 128 and "unrelated histories" in answer.stderr:
        return Conflict(detail="the branch has no commit in common with the target")
    if answer.exit_code not in {0, 1}:
        raise failure(answer, "merging")
    # <tree> NUL (<file> NUL)* NUL (<count> NUL (<path> NUL)* <kind> NUL <message> NUL)*
    names_part, _, messages = answer.text.partition("\0\0")
    tree, *files = names_part.split("\0")
    if answer.exit_code == 0:
        return tree.rstrip("\0")
    return Conflict(tuple(dict.fromkeys(files))[:_MAX_FILES], plain_words(_conflicts(messages)))


def _conflicts(messages: str) -> str:
    """git's sentences about conflicts, a line each."""
    fields = messages.split("\0")
    said = []
    position = 0
    while position < len(fields) and fields[position].isdigit():
        position += 1 + int(fields[position])
        if fields[position].startswith("CONFLICT"):
            said.append(fields[position + 1].strip())
        position += 2
    return "\n".join(said)


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
