"""A git command that was left half way, and what the next agent can do about it.

It is not put back where the work goes on: its state names files, refs and an index of the place it ran in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LISTED: Final = 20
"""so many steps and files the advice names"""


@dataclass(frozen=True)
class Underway:
    """What was under way in a worktree."""

    kind: str
    """rebase, merge, cherry-pick, revert, bisect, or am: patches out of mails"""
    about: str = ""
    """the commit that was rebased onto, merged, picked or reverted; "" where it is not known"""
    before: str = ""
    """rebase: where the branch stood before it"""
    left: tuple[str, ...] = ()
    """steps that were not begun yet, as git lists them"""
    unmerged: tuple[str, ...] = ()
    """files with conflicts"""

    def advice(self) -> str:
        """What became of it and how to go on, in indented lines without an empty one."""
        return "\n".join(f"  {line}" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"A git {self.kind}{self._subject()} was under way. It is not any more; the files stand as it left them."
        if self.unmerged:
            yield f"With conflicts: {', '.join(_some(self.unmerged))}"
        if self.left:
            yield "Not begun yet:"
            yield from (f"  {step}" for step in _some(self.left))
        yield from self._ways()

    def _subject(self) -> str:
        return f" {'onto' if self.kind == 'rebase' else 'of'} {self.about}" if self.about else ""

    def _ways(self) -> Iterator[str]:
        again = "To begin it again: git stash push --include-untracked (which keeps these files), then"
        settle = "settle what is marked with <<<<<<<, git add it, then"
        rest = ", then git cherry-pick what was not begun" if self.left else ""
        if self.kind == "rebase" and self.before:
            yield f"The branch before it: {self.before}"
            yield f"{again} git reset --hard {self.before} and git rebase {self.about}"
            yield f"To end it: {settle} git commit{rest}"
        elif self.kind == "merge":
            yield f"{again} git merge {self.about}"
            mark = f'git rev-parse {self.about} > "$(git rev-parse --git-path MERGE_HEAD)"'
            yield f"To end it: {settle} {mark} and git commit"
        elif self.kind in {"bisect", "am"}:
            file = "put its BISECT_LOG into a file: git bisect replay" if self.kind == "bisect" else "and git am those"
            yield f"To go on: look at its saved state with git show, {file}"
        else:
            same = f" -C {self.about}" if self.kind == "cherry-pick" and self.about else ""
            yield f"To end it: {settle} git commit{same}{rest}"


def _some(what: Sequence[str]) -> list[str]:
    more = len(what) - LISTED
    return [*what[:LISTED], *([f"and {more} more"] if more > 0 else [])]
