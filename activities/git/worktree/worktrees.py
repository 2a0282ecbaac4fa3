"""Polecats' worktrees: prepared for a bead, published, parked and freed, and each of it killable anywhere.

Plain git without Temporal. One lock per rig serialises what changes the cache clone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.clones import BLOBLESS, cache_clone, fetch_options, join_packs, promisor_config
from activities.git.command import GitRepo, ls_remote_branches, push_failure
from activities.git.lfs import (
    LfsCheckout,
    no_filter_config,
    prepare_checkout,
    publish_objects,
    repository_config,
    uses_lfs,
)
from activities.git.limits import refuse_beyond_limits
from activities.git.stale_locks import clear_stale_locks
from activities.git.status import entries_of
from activities.git.submodules import SubmoduleCheckout, check_reachable, uses_submodules
from activities.git.worktree.assume_unchanged import look_at, overlooked
from activities.git.worktree.park import Parking
from activities.git.worktree.polecat_repo import NO_PUSH, OwnerNote, PolecatRepo, packed_refs
from activities.git.worktree.restoring import AttemptUsed, Save, commit_to_go_on_from, saves_of
from activities.git.worktree.salvage import first_salvaged, keep_files
from activities.git.worktree.saved_commits import SavedCommit
from activities.git.worktree.served import origin_config, serve
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.settings import GitSettings, LimitSettings, WorktreeSettings
from models.town import TownPaths
from services.git_config import config_text
from services.locks import exclusive

_REMOTE_SAVES: Final = "refs/gastown/remote/"
"""where the cache clone has the saves of the remote, under the rest of their names"""
_BRANCHES: Final = 2_000
"""of a remote whose target is gone that are looked at: a command line holds them"""
_NAMES_TRIED: Final = 20


@dataclass(frozen=True)
class PreparedWorktree:
    path: Path
    base_sha: str
    """where the work leaves the target"""
    head_sha: str
    resumed: bool
    """this bead's work of an earlier attempt was found here and left as it was"""
    restored: SavedCommit | None = None
    """the save that the uncommitted files come from"""
    kept: Path | None = None
    """the folder with files that were not restored from it, where this host has them"""


@dataclass(frozen=True)
class WorkStatus:
    head_sha: str
    """"" on a branch without commits"""
    base_sha: str
    """where HEAD leaves the target; "" where they have nothing in common"""
    branch: str
    """short name; while a rebase is in progress the branch that is being rebased; "" when detached"""
    dirty: bool
    dirty_files: tuple[str, ...]
    """changed and untracked files, ignored ones left out; a new folder is one entry"""
    commits_ahead: int
    """commits that HEAD has and the target, as last fetched, has not"""
    in_progress: str
    """rebase, merge, cherry-pick, revert, bisect or "" """


class Published(NamedTuple):
    """What is on the remote now."""

    head: str
    branch: str


