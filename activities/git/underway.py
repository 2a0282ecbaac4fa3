"""What git has half done in a worktree: the facts, the commits that its steps name, and its own files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from activities.git.command import GitRepo
from activities.git.snapshot import UNDATED, Besides
from activities.git.worktree_folder import WorktreeFolder
from policies.secret_scan import secret_in
from policies.underway import Underway

STATE_BYTES: Final = 1_000_000
"""Files of git's own above this are not saved: they are lists, messages and patches."""
_STATE: Final = "state of what was half done"
_FOLDERS: Final = ("rebase-merge", "rebase-apply", "sequencer")
_FILES: Final = ("MERGE_HEAD", "MERGE_MSG", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG")
_ABOUT: Final = {
    "rebase": ("rebase-merge/onto", "rebase-apply/onto"),
    "merge": ("MERGE_HEAD",),
    "cherry-pick": ("CHERRY_PICK_HEAD",),
    "revert": ("REVERT_HEAD",),
}
_BEFORE: Final = ("rebase-merge/orig-head", "rebase-apply/orig-head")
_TODO: Final = ("rebase-merge/git-rebase-todo", "sequencer/todo")
_INDEX: Final = "underway.index"


def underway_in(folder: WorktreeFolder) -> Underway | None:
    """What is half done; None where nothing is."""
    kind = folder.in_progress
    if not kind:
        return None
    repo = folder.repo()
    if (repo.git_dir / "rebase-apply" / "applying").exists():
        kind = "am"
    # Where the agent's index is damaged, it cannot be told.
    unmerged = repo.attempt("diff", "--name-only", "--diff-filter=U", "-z").text.split("\0")
    return Underway(
        kind=kind,
        about=_commit(repo, _ABOUT.get(kind, ())),
        before=_commit(repo, _BEFORE if kind == "rebase" else ()),
        left=tuple(_shown(step) for step in _steps(repo)),
        unmerged=tuple(_shown(name) for name in unmerged if name),
    )


def commits_left(repo: GitRepo) -> list[str]:
    """Commits that the steps not begun yet name, last step first."""
    words = [step.split() for step in _steps(repo)]
    found = [repo.resolve(parts[1]) for parts in words if len(parts) > 1 and parts[0].isalpha()]
    return [sha for sha in reversed(found) if sha is not None]


def save_state(folder: WorktreeFolder) -> list[Besides]:
    """A commit without parents with git's own files about what is half done; secrets and huge ones left out.

    Nothing while the agent's git changes them: the commits that they name are saved all the same.

    Raises:
        GtError: DISK_FULL, GIT_FAILED.
    """
    repo = folder.repo()
    names = [str(path.relative_to(repo.git_dir)) for path in _own_files(repo.git_dir)]
    paths = "".join(f"{repo.git_dir / name}\n" for name in names).encode()
    answer = repo.attempt("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=paths)
    if answer.exit_code != 0:
        return []
    blobs = answer.text.split()
    rows = b"".join(f"100644 {blob}\t{name}\0".encode() for blob, name in zip(blobs, names, strict=True))
    index = repo.git_dir / _INDEX
    index.unlink(missing_ok=True)
    try:
        given = {"GIT_INDEX_FILE": str(index)}
        repo.run("update-index", "-z", "--index-info", stdin=rows, environment=given)
        tree = repo.run("write-tree", environment=given).word
    finally:
        index.unlink(missing_ok=True)
    return [Besides(_STATE, repo.run("commit-tree", "-m", "What git had half done", tree, environment=UNDATED).word)]


def _own_files(git_dir: Path) -> Iterator[Path]:
    within = [path for name in _FOLDERS for path in sorted((git_dir / name).glob("*"))]
    for path in [*within, *(git_dir / name for name in _FILES)]:
        try:
            facts = path.lstat()
            fit = stat.S_ISREG(facts.st_mode) and facts.st_size <= STATE_BYTES and path.name.isprintable()
            if fit and not secret_in(path.read_bytes()):
                yield path
        except OSError:
            # It has just gone.
            continue


def _steps(repo: GitRepo) -> Iterator[str]:
    for name in _TODO:
        for line in _read(repo.git_dir / name).splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.strip()


def _commit(repo: GitRepo, places: tuple[str, ...]) -> str:
    words = [word for place in places for word in _read(repo.git_dir / place).split()[:1]]
    return (repo.resolve(words[0]) or "") if words else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)
