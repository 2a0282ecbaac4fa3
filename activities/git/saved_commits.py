"""The commits that the town makes of unfinished work, and how they are recognised again.

The first parent is what was checked out; the tree is that of the files; further parents hold what
has no other place. The message says all of it, for people and for the one who restores it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from activities.git.kept_files import FILES
from activities.git.snapshot import STAGED, Besides, LeftOut
from models import names
from policies.underway import Underway

LISTED: Final = 200
"""How many files that stayed on the host a message names."""

_NOT_KEPT: Final = "Not kept:"
_MARK: Final = "Gastown-Save"
_SAVE: Final = re.compile(rf"{_MARK}: (?P<bead>\S+)/(?P<attempt>[0-9]{{1,9}}) (?P<born>[01])")
_UNDERWAY: Final = "Half way through a command:"
_BESIDES: Final = "Beside the files:"
_STAGED: Final = re.compile(rf"^ *(?P<sha>[0-9a-f]{{40,64}}) {STAGED}$\n?", re.MULTILINE)
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
    besides: str
    """lines that name commits which hold what is no file; "" for none"""
    left_out: str
    """lines that name what stayed on the host and why; "" for nothing"""
    underway: str = ""
    """lines about what git had half done there; "" for nothing"""
    not_kept: str = ""
    """lines that name ignored files that are nowhere any more; "" for none"""
    staged: str | None = None
    """the commit whose tree was the index; None where nothing was staged, or there is nothing to stage it upon"""

    @property
    def apart(self) -> str:
        """Of `besides` what restoring does not put back."""
        return _STAGED.sub("", self.besides).strip("\n") if self.staged is not None else self.besides

    def story(self, kept: Path | None = None) -> str:
        """What the next agent should know of it, in Markdown.

        Args:
            kept: the folder on this very host with the files that stayed there.
        """
        head = f"HEAD is its last commit ({self.parent[:12]})" if self.parent else "It had no commit yet"
        parts = [
            f"This worktree holds the work of attempt {self.attempt} as it was saved at {self.at:%Y-%m-%d %H:%M} UTC. "
            f"{head}; the rest is not committed, and staged where it was staged: see `git status` and `git diff`."
        ]
        if self.underway:
            parts.append(f"{_UNDERWAY}\n\n{_indented(self.underway)}")
        if self.apart:
            parts.append(f"Saved too, look with `git show`:\n\n{_indented(self.apart)}")
        if self.left_out:
            where = f"in {kept / FILES} (copy what you need)" if kept is not None else "on the host of that attempt"
            parts.append(f"Not restored, it stayed {where}:\n\n{_indented(self.left_out)}")
        if self.not_kept:
            parts.append(f"{_NOT_KEPT}\n\n{_indented(self.not_kept)}")
        return "\n\n".join(parts)


def save_message(
    title: str,
    bead: str,
    attempt: int,
    place: str,
    born: bool,
    besides: Sequence[Besides],
    left_out: Sequence[LeftOut],
    underway: Underway | None = None,
    not_kept: Sequence[LeftOut] = (),
) -> bytes:
    """The message of a save.

    Args:
        place: polecat and host, for people.
        born: there is a first parent that was checked out.
        underway: what git has half done there.
        not_kept: ignored files that are nowhere any more.
    """
    parts = [title, f"Saved by the town from the worktree of {place}."]
    if underway is not None:
        parts.append(f"{_UNDERWAY}\n{underway.advice()}")
    if besides:
        parts.append(f"{_BESIDES}\n" + "\n".join(f"  {one.sha} {shown(one.what)}" for one in besides))
    parts += [f"{heading}\n{_listed(what)}" for heading, what in ((_LEFT, left_out), (_NOT_KEPT, not_kept)) if what]
    parts.append(f"{_MARK}: {names.valid_bead(bead)}/{attempt} {int(born)}")
    return "\n\n".join(parts).encode("utf-8", "backslashreplace")


def _listed(what: Sequence[LeftOut]) -> str:
    lines = [f"  {shown(one.path)}: {one.why}" for one in what[:LISTED]]
    more = len(what) - LISTED
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])


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
    besides, born = _under(_BESIDES, paragraphs), mark["born"] == "1" and bool(parents)
    staged = _STAGED.search(besides)
    return SavedCommit(
        sha=sha,
        attempt=int(mark["attempt"]),
        parent=parents[0] if born else None,
        tree=tree.strip(),
        at=datetime.fromtimestamp(int(at), UTC),
        besides=besides,
        left_out=_under(_LEFT, paragraphs),
        underway=_under(_UNDERWAY, paragraphs),
        not_kept=_under(_NOT_KEPT, paragraphs),
        staged=staged["sha"] if staged is not None and born and staged["sha"] in parents else None,
    )


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.splitlines())


def _under(heading: str, paragraphs: Sequence[str]) -> str:
    found = next((one for one in paragraphs if one.startswith(f"{heading}\n")), "")
    return found.partition("\n")[2]


def shown(name: str) -> str:
    """A file's name on one line, whatever is in it."""
    return name if name.isprintable() else ascii(name)