class Worktrees:
    """The worktrees of every rig on this host."""

    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths

    def prepare(
        self,
        rig: Rig,
        polecat: str,
        bead: str,
        target: str,
        attempt: int = 0,
        first_attempt: int = 0,
        git: GitSettings = GitSettings(),  # noqa: B008 - frozen
        worktree: WorktreeSettings = WorktreeSettings(),  # noqa: B008 - frozen
    ) -> PreparedWorktree:
        """Give the polecat a repository and worktree of its own on the bead's branch, with whatever work there is.

        An earlier attempt's work in this worktree stays exactly as it is, uncommitted files too, unless a later
        attempt was saved elsewhere: then it is parked like another bead's leftovers. Otherwise the work goes on
        from the newest save of this job's attempts; else the branch starts from where the remote has it, else
        from unpublished commits of this host, else from the target's tip.

        Args:
            attempt: that is about to start; 0: none, nothing is restored.
            first_attempt: of the job. What earlier jobs of the bead have parked is not restored by itself.

        Raises:
            AttemptUsed: a save of this attempt or a later one exists.
            GtError: REMOTE_UNREACHABLE, NO_SUCH_BRANCH (the target), DISK_FULL, GIT_FAILED.
        """
        with self._changing(rig, polecat, bead):
            cache = cache_clone(self._paths, rig)
            target_sha, saves_there = self._fetch(cache, rig, bead, target, git)
            serve(self._paths, rig, cache, git)
            join_packs(cache)
            saves = saves_of(cache, bead, saves_there) if attempt else []
            if saves and saves[-1].attempt >= attempt:
                raise AttemptUsed(bead, saves[-1].attempt)
            repo = self._repo(rig, polecat)
            repo.clear_stale_locks(names.job_branch(bead))
            newest = next((save for save in reversed(saves) if save.attempt >= first_attempt), None)
            note = self._make_room(rig, repo, bead, newest)
            resumed = note is not None and not note.releasing
            restored = note.restored if note is not None and resumed else None
            config = self._config(rig, polecat, bead, target, git)
            saved, lfs = None, note is not None and note.lfs
            if resumed:
                repo.rewrite_config(config + (config_text(repository_config(rig.url)) if lfs else ""))
            else:
                saved, lfs = self._furnish(cache, rig, repo, bead, target_sha, newest, config, git, worktree)
                restored = saved.sha if saved is not None else None
            repo.write_note(OwnerNote(bead=bead, target=target, attempt=attempt, restored=restored, lfs=lfs))
            head = repo.head().sha
            base = head if head in {"", target_sha} else repo.view().attempt("merge-base", target_sha, head).word
        kept = first_salvaged(self._paths, rig.name, bead, saved.attempt) if saved is not None else None
        return PreparedWorktree(repo.path, base or target_sha, head, resumed, saved, Path(kept) if kept else None)

    def status(self, rig: Rig, polecat: str, bead: str) -> WorkStatus:
        """Look at the polecat's worktree; nothing of it is changed.

        Raises:
            GtError: NOT_FOUND where the polecat has no worktree, GIT_FAILED.
        """
        names.valid_bead(bead)
        repo = self._repo(rig, polecat)
        if repo.git_dir is None:
            raise GtError(ErrorCode.NOT_FOUND, f"{names.polecat_address(rig.name, polecat)} has no worktree")
        view, note, head = repo.view(), repo.note, repo.head()
        target = names.valid_branch(note.target if note else rig.branch)
        landed = _landed(GitRepo(self._paths.clone(rig.name)), target, bead)
        branch = repo.rebased_branch() or head.ref
        files = _changed_files(repo, view)
        base, ahead = "", 0
        if head.sha and landed:
            base = view.attempt("merge-base", head.sha, *landed).word
            ahead = int(view.run("rev-list", "--count", head.sha, *(f"^{sha}" for sha in landed), "--").word)
        return WorkStatus(
            head.sha, base, branch.removeprefix("refs/heads/"), bool(files), files, ahead, repo.in_progress
        )

    def owner(self, rig: Rig, polecat: str) -> str | None:
        """The bead whose work stands in the polecat's worktree, finished or not; None for none."""
        note = self._repo(rig, polecat).note
        return note.bead if note is not None else None

    def publish(
        self,
        rig: Rig,
        polecat: str,
        bead: str,
        attempt: int = 0,
        git: GitSettings = GitSettings(),  # noqa: B008 - frozen
        limits: LimitSettings = LimitSettings(),  # noqa: B008 - frozen
        accepted: str = "",
    ) -> Published:
        """Put the bead's branch on the remote, never over commits that it does not hold.

        What the polecat's repository has is taken into the cache clone first; where it has nothing of the bead (any
        more), this host's own copy is published again. A name whose branch holds other commits, ours or a stranger's,
        stays as it is: a rebased attempt gets a branch of its own, so no remote has to take a forced push.

        Args:
            accepted: publish this commit, which was taken before, and nothing that was made since.

        Raises:
            GtError: NO_SUCH_BRANCH, INVALID_VALUE (beyond the limits, or objects that git refuses),
                REMOTE_UNREACHABLE, REMOTE_REFUSED, GIT_FAILED (the branch moved meanwhile).
        """
        names.valid_polecat(polecat)
        cache = cache_clone(self._paths, rig)
        head = cache.resolve(accepted) if accepted else self._take(cache, rig, polecat, bead)
        if head is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"this host has no commit {accepted} of {bead}")
        note = self._repo(rig, polecat).note
        target = cache.resolve(f"refs/remotes/origin/{note.target if note is not None else rig.branch}")
        known = [target] if target else []
        refuse_beyond_limits(cache, head, known, limits)
        # What a commit needs is there before it is: nobody ever fetches one without.
        check_reachable(cache, head, target or head, rig.url, self._paths.modules(rig.name))
        if uses_lfs(cache, head):
            git_dir = self._repo(rig, polecat).git_dir
            agents = git_dir / "lfs" if git_dir is not None else None
            publish_objects(cache, rig.url, head, known, agents, self._paths.lfs(rig.name))
        first = f"{git.branch_prefix}{names.valid_bead(bead)}"
        there = ls_remote_branches(rig.url, first)
        branch = next(name for name in _branch_names(first, attempt) if _may_hold(cache, there.get(name, ""), head))
        if there.get(branch) != head:
            ref = f"refs/heads/{branch}"
            answer = cache.push(rig.url, [f"{head}:{ref}"], {ref: there.get(branch, "")})
            if answer.exit_code != 0 and ls_remote_branches(rig.url, first).get(branch) != head:
                raise push_failure(answer, f"publishing {bead}")
        cache.run("update-ref", names.published_ref(bead, attempt), head)
        self._drop_older(cache, rig, bead, branch, there)
        return Published(head, branch)

    def park(self, rig: Rig, polecat: str, bead: str, attempt: int, landed_sha: str | None) -> str | None:
        """Save what is not landed, uncommitted and untracked files included, under a ref on the remote.

        Args:
            landed_sha: the head or the commit that landed, where the caller knows of one.

        Returns:
            The ref, also when an earlier try parked it; None where everything is landed or there is nothing.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, DISK_FULL, GIT_FAILED.
        """
        with self._changing(rig, polecat, bead):
            repo = self._repo(rig, polecat)
            repo.clear_stale_locks(names.job_branch(bead))
            note = repo.note
            owned = note is not None and note.bead == bead
            if note is not None and owned and note.releasing:
                # Half cleaned already: what stands there now is no longer the work.
                return note.parked_ref
            return self._parking(rig).park(repo if owned else None, bead, attempt, landed_sha)

    def release(self, rig: Rig, polecat: str, bead: str, landed: int = 0) -> None:
        """Free the worktree for the next bead, without a repository. Only after `park`.

        What no commit can hold, and what may not leave this host, goes to the salvage folder. All other files stay
        until `prepare` checks the next bead's out in their place.

        Args:
            landed: the last attempt of a bead that is merged, for whose branches nobody asks any more; 0: it is not.

        Raises:
            GtError: GIT_FAILED where the work was never parked or has moved since.
        """
        with self._changing(rig, polecat, bead):
            repo = self._repo(rig, polecat)
            note = repo.note
            if note is not None and note.bead == bead:
                self._clear(rig, repo, note)
            clone = self._paths.clone(rig.name)
            # Every fetch goes through all refs, so none is left behind.
            over = [names.published_ref(bead, attempt) for attempt in range(landed + 1)] if landed else []
            if not any(True for _ in self._others_with(rig, bead, polecat)):
                over.append(names.work_ref(bead))
            if clone.exists() and over:
                GitRepo(clone).run("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in over).encode())

    def remove_files(self, rig: Rig, polecat: str) -> None:
        """Delete the files that a freed worktree has kept; one that a bead owns is left as it is."""
        with exclusive(self._paths.worktree_lock(rig.name, polecat)):
            repo = self._repo(rig, polecat)
            if repo.note is None:
                repo.remove_files()

    # --- making room ----------------------------------------------------------------------------

    def _make_room(self, rig: Rig, repo: PolecatRepo, bead: str, newest: Save | None) -> OwnerNote | None:
        """The note of this bead's own work here, after parking and clearing what is another's or out of date."""
        note = repo.note
        if note is None:
            return None
        outdated = newest is not None and note.attempt and newest.attempt > note.attempt
        if note.bead == bead and not outdated and (note.releasing or self._can_go_on(repo)):
            return note
        self._evict(rig, repo, note)
        return None

    def _can_go_on(self, repo: PolecatRepo) -> bool:
        """Whether an agent finds a repository here, and one that git can work with."""
        try:
            repo.view()
        except GtError as error:
            if error.code not in {ErrorCode.NOT_FOUND, ErrorCode.INVALID_VALUE}:
                raise
            return False
        return True

    def _evict(self, rig: Rig, repo: PolecatRepo, note: OwnerNote) -> None:
        """Park and clear what stands in this worktree."""
        if not note.releasing:
            self._parking(rig).park(repo, note.bead, note.attempt, None, here_will_do=True)
        left = repo.note
        assert left is not None
        self._clear(rig, repo, left)

    def _clear(self, rig: Rig, repo: PolecatRepo, note: OwnerNote) -> None:
        if not note.releasing:
            if note.parked_head is None or note.parked_head != repo.head().sha:
                raise GtError(ErrorCode.GIT_FAILED, f"{repo.path} holds work of {note.bead} that is not parked yet")
            repo.amend_note(releasing=True)
        salvaged = self._paths.salvaged(rig.name, repo.path.name, note.bead, note.attempt)
        if note.odd:
            repo.salvage(salvaged)
        else:
            keep_files(repo.path, salvaged, note.skipped)
        repo.drop_repository()
        repo.remove_note()

    # --- beginning ------------------------------------------------------------------------------

    def _furnish(
        self,
        cache: GitRepo,
        rig: Rig,
        repo: PolecatRepo,
        bead: str,
        target_sha: str,
        newest: Save | None,
        config: str,
        git: GitSettings,
        worktree: WorktreeSettings,
    ) -> tuple[SavedCommit | None, bool]:
        """A repository on the bead's branch, where its work goes on.

        Returns:
            The save whose files were restored, and whether LFS content is checked out.
        """
        if repo.note is None and not repo.is_known:
            # What stands there is none of ours: somebody may miss it.
            repo.salvage(self._paths.salvage / rig.name / repo.path.name)
        start = self._start(cache, rig, repo, bead, target_sha, git)
        source = commit_to_go_on_from(cache, newest, bead, start, target_sha) if newest is not None else None
        saved = source if isinstance(source, SavedCommit) else None
        head = start
        if source is not None:
            self._keep_unreached(cache, bead, start, source)
            head = source if isinstance(source, str) else source.parent or target_sha
        tree = saved.sha if saved is not None else head
        lfs = LfsCheckout(self._paths.lfs(rig.name), worktree.lfs)
        wanted = lfs.wanted(cache, tree)
        filters = prepare_checkout(cache, tree, rig.url, lfs.storage) if wanted else no_filter_config()
        where = [("remote.origin.url", rig.url)] if git.clone == BLOBLESS else []
        repo.check_out(head, config=[*where, *promisor_config(git), *filters])
        if saved is not None:
            repo.restore(saved.tree, saved.staged or head)
        repo.make_repository(
            names.job_branch(bead),
            head,
            config=config + (config_text(repository_config(rig.url)) if wanted else ""),
            refs=packed_refs(cache, without=f"refs/remotes/origin/{git.branch_prefix}"),
            default_branch=rig.branch,
        )
        if worktree.submodules == "always" or (worktree.submodules == "auto" and uses_submodules(cache, head)):
            submodules = SubmoduleCheckout(self._paths.modules(rig.name), rig.url, lfs=lfs)
            submodules.fill(repo.fresh(), head)
        cache.run("update-ref", names.work_ref(bead), head)
        return saved, wanted

    def _start(self, cache: GitRepo, rig: Rig, repo: PolecatRepo, bead: str, target_sha: str, git: GitSettings) -> str:
        """The commit that the bead's branch continues from; commits that it does not hold are kept under a ref."""
        for other in self._others_with(rig, bead, repo.path.name):
            # What git does not take of another polecat's work stays in its worktree.
            with contextlib.suppress(GtError):
                self._take_branch(cache, other, bead)
        local = cache.resolve(names.work_ref(bead))
        published = _newest_published(cache, f"{git.branch_prefix}{bead}")
        if local is None:
            return published or target_sha
        if published is None:
            return target_sha if cache.is_ancestor(local, target_sha) else local
        if cache.is_ancestor(published, local):
            return local
        if not cache.is_ancestor(local, published):
            cache.run("update-ref", names.kept_ref(bead, local), local)
        return published

    def _keep_unreached(self, cache: GitRepo, bead: str, start: str, source: SavedCommit | str) -> None:
        """Keep what the branch would have started from, where the save does not hold it."""
        sha = source if isinstance(source, str) else source.sha
        if not cache.is_ancestor(start, sha):
            cache.run("update-ref", names.kept_ref(bead, start), start)

    def _config(self, rig: Rig, polecat: str, bead: str, target: str, git: GitSettings) -> str:
        """Text of the configuration of the polecat's repository."""
        author = git.author_identity or (names.valid_polecat(polecat), names.polecat_email(rig.name, polecat))
        branch = f"branch.{names.job_branch(bead)}"
        pairs = [
            ("core.repositoryformatversion", "1" if git.clone == BLOBLESS else "0"),
            ("core.filemode", "true"),
            ("core.bare", "false"),
            ("core.logallrefupdates", "true"),
            # What the tree says holds for everybody's checkout, whatever a person has set.
            ("core.autocrlf", "false"),
            ("remote.origin.url", names.valid_remote(rig.url)),
            ("remote.origin.pushurl", NO_PUSH),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            (f"{branch}.remote", "origin"),
            (f"{branch}.merge", f"refs/heads/{names.valid_branch(target)}"),
            ("user.name", author[0]),
            ("user.email", author[1]),
        ]
        return config_text([*pairs, *origin_config(self._paths, rig, git), *promisor_config(git)])

    def _fetch(self, cache: GitRepo, rig: Rig, bead: str, target: str, git: GitSettings) -> tuple[str, dict[str, str]]:
        """Fetch branches, tags and the bead's saves: the target's tip, and the saves by their refs on the remote."""
        saves = [pattern.removeprefix("refs/gastown/") for pattern in (names.parked_refs(bead), names.wip_refs(bead))]
        refspecs = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
            *(f"+refs/gastown/{place}:{_REMOTE_SAVES}{place}" for place in saves),
        ]
        first = not (cache.git_dir / "packed-refs").exists()
        self._fetch_all(cache, rig, [*fetch_options(git), "--prune"], refspecs)
        if first:
            cache.run("pack-refs", "--all")
        target_sha = cache.resolve(f"refs/remotes/origin/{names.valid_branch(target)}")
        if target_sha is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {target}")
        places = [f"{_REMOTE_SAVES}{place.removesuffix('/*')}" for place in saves]
        listed = cache.run("for-each-ref", "--format=%(refname) %(objectname)", *places).text
        rows = (line.split(" ") for line in listed.splitlines())
        return target_sha, {f"refs/gastown/{ref.removeprefix(_REMOTE_SAVES)}": sha for ref, sha in rows}

    def _fetch_all(self, cache: GitRepo, rig: Rig, options: list[str], refspecs: list[str]) -> None:
        try:
            cache.fetch(rig.url, refspecs, options)
        except GtError as error:
            if "lock" not in error.message:
                raise
            # A fetch that was killed has left its lock on some ref.
            clear_stale_locks((cache.git_dir / "refs").rglob("*.lock"), [cache.git_dir])
            cache.fetch(rig.url, refspecs, options)

    # --- taking ---------------------------------------------------------------------------------

    def _take(self, cache: GitRepo, rig: Rig, polecat: str, bead: str) -> str:
        """The bead's branch as the polecat has it, brought into the cache clone; else this host's own copy."""
        repo = self._repo(rig, polecat)
        note = repo.note
        if note is not None and note.bead == bead and not note.releasing:
            self._take_branch(cache, repo, bead)
        head = cache.resolve(names.work_ref(bead))
        if head is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"{bead} has no branch {names.job_branch(bead)} on this host")
        return head

    def _take_branch(self, cache: GitRepo, repo: PolecatRepo, bead: str) -> None:
        tip = repo.branches().get(f"refs/heads/{names.job_branch(bead)}")
        if tip is not None and cache.resolve(names.work_ref(bead)) != tip:
            repo.fetch_into_cache(cache, [tip])
            cache.run("update-ref", names.work_ref(bead), tip)

    def _drop_older(self, cache: GitRepo, rig: Rig, bead: str, branch: str, there: dict[str, str]) -> None:
        """Delete the branches of earlier attempts that this host has published; failing at it harms nothing."""
        if not there.keys() - {branch}:
            return
        place = names.published_ref(bead, 0).rpartition("/")[0]
        ours = set(cache.run("for-each-ref", "--format=%(objectname)", place).text.split())
        older = {f"refs/heads/{name}": sha for name, sha in there.items() if name != branch and sha in ours}
        if older:
            cache.push(rig.url, [f":{ref}" for ref in older], older)

    # --- places ---------------------------------------------------------------------------------

    def _others_with(self, rig: Rig, bead: str, polecat: str) -> Iterator[PolecatRepo]:
        """Worktrees of other polecats on this host that hold work of the bead."""
        for side in sorted((self._paths.rig(rig.name) / "worktrees").glob("*/owner.json")):
            if side.parent.name != polecat:
                other = self._repo(rig, side.parent.name)
                note = other.note
                if note is not None and note.bead == bead and not note.releasing:
                    yield other

    def _parking(self, rig: Rig) -> Parking:
        return Parking(cache_clone(self._paths, rig), rig, self._paths)

    def _repo(self, rig: Rig, polecat: str) -> PolecatRepo:
        return PolecatRepo(self._paths, rig.name, polecat)

    @contextlib.contextmanager
    def _changing(self, rig: Rig, polecat: str, bead: str) -> Iterator[None]:
        """Change the rig's cache clone and the polecat's worktree alone."""
        clone = self._paths.clone(rig.name)
        # The worktree's first: a save of it may be on its way to the remote, and the clone need not wait for that.
        worktree_lock = self._paths.worktree_lock(rig.name, polecat)
        with exclusive(worktree_lock), exclusive(self._paths.rig(rig.name) / "repo.lock"):
            locks = [clone / f"{name}.lock" for name in (names.work_ref(bead), "packed-refs", "config", "shallow")]
            clear_stale_locks(locks, [clone])
            yield


