"""Polecats' worktrees: prepared for a bead, published, parked and freed, and each of it killable anywhere.

Plain git without Temporal. One lock per rig serialises what changes the shared clone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from activities.git.clones import work_clone
from activities.git.command import GitRepo, ls_remote, push_failure
from activities.git.kept_files import folder_of
from activities.git.park import Parking
from activities.git.restoring import AttemptUsed, Save, commit_to_go_on_from, restore_files, saves_of
from activities.git.saved_commits import SavedCommit
from activities.git.stale_locks import clear_stale_locks
from activities.git.worktree_folder import OwnerNote, WorktreeFolder, detach_others, is_checked_out
from activities.locks import exclusive
from models import names
from models.errors import ErrorCode, GtError
from models.records import Rig
from models.settings import IGNORED_MAX_BYTES
from models.town import TownPaths

_PATH_FIELD: Final = {"1": 7, "2": 8, "u": 9}
"""fields before the path, by kind of entry of `git status --porcelain=v2`"""


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
        ignored_max_bytes: int = IGNORED_MAX_BYTES,
    ) -> PreparedWorktree:
        """Give the polecat a worktree on the bead's branch, with whatever work there already is.

        An earlier attempt's work in this worktree stays exactly as it is, uncommitted files too, unless a later
        attempt was saved elsewhere: then it is parked like another bead's leftovers. Otherwise the work goes on
        from the newest save of this job's attempts; else the branch starts from where the remote has it, else
        from unpublished commits of this host, else from the target's tip.

        Args:
            attempt: that is about to start; 0: none, nothing is restored.
            first_attempt: of the job. What earlier jobs of the bead have parked is not restored by itself.
            ignored_max_bytes: how much of leftovers that git ignores is kept.

        Raises:
            AttemptUsed: a save of this attempt or a later one exists.
            GtError: REMOTE_UNREACHABLE, NO_SUCH_BRANCH (the target), DISK_FULL, GIT_FAILED.
        """
        with self._changing(rig, polecat, bead, target):
            repo = work_clone(self._paths, rig)
            target_sha, on_remote = self._fetch(repo, rig, bead, target)
            saves = saves_of(repo, bead, on_remote) if attempt else []
            if saves and saves[-1].attempt >= attempt:
                raise AttemptUsed(bead, saves[-1].attempt)
            folder = self._folder(rig, polecat)
            folder.clear_stale_locks()
            newest = next((save for save in reversed(saves) if save.attempt >= first_attempt), None)
            note = self._make_room(rig, folder, bead, newest, ignored_max_bytes)
            resumed = note is not None and not note.releasing
            restored = note.restored if note is not None and resumed else None
            saved = None
            if not resumed:
                saved = self._furnish_with(repo, rig, polecat, folder, bead, target_sha, newest)
                restored = saved.sha if saved is not None else None
            folder.write_note(OwnerNote(bead=bead, target=target, attempt=attempt, restored=restored))
        status = self.status(rig, polecat, bead)
        kept = self._kept_of(rig, bead, saved)
        return PreparedWorktree(folder.path, status.base_sha or target_sha, status.head_sha, resumed, saved, kept)

    def status(self, rig: Rig, polecat: str, bead: str) -> WorkStatus:
        """Look at the polecat's worktree; nothing is changed and nothing is locked.

        Raises:
            GtError: NOT_FOUND where the polecat has no worktree, GIT_FAILED.
        """
        names.valid_bead(bead)
        folder = self._folder(rig, polecat)
        if folder.git_dir is None:
            raise GtError(ErrorCode.NOT_FOUND, f"{names.polecat_address(rig.name, polecat)} has no worktree")
        repo = folder.repo()
        note = folder.note
        target_ref = f"refs/remotes/origin/{names.valid_branch(note.target if note else rig.branch)}"
        shown = repo.run("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal").text
        head, branch, files = _read_status(shown)
        rebased = folder.rebased_branch()
        if rebased is not None:
            branch = rebased.removeprefix("refs/heads/")
        base, ahead = "", 0
        if head:
            base = repo.attempt("merge-base", target_ref, head).word
            ahead = int(repo.run("rev-list", "--count", head, f"^{target_ref}", "--").word)
        return WorkStatus(head, base, branch, bool(files), files, ahead, folder.in_progress)

    def owner(self, rig: Rig, polecat: str) -> str | None:
        """The bead whose work stands in the polecat's worktree, finished or not; None for none."""
        note = self._folder(rig, polecat).note
        return note.bead if note is not None else None

    def publish(self, rig: Rig, polecat: str, bead: str) -> str:
        """Put the bead's branch on the remote, over whatever this bead had there before.

        Returns:
            The commit that the remote now has.

        Raises:
            GtError: NO_SUCH_BRANCH, REMOTE_UNREACHABLE, REMOTE_REFUSED, GIT_FAILED (the branch moved meanwhile).
        """
        names.valid_polecat(polecat)
        repo = work_clone(self._paths, rig)
        branch_ref = _branch_ref(names.job_branch(bead))
        head = repo.resolve(branch_ref)
        if head is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"{bead} has no branch {names.job_branch(bead)} on this host")
        before = ls_remote(rig.url, [branch_ref]).get(branch_ref, "")
        if before != head:
            answer = repo.push(rig.url, [f"{head}:{branch_ref}"], {branch_ref: before})
            if answer.exit_code != 0 and ls_remote(rig.url, [branch_ref]).get(branch_ref) != head:
                raise push_failure(answer, f"publishing {bead}")
        return head

    def park(
        self,
        rig: Rig,
        polecat: str,
        bead: str,
        attempt: int,
        landed_sha: str | None,
        ignored_max_bytes: int = IGNORED_MAX_BYTES,
    ) -> str | None:
        """Save what is not landed, uncommitted and untracked files included, under a ref on the remote.

        Args:
            landed_sha: the head or the commit that landed, where the caller knows of one.
            ignored_max_bytes: so much of what git ignores is kept on this host, unless the work has landed.

        Returns:
            The ref, also when an earlier try parked it; None where everything is landed or there is nothing.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, DISK_FULL, GIT_FAILED.
        """
        with self._changing(rig, polecat, bead, rig.branch):
            folder = self._folder(rig, polecat)
            folder.clear_stale_locks()
            note = folder.note
            owned = note is not None and note.bead == bead
            if note is not None and owned and note.releasing:
                # Half cleaned already: what stands there now is no longer the work.
                return note.parked_ref
            return self._parking(rig, ignored_max_bytes).park(folder if owned else None, bead, attempt, landed_sha)

    def release(self, rig: Rig, polecat: str, bead: str) -> None:
        """Free the worktree for the next bead: detached, clean, the bead's local branch gone. Only after `park`.

        Raises:
            GtError: GIT_FAILED where the work was never parked or has moved since.
        """
        branch_ref = _branch_ref(names.job_branch(bead))
        with self._changing(rig, polecat, bead, rig.branch):
            folder = self._folder(rig, polecat)
            folder.clear_stale_locks()
            note = folder.note
            if note is not None and note.bead == bead:
                self._clear(folder, note)
            clone = self._paths.clone(rig.name)
            if clone.exists() and not is_checked_out(clone, branch_ref):
                GitRepo(clone).run("update-ref", "-d", branch_ref)

    def _kept_of(self, rig: Rig, bead: str, saved: SavedCommit | None) -> Path | None:
        kept = folder_of(self._paths, rig.name, bead, saved.attempt) if saved is not None else None
        return Path(kept) if kept is not None else None

    def _make_room(
        self, rig: Rig, folder: WorktreeFolder, bead: str, newest: Save | None, ignored_max_bytes: int
    ) -> OwnerNote | None:
        """The note of this bead's own work here, after parking and clearing what is another's or out of date."""
        note = folder.note
        if note is None:
            return None
        outdated = newest is not None and note.attempt and newest.attempt > note.attempt
        if note.bead == bead and not outdated:
            return note
        self._evict(rig, folder, note, ignored_max_bytes)
        return None

    def _evict(self, rig: Rig, folder: WorktreeFolder, note: OwnerNote, ignored_max_bytes: int) -> None:
        """Park and clear what stands in this worktree."""
        if not note.releasing:
            self._parking(rig, ignored_max_bytes).park(folder, note.bead, note.attempt, None, here_will_do=True)
        left = folder.note
        assert left is not None
        self._clear(folder, left)

    def _furnish_with(
        self,
        repo: GitRepo,
        rig: Rig,
        polecat: str,
        folder: WorktreeFolder,
        bead: str,
        target_sha: str,
        newest: Save | None,
    ) -> SavedCommit | None:
        """Check the bead's branch out where its work goes on; the save whose files were restored."""
        branch_ref = _branch_ref(names.job_branch(bead))
        start = self._start(repo, branch_ref, bead, target_sha)
        source = commit_to_go_on_from(repo, newest, bead, start, target_sha) if newest is not None else None
        if source is None:
            self._furnish(rig, polecat, folder, branch_ref, start)
            return None
        self._keep_unreached(repo, bead, start, source)
        if isinstance(source, str):
            self._furnish(rig, polecat, folder, branch_ref, source)
            return None
        self._furnish(rig, polecat, folder, branch_ref, source.parent or target_sha)
        restore_files(folder, source)
        return source

    def _clear(self, folder: WorktreeFolder, note: OwnerNote) -> None:
        repo = folder.repo()
        if not note.releasing:
            if note.parked_head is None or note.parked_head != (repo.resolve("HEAD") or ""):
                raise GtError(ErrorCode.GIT_FAILED, f"{folder.path} holds work of {note.bead} that is not parked yet")
            folder.amend_note(releasing=True)
        # A target that is gone may have had to make way for another one.
        folder.replace_files("--detach", repo.resolve(f"refs/remotes/origin/{note.target}") or "HEAD")
        folder.remove_note()

    def _furnish(self, rig: Rig, polecat: str, folder: WorktreeFolder, branch_ref: str, start: str) -> None:
        """Make the worktree where there is none, and check out the bead's branch at `start`."""
        if folder.git_dir is None or folder.repo().resolve("HEAD") is None:
            self._make(rig, folder, start)
        git_dir = folder.git_dir
        detach_others(folder.clone, branch_ref, keep=git_dir)
        folder.write_user(rig.name, polecat)
        branch = branch_ref.removeprefix("refs/heads/")
        folder.replace_files("--no-track", "--ignore-other-worktrees", "-B", branch, start)

    def _make(self, rig: Rig, folder: WorktreeFolder, start: str) -> None:
        if folder.path.exists() and any(entry.name != ".git" or entry.is_dir() for entry in folder.path.iterdir()):
            folder.move_aside(self._paths.salvage / names.valid_rig(rig.name))
        folder.remove()
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        add = ("worktree", "add", "--quiet", "--force", "--detach", "--no-checkout", "--", str(folder.path), start)
        GitRepo(folder.clone).run(*add)

    def _start(self, repo: GitRepo, branch_ref: str, bead: str, target_sha: str) -> str:
        """The commit that the bead's branch continues from; commits that it does not hold are kept under a ref."""
        local = repo.resolve(branch_ref)
        published = repo.resolve(f"refs/remotes/origin/{names.job_branch(bead)}")
        if local is None:
            return published or target_sha
        if published is None:
            return target_sha if repo.is_ancestor(local, target_sha) else local
        if repo.is_ancestor(published, local):
            return local
        if not repo.is_ancestor(local, published):
            repo.run("update-ref", names.kept_ref(bead, local), local)
        return published

    def _keep_unreached(self, repo: GitRepo, bead: str, start: str, source: SavedCommit | str) -> None:
        """Keep what the branch would have started from, where the save does not hold it."""
        sha = source if isinstance(source, str) else source.sha
        if not repo.is_ancestor(start, sha):
            repo.run("update-ref", names.kept_ref(bead, start), start)

    def _fetch(self, repo: GitRepo, rig: Rig, bead: str, target: str) -> tuple[str, dict[str, str]]:
        """Fetch the target and what the remote has of the bead: the target's tip, and what is under which ref."""
        target_ref, branch_ref = _branch_ref(target), _branch_ref(names.job_branch(bead))
        patterns = [target_ref, branch_ref, names.wip_refs(bead), names.parked_refs(bead)]
        on_remote = ls_remote(rig.url, patterns)
        if target_ref not in on_remote:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {target}")
        tracked = {ref: f"refs/remotes/origin/{ref.removeprefix('refs/heads/')}" for ref in (target_ref, branch_ref)}
        branches = [f"+{on_remote[ref]}:{place}" for ref, place in tracked.items() if ref in on_remote]
        saves = [ref for ref, sha in on_remote.items() if ref not in tracked and repo.resolve(sha) is None]
        repo.make_way(tracked[target_ref])
        repo.fetch(rig.url, [*branches, *saves])
        if branch_ref not in on_remote:
            repo.run("update-ref", "-d", tracked[branch_ref])
        return on_remote[target_ref], on_remote

    def _parking(self, rig: Rig, ignored_max_bytes: int) -> Parking:
        return Parking(work_clone(self._paths, rig), rig, self._paths, ignored_max_bytes)

    def _folder(self, rig: Rig, polecat: str) -> WorktreeFolder:
        return WorktreeFolder(self._paths.clone(rig.name), self._paths.worktree(rig.name, polecat))

    @contextlib.contextmanager
    def _changing(self, rig: Rig, polecat: str, bead: str, target: str) -> Iterator[None]:
        """Change the rig's clone and the polecat's worktree alone, without locks of git commands that were killed."""
        clone = self._paths.clone(rig.name)
        job_branch, target = names.job_branch(bead), names.valid_branch(target)
        refs = [f"refs/heads/{job_branch}", f"refs/remotes/origin/{job_branch}", f"refs/remotes/origin/{target}"]
        # The worktree's first: a save of it may be on its way to the remote, and the clone need not wait for that.
        worktree_lock = self._paths.worktree_lock(rig.name, polecat)
        with exclusive(worktree_lock), exclusive(self._paths.rig(rig.name) / "repo.lock"):
            locks = [clone / f"{name}.lock" for name in (*refs, "packed-refs", "config", "shallow")]
            clear_stale_locks(locks, [clone, self._paths.rig(rig.name) / "polecats"])
            yield


def _branch_ref(branch: str) -> str:
    return f"refs/heads/{names.valid_branch(branch)}"


def _read_status(shown: str) -> tuple[str, str, tuple[str, ...]]:
    """HEAD ("" before the first commit), short branch ("" when detached) and files, out of porcelain v2 with NULs."""
    head, branch, files = "", "", []
    entries = iter(shown.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            head = value if name == "branch.oid" and value != "(initial)" else head
            branch = value if name == "branch.head" and value != "(detached)" else branch
        elif kind == "?":
            files.append(rest)
        elif kind in _PATH_FIELD:
            files.append(rest.split(" ", _PATH_FIELD[kind])[-1])
            if kind == "2":
                next(entries, None)
    return head, branch, tuple(files)
