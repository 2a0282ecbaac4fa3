"""One polecat's worktree on disk: whose it is, what state git left it in, and the files behind that.

A note in git's own directory for the worktree says which bead owns it. It is written when the
worktree is ready and removed when it is free, so a worktree without a note holds nobody's work.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from activities.git.assume_unchanged import overlooked
from activities.git.command import GitRepo
from activities.git.stale_locks import clear_stale_locks
from agents.session_folder import read_json, write_json
from models import names
from services.whole_files import read_plain, write_whole

_NOTE: Final = "gastown.json"
_IN_PROGRESS: Final = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)
_GITLINK: Final = b"160000 "
_USER_CONFIG: Final = "[user]\n\tname = {polecat}\n\temail = {polecat}@{rig}.gastown.invalid\n"


@dataclass(frozen=True)
class OwnerNote:
    """Who owns a worktree."""

    bead: str
    target: str
    parked_head: str | None = None
    """where HEAD stood when everything unlanded had been parked"""
    parked_ref: str | None = None
    """where it was parked on the remote; None where there was nothing to park"""
    attempt: int = 0
    """that was last started here; 0: not known"""
    restored: str | None = None
    """the save of unfinished work that the files were restored from"""
    releasing: bool = False
    """parked; being cleaned for the next bead"""


class WorktreeFolder:
    """The worktree at `path` of the bare repository `clone`."""

    def __init__(self, clone: Path, path: Path) -> None:
        self.clone = clone
        self.path = path

    @property
    def git_dir(self) -> Path | None:
        """git's directory for this worktree, or None where there is no working worktree here."""
        try:
            kind, _, place = _read(self.path / ".git").partition(": ")
        except OSError:
            return None
        folder = Path(place)
        whole = kind == "gitdir" and folder.parent == self.clone / "worktrees" and os.path.isfile(folder / "HEAD")
        # git marks a worktree that it has not finished making with this lock.
        return folder if whole and not os.path.exists(folder / "locked") else None

    def repo(self) -> GitRepo:
        """git on this worktree's files."""
        git_dir = self.git_dir
        assert git_dir is not None
        return GitRepo(git_dir, self.path)

    @property
    def note(self) -> OwnerNote | None:
        git_dir = self.git_dir
        content = read_json(git_dir / _NOTE) if git_dir is not None else None
        try:
            return OwnerNote(**content) if content is not None else None
        except TypeError:
            return None

    def write_note(self, note: OwnerNote) -> None:
        git_dir = self.git_dir
        assert git_dir is not None
        write_json(git_dir / _NOTE, asdict(note))

    def amend_note(self, **changes: str | bool | None) -> None:
        note = self.note
        assert note is not None
        self.write_note(replace(note, **changes))  # type: ignore[arg-type]

    def remove_note(self) -> None:
        git_dir = self.git_dir
        assert git_dir is not None
        (git_dir / _NOTE).unlink(missing_ok=True)

    def write_user(self, rig: str, polecat: str) -> None:
        """Whom commits made here with plain git name as their author."""
        git_dir = self.git_dir
        assert git_dir is not None
        text = _USER_CONFIG.format(polecat=names.valid_polecat(polecat), rig=names.valid_rig(rig))
        write_whole(git_dir / "config.worktree", text)

    @property
    def in_progress(self) -> str:
        """The git operation that waits to be finished here, or ""."""
        git_dir = self.git_dir
        if git_dir is None:
            return ""
        return next((kind for name, kind in _IN_PROGRESS if (git_dir / name).exists()), "")

    def rebased_branch(self) -> str | None:
        """Full name of the branch that is being rebased here: HEAD is detached meanwhile."""
        git_dir = self.git_dir
        for name in ("rebase-merge", "rebase-apply"):
            with contextlib.suppress(OSError, TypeError):
                return _read(git_dir / name / "head-name")  # type: ignore[operator]
        return None

    def forget_progress(self) -> None:
        """Drop what waits to be finished, as `--quit` does, whatever state it is in."""
        git_dir = self.git_dir
        assert git_dir is not None
        for name, _ in _IN_PROGRESS:
            shutil.rmtree(git_dir / name, ignore_errors=True)
            (git_dir / name).unlink(missing_ok=True)
        shutil.rmtree(git_dir / "sequencer", ignore_errors=True)

    def replace_files(self, *checkout: str) -> None:
        """Check out afresh: whatever was here, ignored files too, goes.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        self.forget_progress()
        repo = self.repo()
        if overlooked(repo):
            # Checking out would go on overlooking them.
            (repo.git_dir / "index").unlink()
        if repo.attempt("checkout", "--quiet", "--force", *checkout, "--").exit_code != 0:
            # A damaged index fails everything, and what it knew does not matter here.
            (repo.git_dir / "index").unlink(missing_ok=True)
            repo.run("checkout", "--quiet", "--force", *checkout, "--")
        self._empty_submodules()
        repo.run("clean", "--quiet", "-ffdx")

    def _empty_submodules(self) -> None:
        """Neither checkout nor clean goes into a folder that the tree takes for a repository."""
        for line in self.repo().run("ls-files", "--stage", "-z").stdout.split(b"\0"):
            if line.startswith(_GITLINK):
                place = self.path / os.fsdecode(line.partition(b"\t")[2])
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                    place.mkdir()

    def clear_stale_locks(self) -> None:
        git_dir = self.git_dir
        if git_dir is not None:
            clear_stale_locks([git_dir / "index.lock", git_dir / "HEAD.lock"], [self.path, git_dir])

    def remove(self) -> None:
        """Take a worktree that holds nobody's work off the disk and out of the clone."""
        registered = self._registered()
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in registered:
            shutil.rmtree(folder, ignore_errors=True)

    def move_aside(self, salvage: Path) -> None:
        """Keep what stands at `path` but is no worktree: somebody may miss it."""
        salvage.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = len(list(salvage.iterdir()))
        os.rename(self.path, salvage / f"{self.path.name}.{number}")

    def _registered(self) -> list[Path]:
        """git's directories for this path, however broken."""
        found = []
        for folder in (self.clone / "worktrees").glob("*"):
            with contextlib.suppress(OSError):
                if _read(folder / "gitdir") == str(self.path / ".git"):
                    found.append(folder)
        return found


def detach_others(clone: Path, branch_ref: str, keep: Path | None) -> None:
    """Detach every worktree but `keep` from `branch_ref`, so that the branch has one owner. Files stay untouched."""
    tip = GitRepo(clone).resolve(branch_ref)
    for head in _heads_on(clone, branch_ref):
        if tip is not None and head.parent != keep:
            write_whole(head, f"{tip}\n")


def is_checked_out(clone: Path, branch_ref: str) -> bool:
    return any(True for _ in _heads_on(clone, branch_ref))


def _heads_on(clone: Path, branch_ref: str) -> Iterator[Path]:
    for head in (clone / "worktrees").glob("*/HEAD"):
        with contextlib.suppress(OSError):
            if _read(head) == f"ref: {branch_ref}":
                yield head


def _read(path: Path) -> str:
    """A file of git's with a name in it, which need not be text."""
    return os.fsdecode(read_plain(path)).strip()