def _landed(clone: GitRepo, target: str, bead: str) -> list[str]:
    """Commits that are no work of a job's: the target's tip; of one that the remote has no more (renamed, deleted),
    those of all its other branches, as the fetch that found it gone has left them."""
    tip = clone.resolve(f"refs/remotes/origin/{target}")
    if tip:
        return [tip]
    listed = clone.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/origin/").text.splitlines()
    others = [line.split(" ", 1) for line in listed]
    return sorted({sha for sha, name in others if bead not in name})[:_BRANCHES]


def _changed_files(repo: PolecatRepo, view: GitRepo) -> tuple[str, ...]:
    """Changed and untracked files, by a copy of the agent's index; of a damaged one by none."""
    given = repo.copy_index("status.index")
    index = Path(given["GIT_INDEX_FILE"])
    command = ("status", "--porcelain=v2", "-z", "--untracked-files=normal")
    try:
        if index.exists():
            with contextlib.suppress(GtError):
                look_at(view, [path for path in overlooked(view, given) if _is_there(repo, path)], given)
        answer = view.attempt(*command, environment=given)
        if answer.exit_code != 0:
            index.unlink(missing_ok=True)
            view.attempt("read-tree", "HEAD", environment=given)
            answer = view.run(*command, environment=given)
    finally:
        index.unlink(missing_ok=True)
    return tuple(entry.path.decode("utf-8", "replace") for entry in entries_of(answer.stdout))


