"""Repositories within a worktree: submodules, and those that an agent made or cloned there.

The worktree's own git commits no more of them than a commit's name. So their files are saved as a
commit of its own, without parents: their history stays on this host, and most of it on their remotes.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from activities.git.snapshot import UNDATED, Besides, LeftOut, Saver
from models.errors import ErrorCode, GtError

_SAVED: Final = "refs/gastown/saved"
_GITLINK: Final = b"160000 "


class InnerRepositories:
    """Saves the repositories within one worktree.

    Args:
        clone: whose objects they become.
        worktree: where they are.
        max_bytes, judged: see `Saver`.
    """

    def __init__(
        self, clone: GitRepo, worktree: Path, max_bytes: int | None, judged: MutableMapping[str, str] | None = None
    ) -> None:
        self._clone = clone
        self._worktree = worktree
        self._max_bytes = max_bytes
        self._judged = judged

    def save(self, paths: Sequence[bytes]) -> tuple[list[Besides], list[LeftOut]]:
        """A commit for each that holds anything that its remotes have not, and what stays on this host.

        Raises:
            GtError: DISK_FULL.
        """
        saved, left_out = [], []
        for path in dict.fromkeys(paths):
            name = os.fsdecode(path)
            try:
                commit, more = self._save(name)
            except GtError as error:
                if error.code is ErrorCode.DISK_FULL:
                    raise
                commit, more = None, [LeftOut(name, "a repository of its own, and git cannot read it")]
            if commit is not None:
                saved.append(Besides(f"repository {name}", commit))
            left_out += more
        return saved, left_out

    def _save(self, name: str) -> tuple[str | None, list[LeftOut]]:
        git_dir = inner_git_dir(self._worktree / name)
        if git_dir is None:
            return None, []
        repo = GitRepo(git_dir, self._worktree / name)
        head = repo.resolve("HEAD")
        published = head is not None and not repo.run("rev-list", "--max-count=1", head, "--not", "--remotes").word
        snapshot = Saver(repo, "gastown.index", self._max_bytes, self._judged).take(None if published else "")
        left_out = [LeftOut(f"{name}/{path}", why) for path, why in snapshot.left_out]
        deeper = [os.fsdecode(one) for one in snapshot.inner]
        left_out += [LeftOut(f"{name}/{one}", "a repository within a repository") for one in deeper]
        if not snapshot.changed:
            return None, left_out
        told = f"Files of {name}, {f'at its commit {head}' if head else 'which has no commit'}"
        message = told.encode("utf-8", "replace")
        commit = repo.run("commit-tree", "-F", "-", snapshot.tree, stdin=message, environment=UNDATED).word
        repo.run("update-ref", _SAVED, commit)
        # With its folder as the current one, its name needs to be no URL.
        GitRepo(self._clone.git_dir, self._worktree / name).fetch(".", [_SAVED])
        repo.run("update-ref", "-d", _SAVED)
        return commit, left_out


def gitlinks(repo: GitRepo) -> list[bytes]:
    """Folders of a worktree that its index takes for repositories, and that are some."""
    assert repo.work_tree is not None
    listed = repo.attempt("ls-files", "--stage", "-z").stdout.split(b"\0")
    paths = [line.partition(b"\t")[2] for line in listed if line.startswith(_GITLINK)]
    return [path for path in paths if inner_git_dir(repo.work_tree / os.fsdecode(path)) is not None]


def inner_git_dir(folder: Path) -> Path | None:
    """git's directory for the repository in `folder`; None where there is none."""
    mark = folder / ".git"
    if mark.is_dir():
        return mark
    try:
        kind, _, place = mark.read_text(encoding="utf-8").strip().partition(": ")
    except (OSError, UnicodeDecodeError):
        return None
    found = folder / place
    return found.resolve() if kind == "gitdir" and (found / "HEAD").is_file() else None
