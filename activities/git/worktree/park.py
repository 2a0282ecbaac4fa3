"""Parking: everything of a bead that has not landed, in one commit, under a ref on the remote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from activities.git.command import GitRepo, ls_remote, push_failure
from activities.git.lfs import publish_objects, uses_lfs
from activities.git.limits import refuse_what_git_cannot_walk
from activities.git.merging.changes import landed_as
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.saved_commits import read_save, save_message
from activities.git.worktree.snapshot import Saver, SkippedFile
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.town import TownPaths

REMOTE_PROBLEMS: Final = frozenset({ErrorCode.REMOTE_UNREACHABLE, ErrorCode.REMOTE_REFUSED})
"""The remote has not got the work; this host has."""
_UNREADABLE: Final = frozenset({ErrorCode.GIT_FAILED, ErrorCode.INVALID_VALUE})
"""Objects that git refuses, that are missing or damaged."""
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
        cache: the rig's cache clone; the caller holds its lock.
    """

    def __init__(self, cache: GitRepo, rig: Rig, paths: TownPaths) -> None:
        self._cache = cache
        self._rig = rig
        self._paths = paths

    def park(
        self,
        polecat_repo: PolecatRepo | None,
        bead: str,
        attempt: int,
        landed_sha: str | None,
        *,
        here_will_do: bool = False,
    ) -> str | None:
        """Save what is not landed of `bead`: in its worktree if it still has one, and on its branches.

        While the remote cannot be reached the work is saved under the same ref on this host, and the error raised.
        What a snapshot cannot hold, or may not take along, is noted in the owner's note: it goes to the salvage
        folder when the worktree goes. Saves of unfinished work (`refs/gastown/wip`) go once what they hold is
        parked or has landed.

        Args:
            here_will_do: a remote that refuses the work is no error: this host keeps it under the same ref. For
                leftovers that are in another bead's way, which no retry would ever get rid of.

        Returns:
            The ref on the remote, also where an earlier try saved everything under it; None where nothing was saved.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, DISK_FULL, GIT_FAILED.
        """
        ref = names.parked_ref(bead, attempt)
        note = polecat_repo.note if polecat_repo is not None else None
        remote = self._look(ref, bead, attempt, note.target if note is not None else self._rig.branch)
        head = polecat_repo.head().sha if polecat_repo is not None else ""
        found = self._find(polecat_repo, bead, attempt, head, remote, landed_sha)
        saved = self._save_here(ref, remote.parked, found)
        if remote.problem is not None:
            raise remote.problem
        if saved is not None and saved != remote.parked:
            try:
                push_save(self._paths, self._rig, ref, saved, remote.parked, polecat_repo)
            except GtError as error:
                if not here_will_do or error.code is not ErrorCode.REMOTE_REFUSED:
                    raise
        kept = ref if saved or remote.parked else None
        if polecat_repo is not None:
            polecat_repo.amend_note(parked_head=head, parked_ref=kept)
        self.forget_wips(remote.wips)
        return kept

    def forget_wips(self, wips: dict[str, str]) -> None:
        """Delete saves of unfinished work, here and on the remote, unless they have changed."""
        if not wips:
            return
        answer = self._cache.push(self._rig.url, [f":{ref}" for ref in wips], wips)
        if answer.exit_code != 0 and any(ref in wips for ref in ls_remote(self._rig.url, list(wips))):
            raise push_failure(answer, "deleting saves of unfinished work")
        for ref in wips:
            self._cache.run("update-ref", "-d", ref)

    # --- what there is --------------------------------------------------------------------------

    def _look(self, ref: str, bead: str, attempt: int, target: str) -> _Remote:
        """Fetch the target, what is parked under `ref`, and saves of unfinished work."""
        target_ref = f"refs/heads/{names.valid_branch(target)}"
        tracked = f"refs/remotes/origin/{target}"
        try:
            on_remote = ls_remote(self._rig.url, [target_ref, ref, names.wip_refs(bead)])
            saves = {name: sha for name, sha in on_remote.items() if name != target_ref}
            # Without a place of their own here: under the same names this host may hold newer ones.
            wanted = [name for name, sha in saves.items() if self._cache.resolve(sha) is None]
            if target_ref in on_remote and self._cache.resolve(tracked) != on_remote[target_ref]:
                self._cache.make_way(tracked)
                wanted.append(f"+{on_remote[target_ref]}:{tracked}")
            if wanted:
                self._cache.fetch(self._rig.url, wanted)
        except GtError as error:
            if error.code not in REMOTE_PROBLEMS:
                raise
            known = self._cache.resolve(tracked) or ""
            return _Remote(known, self._cache.resolve(ref) or "", problem=error)
        wips = {name: sha for name, sha in saves.items() if name != ref and (names.saved_attempt(name) or 0) <= attempt}
        # A target that is gone holds nothing: what had landed there alone is saved again.
        return _Remote(on_remote.get(target_ref, ""), saves.get(ref, ""), wips)

    def _find(
        self,
        polecat_repo: PolecatRepo | None,
        bead: str,
        attempt: int,
        head: str,
        remote: _Remote,
        landed_sha: str | None,
    ) -> _Found:
        """All that is not landed."""
        taken = self._cache.resolve(names.work_ref(bead))
        tips = [tip for tip in (head, taken) if tip]
        saves = [] if landed_sha else self._saves_of_others(polecat_repo, bead, remote.wips)
        if polecat_repo is not None and polecat_repo.git_dir is None:
            polecat_repo.amend_note(odd="no repository that can be read")
        if polecat_repo is None or polecat_repo.git_dir is None:
            return _Found(self._unlanded(bead, [*tips, *saves], remote.target, landed_sha), None)
        try:
            saver = Saver(polecat_repo, _INDEX, None)
            snapshot = saver.take()
            # Branches of the agent's own too.
            theirs = saver.commits_here([*tips, *polecat_repo.branches().values()])
            staged = [snapshot.staged] if snapshot.staged else []
            left = [*snapshot.skipped, *(SkippedFile("the worktree", f"it has {what}") for what in snapshot.odd)]
            # What stays here needs a place where it is told of, except of work that has landed: its folder is enough.
            plain = not snapshot.changed and not staged and (not left or landed_sha is not None)
            files = [] if plain else [saver.hold(snapshot.tree)]
            # What was taken is there, and was checked on its way.
            polecat_repo.fetch_into_cache(self._cache, [*(sha for sha in theirs if sha != taken), *staged, *files])
        except GtError as error:
            if error.code not in _UNREADABLE:
                raise
            # No try would ever read it: it stays on this host as it is.
            polecat_repo.amend_note(odd=f"commits or files that git does not take: {error.message[:500]}")
            here = [tip for tip in tips if self._is_fit(tip, remote.target)]
            return _Found(self._unlanded(bead, [*here, *saves], remote.target, landed_sha), None)
        tips = theirs
        unlanded = self._unlanded(bead, [*tips, *saves], remote.target, landed_sha)
        polecat_repo.amend_note(odd="; ".join(snapshot.odd), skipped=[one.path for one in snapshot.skipped])
        first = [head] if head and not plain else []
        message = save_message(
            f"Parked work of {bead}, attempt {attempt}", bead, attempt,
            f"{self._rig.name}/{polecat_repo.path.name}", bool(head), snapshot.staged, left,
        )  # fmt: skip
        parents = list(dict.fromkeys([*first, *unlanded, *staged]))
        return _Found(parents, None if plain else snapshot.tree, message)

    def _is_fit(self, tip: str, target: str) -> bool:
        """Whether the cache clone has the commit, and git can work with all that it brings."""
        if self._cache.resolve(tip) != tip:
            return False
        try:
            refuse_what_git_cannot_walk(self._cache, [tip], [target] if target else [])
        except GtError as error:
            if error.code not in _UNREADABLE:
                raise
            return False
        return True

    def _saves_of_others(self, polecat_repo: PolecatRepo | None, bead: str, wips: dict[str, str]) -> list[str]:
        """Saves of unfinished work that no worktree of this host holds the content of."""
        note = polecat_repo.note if polecat_repo is not None else None
        restored = note.restored if note is not None else None
        kept = []
        for ref, sha in wips.items():
            saved = read_save(self._cache, sha, bead)
            in_worktree = sha == restored and saved is not None and not saved.others
            if not in_worktree and self._cache.resolve(ref) != sha:
                kept.append(sha)
        return kept

    def _unlanded(self, bead: str, tips: Sequence[str], target_sha: str, landed_sha: str | None) -> list[str]:
        """Those of `tips` that the target does not hold, each commit once and none that another one holds."""
        kept: list[str] = []
        for tip in dict.fromkeys(tips):
            landed = (
                tip == landed_sha
                or self._cache.is_ancestor(tip, target_sha)
                or (target_sha and landed_as(self._cache, bead, tip, target_sha, here=True) is not None)
            )
            if not landed and not any(self._cache.is_ancestor(tip, other) for other in kept):
                kept.append(tip)
        return kept

    # --- saving it ------------------------------------------------------------------------------

    def _save_here(self, ref: str, before: str, found: _Found) -> str | None:
        """A commit that holds all of it, and what was parked under `ref` before; on this host it is there for good."""
        if found.tree is None and not found.parents:
            return None
        here = self._cache.resolve(ref) or ""
        known = [one for one in dict.fromkeys((before, here)) if one]
        saved = next((one for one in known if self._holds(one, found.parents, found.tree)), None)
        if saved is None:
            saved = self._commit(found, known)
        if saved != here:
            self._cache.run("update-ref", ref, saved)
        return saved

    def _commit(self, found: _Found, known: Sequence[str]) -> str:
        others = [one for one in known if not any(self._cache.is_ancestor(one, parent) for parent in found.parents)]
        if found.tree is None and len(found.parents) == 1 and not others:
            return found.parents[0]
        tree = found.tree or self._cache.run("rev-parse", "--verify", f"{found.parents[0]}^{{tree}}").word
        options = [part for parent in [*found.parents, *others] for part in ("-p", parent)]
        return self._cache.run("commit-tree", *options, "-F", "-", tree, stdin=found.message or b"Parked").word

    def _holds(self, parked: str, parents: Sequence[str], tree: str | None) -> bool:
        """Whether an earlier try, killed or not, has saved all of this already."""
        if not all(self._cache.is_ancestor(parent, parked) for parent in parents):
            return False
        return tree is None or self._cache.run("rev-parse", "--verify", f"{parked}^{{tree}}").word == tree