def _is_there(repo: PolecatRepo, path: bytes) -> bool:
    return os.path.lexists(os.path.join(os.fsencode(repo.path), path))


def _branch_names(first: str, attempt: int) -> Iterator[str]:
    """Names that a bead's branch may have on the remote, in the order in which they are tried."""
    yield first
    yield f"{first}.{attempt}"
    for number in range(2, _NAMES_TRIED):
        yield f"{first}.{attempt}-{number}"
    raise GtError(ErrorCode.REMOTE_REFUSED, f"the remote has {_NAMES_TRIED} other branches named {first}…")


def _may_hold(cache: GitRepo, there: str, head: str) -> bool:
    """Whether a branch that stands at `there` ("" for none) may be moved to `head` without losing anything."""
    return there in {"", head} or (cache.resolve(there) is not None and cache.is_ancestor(there, head))


def _newest_published(cache: GitRepo, first: str) -> str | None:
    """The bead's branch on the remote as last fetched: that of the latest attempt."""
    form = "--format=%(refname) %(objectname)"
    listed = cache.run("for-each-ref", form, f"refs/remotes/origin/{first}", f"refs/remotes/origin/{first}.*").text
    found = []
    for line in listed.splitlines():
        ref, sha = line.split(" ")
        numbers = ref.removeprefix(f"refs/remotes/origin/{first}").removeprefix(".")
        if re.fullmatch(r"(?:[0-9]{1,9}(?:-[0-9]{1,2})?)?", numbers):
            found.append(([int(word) for word in numbers.split("-") if word], sha))
    return max(found)[1] if found else None
