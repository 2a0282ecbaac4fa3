"""Parking: everything of a bead that has not landed, in one commit, under a ref on the remote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from activities.git.changes import landed_as
from activities.git.command import GitRepo, ls_remote, push_failure
from activities.git.in_progress_operations import loose_ends
from activities.git.inner_repositories import InnerRepositories, gitlinks
from activities.git.kept_files import Ignored, KeptFiles
from activities.git.saved_commits import read_save, save_message
from activities.git.snapshot import STAGED, Besides, LeftOut, Saver
from activities.git.underway import save_state, underway_in
from activities.git.worktree_folder import WorktreeFolder
from models import names
from models.errors import ErrorCode, GtError
from models.records import Rig
from models.town import TownPaths

REMOTE_PROBLEMS: Final = frozenset({ErrorCode.REMOTE_UNREACHABLE, ErrorCode.REMOTE_REFUSED})
"""The remote has not got the work; this host has."""
_INDEX: Final = "parking.index"


@dataclass(frozen=True)
class _Remote:
    """What the remote has, or, while it cannot be reached, what it had when it was last heard of."""

    target: str
    """its tip; "" where it was never heard of, or is gone"""
    parked: str
    """under the ref in question; "" for nothing"""
    wips: dict[str, str] = field(default_factory=dict)
    """saves of unfinished work of this attempt and older ones: object name by ref"""
    problem: GtError | None = None


@dataclass(frozen=True)
class _Found:
    """What is to be parked."""

    parents: list[str]
    tree: str | None
    """None: that of the first parent"""
    message: bytes = b""


class Parking:
    """Parks work of one rig.

    Args:
        clone: the clone that the worktrees hang on; the caller holds its lock.
        ignored_max_bytes: how much of what git ignores is kept on this host.
    """

    def __init__(self, clone: GitRepo, rig: Rig, paths: TownPaths, ignored_max_bytes: int) -> None:
        self._clone = clone
        self._rig = rig
        self._paths = paths
        self._ignored_max_bytes = ignored_max_bytes

    def park(
        self,
        folder: WorktreeFolder | None,
        bead: str,
        attempt: int,
        landed_sha: str | None,
        *,
        here_will_do: bool = False,
    ) -> str | None:
        """Save what is not landed of `bead`: in its worktree `folder` if it still has one, and on its branch.

        While the remote cannot be reached the work is saved under the same ref on this host, and the error raised.
        Files that must not leave this host are copied first (`activities.git.kept_files`), and, unless the work has
        landed, those that git ignores. Saves of unfinished work (`refs/gastown/wip`) go once what they hold is
        parked or has landed.

        Args:
            here_will_do: a remote that refuses the work is no error: this host keeps it under the same ref. For
                leftovers that are in another bead's way, which no retry would ever get rid of.

        Returns:
            The ref on the remote, also where an earlier try saved everything under it; None where nothing was saved.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, DISK_FULL, GIT_FAILED; REFUSED where a file that must stay here
                cannot be kept.
        """
        ref = names.parked_ref(bead, attempt)
        note = folder.note if folder is not None else None
        remote = self._look(ref, bead, attempt, note.target if note is not None else self._rig.branch)
        head = folder.repo().resolve("HEAD") if folder is not None else None
        found = self._find(folder, bead, attempt, head, remote, landed_sha)
        saved = self._save_here(ref, remote.parked, found)
        if remote.problem is not None:
            raise remote.problem
        if saved is not None and saved != remote.parked:
            try:
                self._push(ref, saved, remote.parked)
            except GtError as error:
                if not here_will_do or error.code is not ErrorCode.REMOTE_REFUSED:
                    raise
        kept = ref if saved or remote.parked else None
        if folder is not None:
            folder.amend_note(parked_head=head or "", parked_ref=kept)
        self.forget_wips(remote.wips)
        return kept

    def forget_wips(self, wips: dict[str, str]) -> None:
        """Delete saves of unfinished work, here and on the remote, unless they have changed."""
        if not wips:
            return
        answer = self._clone.push(self._rig.url, [f":{ref}" for ref in wips], wips)
        if answer.exit_code != 0 and any(ref in wips for ref in ls_remote(self._rig.url, list(wips))):
            raise push_failure(answer, "deleting saves of unfinished work")
        for ref in wips:
            self._clone.run("update-ref", "-d", ref)

    # --- what there is --------------------------------------------------------------------------

    def _look(self, ref: str, bead: str, attempt: int, target: str) -> _Remote:
        """Fetch the target, what is parked under `ref`, and saves of unfinished work."""
        target_ref = f"refs/heads/{names.valid_branch(target)}"
        try:
            on_remote = ls_remote(self._rig.url, [target_ref, ref, names.wip_refs(bead)])
            saves = {name: sha for name, sha in on_remote.items() if name != target_ref}
            # Without a place of their own here: under the same names this host may hold newer ones.
            wanted = [name for name, sha in saves.items() if self._clone.resolve(sha) is None]
            if target_ref in on_remote:
                self._clone.make_way(f"refs/remotes/origin/{target}")
                wanted.append(f"+{on_remote[target_ref]}:refs/remotes/origin/{target}")
            if wanted:
                self._clone.fetch(self._rig.url, wanted)
        except GtError as error:
            if error.code not in REMOTE_PROBLEMS:
                raise
            known = self._clone.resolve(f"refs/remotes/origin/{target}") or ""
            return _Remote(known, self._clone.resolve(ref) or "", problem=error)
        wips = {name: sha for name, sha in saves.items() if name != ref and (names.saved_attempt(name) or 0) <= attempt}
        # A target that is gone holds nothing: what had landed there alone is saved again.
        return _Remote(on_remote.get(target_ref, ""), saves.get(ref, ""), wips)

    def _find(
        self,
        folder: WorktreeFolder | None,
        bead: str,
        attempt: int,
        head: str | None,
        remote: _Remote,
        landed_sha: str | None,
    ) -> _Found:
        """All that is not landed."""
        branch = names.job_branch(bead)
        tips = [tip for tip in (head, self._clone.resolve(f"refs/heads/{branch}")) if tip]
        saves = [] if landed_sha else self._saves_of_others(folder, bead, remote.wips)
        if folder is None:
            return _Found(self._unlanded(bead, [*tips, *saves], remote.target, landed_sha), None)
        saver = Saver(folder.repo(), _INDEX, None)
        snapshot = saver.take()
        inner, left_out = self._inner(folder, snapshot.inner)
        staged = [Besides(STAGED, snapshot.staged)] if snapshot.staged else []
        underway = underway_in(folder)
        state = save_state(folder) if underway is not None else []
        ends, withheld = self._fit_for_remotes(saver, loose_ends(folder, branch), bead, [*tips, remote.target])
        unlanded = self._unlanded(bead, [*tips, *(one.sha for one in ends), *saves], remote.target, landed_sha)
        ends = [one for one in ends if one.sha in unlanded and one.sha not in tips]
        besides = [*staged, *inner, *state]
        left_out = [*snapshot.left_out, *left_out]
        kept = KeptFiles(self._paths.kept(self._rig.name, bead, attempt))
        kept.keep(folder, left_out, snapshot.staged_apart)
        ignored = Ignored() if landed_sha else kept.keep_ignored(folder, self._ignored_max_bytes)
        # What is kept needs a place where it is told of, except of work that has landed: there its folder is enough.
        told = [*withheld, *ignored.kept, *ignored.lost, *([] if landed_sha else left_out)]
        plain = not snapshot.changed and not besides and not told
        first = [head] if head and not plain else []
        parents = list(dict.fromkeys([*first, *unlanded, *(one.sha for one in besides)]))
        message = save_message(
            f"Parked work of {bead}, attempt {attempt}", bead, attempt, folder.path.name, bool(head),
            [*besides, *ends], [*left_out, *withheld, *ignored.kept], underway, [*ignored.lost, *ignored.caches],
        )  # fmt: skip
        return _Found(parents, None if plain else snapshot.tree, message)

    def _fit_for_remotes(
        self, saver: Saver, ends: Sequence[Besides], bead: str, known: Sequence[str]
    ) -> tuple[list[Besides], list[LeftOut]]:
        """Stashes and the like that may leave the host; others stay under a ref that is never pushed.

        What is on `known` commits, the agent's own, goes to the remote in any case.
        """
        fit, withheld = [], []
        for end in ends:
            kept_back = saver.kept_back(end.sha, [one for one in known if one])
            if not kept_back:
                fit.append(end)
                continue
            self._clone.run("update-ref", names.kept_ref(bead, end.sha), end.sha)
            withheld.append(LeftOut(f"{end.what} {end.sha}", f"it has {kept_back[0].path}"))
        return fit, withheld

    def _saves_of_others(self, folder: WorktreeFolder | None, bead: str, wips: dict[str, str]) -> list[str]:
        """Saves of unfinished work that no worktree of this host holds the content of."""
        note = folder.note if folder is not None else None
        restored = note.restored if note is not None else None
        kept = []
        for ref, sha in wips.items():
            saved = read_save(self._clone, sha, bead)
            in_worktree = sha == restored and saved is not None and not saved.apart
            if not in_worktree and self._clone.resolve(ref) != sha:
                kept.append(sha)
        return kept

    def _inner(self, folder: WorktreeFolder, listed: Sequence[bytes]) -> tuple[list[Besides], list[LeftOut]]:
        """Repositories inside the worktree: their files are saved; those with branches of their own move to salvage."""
        repo = folder.repo()
        tracked = gitlinks(repo)
        saved, left_out = InnerRepositories(self._clone, folder.path, None).save([*listed, *tracked])
        salvage = self._paths.salvage / names.valid_rig(self._rig.name)
        for name in dict.fromkeys([*listed, *tracked]):
            path = folder.path / os.fsdecode(name)
            # A submodule's history is in git's own directory for the worktree, which stays.
            if (path / ".git").is_dir():
                WorktreeFolder(folder.clone, path).move_aside(salvage)
                if name in tracked:
                    # As before its first checkout: without its folder it would count as deleted.
                    path.mkdir()
        untracked = repo.attempt("ls-files", "--others", "--exclude-standard", "-z").stdout.split(b"\0")
        for name in untracked:
            if name.endswith(b"/"):
                WorktreeFolder(folder.clone, folder.path / os.fsdecode(name)).move_aside(salvage)
        return saved, left_out

    def _unlanded(self, bead: str, tips: Sequence[str], target_sha: str, landed_sha: str | None) -> list[str]:
        """Those of `tips` that the target does not hold, each commit once and none that another one holds."""
        kept: list[str] = []
        for tip in dict.fromkeys(tips):
            landed = (
                tip == landed_sha
                or self._clone.is_ancestor(tip, target_sha)
                or (target_sha and landed_as(self._clone, bead, tip, target_sha, here=True) is not None)
            )
            if not landed and not any(self._clone.is_ancestor(tip, other) for other in kept):
                kept.append(tip)
        return kept

    # --- saving it ------------------------------------------------------------------------------

    def _save_here(self, ref: str, before: str, found: _Found) -> str | None:
        """A commit that holds all of it, and what was parked under `ref` before; on this host it is there for good."""
        if found.tree is None and not found.parents:
            return None
        here = self._clone.resolve(ref) or ""
        known = [one for one in dict.fromkeys((before, here)) if one]
        saved = next((one for one in known if self._holds(one, found.parents, found.tree)), None)
        if saved is None:
            saved = self._commit(found, known)
        if saved != here:
            self._clone.run("update-ref", ref, saved)
        return saved

    def _commit(self, found: _Found, known: Sequence[str]) -> str:
        others = [one for one in known if not any(self._clone.is_ancestor(one, parent) for parent in found.parents)]
        if found.tree is None and len(found.parents) == 1 and not others:
            return found.parents[0]
        tree = found.tree or self._clone.run("rev-parse", "--verify", f"{found.parents[0]}^{{tree}}").word
        options = [part for parent in [*found.parents, *others] for part in ("-p", parent)]
        return self._clone.run("commit-tree", *options, "-F", "-", tree, stdin=found.message or b"Parked").word

    def _push(self, ref: str, saved: str, before: str) -> None:
        answer = self._clone.push(self._rig.url, [f"{saved}:{ref}"], {ref: before})
        if answer.exit_code != 0 and ls_remote(self._rig.url, [ref]).get(ref) != saved:
            raise push_failure(answer, f"parking under {ref}")

    def _holds(self, parked: str, parents: Sequence[str], tree: str | None) -> bool:
        """Whether an earlier try, killed or not, has saved all of this already."""
        if not all(self._clone.is_ancestor(parent, parked) for parent in parents):
            return False
        return tree is None or self._clone.run("rev-parse", "--verify", f"{parked}^{{tree}}").word == tree
