"""The commits that the town makes of unfinished work, and how they are recognised again.

The first parent is what was checked out; the tree is that of the files; a further parent is what was staged.
The message says all of it, for people and for the one who restores it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from activities.git.worktree.snapshot import SkippedFile
from models import names

LISTED: Final = 200
"""How many files that stayed on the host a message names."""

_MARK: Final = "Gastown-Save"
_SAVE: Final = re.compile(rf"{_MARK}: (?P<bead>\S+)/(?P<attempt>[0-9]{{1,9}}) (?P<born>[01])")
_STAGED: Final = re.compile(r"^Staged: (?P<sha>[0-9a-f]{40,64})$", re.MULTILINE)
_LEFT: Final = "Left on the host alone:"


@dataclass(frozen=True)
class SavedCommit:
    """A commit that the town made of unfinished work."""

    sha: str
    attempt: int
    parent: str | None
    """what was checked out; None before the first commit"""
    tree: str
    at: datetime
    left: str
    """lines that name what stayed on the host and why; "" for nothing"""
    staged: str | None = None
    """the commit whose tree was the index; None where nothing was staged, or there is nothing to stage it upon"""
    others: bool = False
    """it has parents beside what was checked out and what was staged: commits that no other ref holds"""

    def story(self, salvaged: Path | None = None) -> str:
        """What the next agent should know of it, in Markdown.

        Args:
            salvaged: the folder on this very host with what stayed there.
        """
        head = f"HEAD is its last commit ({self.parent[:12]})" if self.parent else "It had no commit yet"
        parts = [
            f"This worktree holds the work of attempt {self.attempt} as it was saved at {self.at:%Y-%m-%d %H:%M} UTC. "
            f"{head}; the rest is not committed, and staged where it was staged: see `git status` and `git diff`."
        ]
        if self.others:
            parts.append(f"It had more commits: look at the parents of {self.sha}.")
        if self.left:
            lines = "\n".join(f"  {line}" for line in self.left.splitlines())
            where = f"in {salvaged} (copy what you need)" if salvaged is not None else "on the host of that attempt"
            parts.append(f"Not restored, it stayed {where}:\n\n{lines}")
        return "\n\n".join(parts)


def save_message(
    title: str, bead: str, attempt: int, place: str, born: bool, staged: str | None, left: Sequence[SkippedFile]
) -> bytes:
    """The message of a save.

    Args:
        place: polecat and host, for people.
        born: there is a first parent that was checked out.
        staged: the commit that holds what was staged.
    """
    parts = [title, f"Saved by the town from the worktree of {place}."]
    if staged is not None:
        parts.append(f"Staged: {staged}")
    if left:
        parts.append(f"{_LEFT}\n{_listed(left)}")
    parts.append(f"{_MARK}: {names.valid_bead(bead)}/{attempt} {int(born)}")
    return "\n\n".join(parts).encode("utf-8", "backslashreplace")


def read_save(repo: GitRepo, sha: str, bead: str) -> SavedCommit | None:
    """The save that `sha` is; None where it is a commit of the agent's own, or is not here."""
    answer = repo.attempt("log", "-1", "--format=%T%x00%P%x00%ct%x00%B", sha, "--")
    fields = answer.text.split("\0", 3)
    if answer.exit_code != 0 or len(fields) != 4:
        return None
    tree, at, message = fields[0], fields[2], fields[3]
    parents = fields[1].split()
    paragraphs = message.strip().split("\n\n")
    mark = _SAVE.fullmatch(paragraphs[-1])
    if mark is None or mark["bead"] != bead:
        return None
    born = mark["born"] == "1" and bool(parents)
    found = _STAGED.search(message)
    staged = found["sha"] if found is not None and born and found["sha"] in parents else None
    own = {parents[0] if born else "", found["sha"] if found is not None else ""}
    left = next((one for one in paragraphs if one.startswith(f"{_LEFT}\n")), "")
    return SavedCommit(
        sha=sha,
        attempt=int(mark["attempt"]),
        parent=parents[0] if born else None,
        tree=tree.strip(),
        at=datetime.fromtimestamp(int(at), UTC),
        left=left.partition("\n")[2],
        staged=staged,
        others=bool(set(parents) - own),
    )


def _listed(what: Sequence[SkippedFile]) -> str:
    lines = [f"  {shown(one.path)}: {one.why}" for one in what[:LISTED]]
    more = len(what) - LISTED
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])


def shown(name: str) -> str:
    """A file's name on one line, whatever is in it."""
    return name if name.isprintable() else ascii(name)
