"""Commits that hang on a worktree's state alone: what is being merged, what a rebase or a stash has set aside."""

from __future__ import annotations

import re
from typing import Final

from activities.git.snapshot import Besides
from activities.git.underway import commits_left
from activities.git.worktree_folder import WorktreeFolder

_HEADS: Final[tuple[tuple[str, str], ...]] = (
    ("MERGE_HEAD", "being merged"),
    ("CHERRY_PICK_HEAD", "being cherry-picked"),
    ("REVERT_HEAD", "being reverted"),
    ("rebase-merge/orig-head", "before the rebase"),
    ("rebase-apply/orig-head", "before the rebase"),
    ("rebase-merge/autostash", "set aside by the rebase"),
    ("rebase-apply/autostash", "set aside by the rebase"),
    ("MERGE_AUTOSTASH", "set aside by the merge"),
)
"""files in git's directory for the worktree, each with commits' names in it"""
_STASHED: Final = re.compile(r"(?:WIP on|On) (?P<branch>[^:]+): ")


def loose_ends(folder: WorktreeFolder, branch: str) -> list[Besides]:
    """Those of the worktree in `folder`, whose bead's branch is `branch` (short name). Newest stash first."""
    repo = folder.repo()
    found = []
    for name, what in _HEADS:
        path = repo.git_dir / name
        lines = path.read_text(encoding="utf-8", errors="replace").split() if path.is_file() else []
        found += [Besides(what, sha) for line in lines if (sha := repo.resolve(line))]
    for sha in commits_left(repo):
        if not any(repo.is_ancestor(sha, one.sha) for one in found):
            found.append(Besides("a step that was not begun", sha))
    return found + _stashes(folder, branch)


def _stashes(folder: WorktreeFolder, branch: str) -> list[Besides]:
    """Stashes belong to the clone, so to every worktree: those that were made on this branch."""
    repo = folder.repo()
    if repo.resolve("refs/stash") is None:
        return []
    listed = repo.attempt("log", "--walk-reflogs", "--format=%H%x00%gs", "refs/stash", "--").text
    rows = [line.partition("\0") for line in listed.splitlines()]
    made = [(sha, _STASHED.match(told)) for sha, _, told in rows]
    return [Besides("stash", sha) for sha, match in made if match is not None and match["branch"] == branch]
