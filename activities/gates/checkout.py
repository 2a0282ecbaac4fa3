"""A gate's work tree: the candidate's files, clean, with a repository of its own around them.

It hangs on no clone of ours. Gates run code of the change, and a worktree of land.git would let a
plain `git config` in it reach the repository that lands; here git finds the history read-only.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from activities.git.stale_locks import clear_stale_locks
from models.errors import ErrorCode, GtError

_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[gc]\n\tauto = 0\n"


def check_out(land_clone: Path, runner: Path, sha: str, kept: Sequence[str] = ()) -> None:
    """Make `runner` hold exactly the files of the commit `sha` out of `land_clone`, detached.

    Args:
        kept: folders whose untracked content stays as earlier runs left it.

    Raises:
        GtError: NOT_FOUND where this host does not have the commit, DISK_FULL, GIT_FAILED.
    """
    if not land_clone.exists() or GitRepo(land_clone).resolve(sha) != sha:
        raise GtError(ErrorCode.NOT_FOUND, f"this host has no commit {sha}: the chain has to be built again")
    remove_tree(runner / ".git")
    runner.mkdir(parents=True, exist_ok=True)
    # Our own index remembers which files are unchanged; the gate gets a copy that it may spoil.
    index = runner.with_name(f"{runner.name}.index")
    clear_stale_locks([index.with_name(f"{index.name}.lock")], [runner])
    files = GitRepo(land_clone, runner, {"GIT_INDEX_FILE": str(index)})
    if files.attempt("read-tree", "--reset", "-u", sha).exit_code != 0:
        index.unlink(missing_ok=True)
        files.run("read-tree", "--reset", "-u", sha, doing="checking out")
    clean = ("clean", "--quiet", "-ffdx", *(word for folder in kept for word in ("-e", f"/{folder}")))
    if files.attempt(*clean).exit_code != 0:
        # Read-only folders, as package caches make them, withstand git.
        _make_writable(runner)
        files.run(*clean, doing="cleaning")
    _furnish(land_clone, runner / ".git", index, sha)


def remove_tree(path: Path) -> None:
    """Remove `path` with everything in it, read-only folders too; absent is fine, a link loses only itself."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        _make_writable(path)
        shutil.rmtree(path)


def _make_writable(path: Path) -> None:
    os.chmod(path, stat.S_IRWXU)
    for parent, folders, _ in os.walk(path):
        for folder in folders:
            inner = Path(parent, folder)
            if not inner.is_symlink():
                os.chmod(inner, stat.S_IRWXU)


def _furnish(land_clone: Path, git_dir: Path, index: Path, sha: str) -> None:
    (git_dir / "objects" / "info").mkdir(parents=True)
    (git_dir / "refs").mkdir()
    (git_dir / "objects" / "info" / "alternates").write_text(f"{land_clone / 'objects'}\n", encoding="utf-8")
    (git_dir / "config").write_text(_CONFIG, encoding="utf-8")
    shutil.copyfile(index, git_dir / "index")
    (git_dir / "HEAD").write_text(f"{sha}\n", encoding="utf-8")