def push_save(
    paths: TownPaths, rig: Rig, ref: str, saved: str, before: str, polecat_repo: PolecatRepo | None = None
) -> None:
    """Put a save under its ref on the remote, over what this town had there before and over nothing else.

    Its LFS content goes first. A remote that takes no new value of a ref that is no descendant of the old one gets it
    in two steps.

    Args:
        polecat_repo: that the work was done in: its commits' LFS content is there.

    Raises:
        GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED.
    """
    cache = GitRepo(paths.clone(rig.name))
    if uses_lfs(cache, saved):
        target = cache.resolve(f"refs/remotes/origin/{rig.branch}")
        git_dir = polecat_repo.git_dir if polecat_repo is not None else None
        agents = git_dir / "lfs" if git_dir is not None else None
        publish_objects(cache, rig.url, saved, [target] if target else [], agents, paths.lfs(rig.name))
    answer = cache.push(rig.url, [f"{saved}:{ref}"], {ref: before})
    if answer.exit_code == 0 or ls_remote(rig.url, [ref]).get(ref) == saved:
        return
    if before and "non-fast-forward" in f"{answer.text}{answer.stderr}":
        cache.push(rig.url, [f":{ref}"], {ref: before})
        answer = cache.push(rig.url, [f"{saved}:{ref}"], {ref: ""})
        if answer.exit_code == 0:
            return
    raise push_failure(answer, f"saving under {ref}")
