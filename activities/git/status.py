"""What `git status` tells of a worktree, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

STATUS: Final = (
    "status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=none",
)  # fmt: skip
_FIELDS_BEFORE_PATH: Final = {b"1": 7, b"2": 8, b"u": 9}
"""by kind of entry of `git status --porcelain=v2`, the kind itself not counted"""


class Entry(NamedTuple):
    """One line of `git status`."""

    in_index: str
    in_worktree: str
    submodule: str
    path: bytes
    unmerged: bool = False

    @property
    def staged(self) -> bool:
        """The index has it otherwise than HEAD."""
        return self.in_index in "AMTD"

    @property
    def is_repository(self) -> bool:
        return self.path.endswith(b"/")

    @property
    def is_submodule(self) -> bool:
        return self.submodule.startswith("S")


def entries_of(shown: bytes) -> Iterator[Entry]:
    """Out of what `git status --porcelain=v2 -z` printed; of a rename the new path alone."""
    lines = iter(shown.split(b"\0"))
    for line in lines:
        kind, _, rest = line.partition(b" ")
        if kind == b"?":
            yield Entry(".", "?", "N...", rest)
        elif kind in _FIELDS_BEFORE_PATH:
            fields = rest.split(b" ", _FIELDS_BEFORE_PATH[kind])
            yield Entry(chr(fields[0][0]), chr(fields[0][1]), fields[1].decode("ascii"), fields[-1], kind == b"u")
            if kind == b"2":
                next(lines, None)
