"""Files that git was told to overlook: `assume-unchanged`, and `skip-worktree`, which sparse checkouts use.

`git status` lists no edit of such a file, and checking out leaves one that is missing away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from activities.git.command import GitRepo

_FLAGS: Final = ("--no-assume-unchanged", "--no-skip-worktree")


def overlooked(repo: GitRepo, environment: Mapping[str, str] | None = None) -> list[bytes]:
    """Paths of all of them, whether they are there or not; none where the index cannot be read."""
    listed = repo.attempt("ls-files", "-v", "-z", environment=environment).stdout.split(b"\0")
    return [line[2:] for line in listed if line[:1] == b"S" or line[:1].islower()]


def look_at(repo: GitRepo, paths: Sequence[bytes], environment: Mapping[str, str]) -> None:
    """Drop the flags of these in the index that `environment` names.

    Raises:
        GtError: DISK_FULL, GIT_FAILED.
    """
    for flag in _FLAGS if paths else ():
        repo.run("update-index", flag, "-z", "--stdin", stdin=b"\0".join(paths) + b"\0", environment=environment)
