"""Parking: everything of a bead that has not landed, in one commit, under a ref on the remote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from activities.changes import landed_as
from activities.git import GitRepo, ls_remote, push_failure
from activities.worktree_folder import WorktreeFolder
from models import names
from models.errors import ErrorCode, GtError
from models.records import Rig


class Parking:
    """Parks work of one rig.

    Args:
        clone: the clone that the worktrees hang on; the caller holds its lock.
        salvage: where repositories go that somebody made inside a worktree: git cannot commit them.
    """

    def __init__(self, clone: GitRepo, rig: Rig, salvage: Path) -> None:
        self._clone = clone
        self._rig = rig
        self._salvage = salvage

    def park(self, folder: WorktreeFolder | None, bead: str, attempt: int, landed_sha: str | None) -> str | None:
        """Save what is not landed of `bead`: in its worktree `folder` if it still has one, and on its branch.

        Returns:
            The ref on the remote, also where an earlier try saved everything under it; None where nothing was saved.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, DISK_FULL, GIT_FAILED.
        """
        ref = names.parked_ref(bead, attempt)
        note = folder.note if folder is not None else None
        target_sha, before = self._fetch(ref, note.target if note is not None else self._rig.branch)
        head = folder.repo().resolve("HEAD") if folder is not None else None
        tips = [tip for tip in (head, self._clone.resolve(f"refs/heads/{names.job_branch(bead)}")) if tip]
        unlanded = self._unlanded(bead, tips, target_sha, landed_sha)
        tree = self._tree_of(folder, head) if folder is not None else None
        saved = None
        if tree is not None or unlanded:
            first = [head] if tree is not None and head else []
            parents = [*first, *(tip for tip in unlanded if tip not in first)]
            saved = self._save(ref, before, parents, tree, f"Parked work of {bead}, attempt {attempt}")
        kept = ref if saved or before else None
        if folder is not None:
            folder.amend_note(parked_head=head or "", parked_ref=kept)
        return kept

    def _fetch(self, ref: str, target: str) -> tuple[str, str]:
        """Fetch the target and what is parked under `ref`: their objects on the remote, "" for nothing parked."""
        target_ref = f"refs/heads/{names.valid_branch(target)}"
        on_remote = ls_remote(self._rig.url, [target_ref, ref])
        if target_ref not in on_remote:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {self._rig.name} has no branch {target}")
        refspecs = [f"+{on_remote[target_ref]}:refs/remotes/origin/{target}"]
        if ref in on_remote:
            refspecs.append(f"+{on_remote[ref]}:{ref}")
        self._clone.fetch(self._rig.url, refspecs)
        return on_remote[target_ref], on_remote.get(ref, "")

    def _unlanded(self, bead: str, tips: Sequence[str], target_sha: str, landed_sha: str | None) -> list[str]:
        """Those of `tips` that the target does not hold, each commit once and none that another one holds."""
        kept: list[str] = []
        for tip in dict.fromkeys(tips):
            landed = (
                tip == landed_sha
                or self._clone.is_ancestor(tip, target_sha)
                or landed_as(self._clone, bead, tip, target_sha, here=True) is not None
            )
            if not landed and not any(self._clone.is_ancestor(tip, other) for other in kept):
                kept.append(tip)
        return kept

    def _tree_of(self, folder: WorktreeFolder, head: str | None) -> str | None:
        """The tree of the files in `folder`, ignored ones left out; None where it is HEAD's. The index stays as is."""
        repo = folder.repo()
        self._move_repositories_aside(folder)
        index = repo.git_dir / "parking.index"
        given = {"GIT_INDEX_FILE": str(index)}
        index.with_name(f"{index.name}.lock").unlink(missing_ok=True)
        try:
            # A copy of the agent's index knows which files are unchanged; a damaged one is rebuilt from HEAD.
            if (repo.git_dir / "index").exists():
                shutil.copyfile(repo.git_dir / "index", index)
            if repo.attempt("add", "--all", environment=given).exit_code != 0:
                index.unlink(missing_ok=True)
                if head:
                    repo.run("read-tree", head, environment=given)
                repo.run("add", "--all", environment=given)
            tree = repo.run("write-tree", environment=given).word
        finally:
            index.unlink(missing_ok=True)
        clean = self._clone.run("rev-parse", "--verify", f"{head}^{{tree}}").word if head else ""
        return None if tree == clean else tree

    def _move_repositories_aside(self, folder: WorktreeFolder) -> None:
        listed = folder.repo().attempt("ls-files", "--others", "--exclude-standard", "-z")
        for name in listed.stdout.split(b"\0"):
            if name.endswith(b"/"):
                inner = folder.path / os.fsdecode(name)
                WorktreeFolder(folder.clone, inner).move_aside(self._salvage)

    def _save(self, ref: str, before: str, parents: list[str], tree: str | None, message: str) -> str:
        """Push a commit that holds `tree` and all `parents`, and what was parked under `ref` before."""
        if before and self._holds(before, parents, tree):
            return before
        others = [before] if before and not any(self._clone.is_ancestor(before, one) for one in parents) else []
        if tree is None and len(parents) == 1 and not others:
            saved = parents[0]
        else:
            tree = tree or self._clone.run("rev-parse", "--verify", f"{parents[0]}^{{tree}}").word
            options = [part for parent in [*parents, *others] for part in ("-p", parent)]
            saved = self._clone.run("commit-tree", *options, "-F", "-", tree, stdin=f"{message}\n".encode()).word
        # Here too, so that the work stays when the remote loses the ref.
        self._clone.run("update-ref", ref, saved)
        answer = self._clone.push(self._rig.url, [f"{saved}:{ref}"], {ref: before})
        if answer.exit_code != 0 and ls_remote(self._rig.url, [ref]).get(ref) != saved:
            raise push_failure(answer, f"parking under {ref}")
        return saved

    def _holds(self, parked: str, parents: Sequence[str], tree: str | None) -> bool:
        """Whether an earlier try, killed or not, has parked all of this already."""
        if not all(self._clone.is_ancestor(parent, parked) for parent in parents):
            return False
        return tree is None or self._clone.run("rev-parse", "--verify", f"{parked}^{{tree}}").word == tree
