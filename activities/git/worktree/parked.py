"""Parked work: what there is, putting it on its bead's branch again, and letting go of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from temporalio import activity

from activities.git.clones import cache_clone
from activities.git.command import GitRepo, ls_remote, ls_remote_under, push_failure
from activities.git.merging.changes import landed_as
from activities.git.trees import discard
from activities.git.worktree.park import REMOTE_PROBLEMS
from activities.git.worktree.salvage import first_salvaged, salvaged_files, salvaged_of
from activities.git.worktree.saved_commits import SavedCommit, read_save
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.supervision.host_requests import ErrandResult, ExpireParked, ListParked, ParkedWork, Unpark, Unparked
from models.town import TownPaths
from services.locks import exclusive

_FOLDERS = ("refs/gastown/parked/", "refs/gastown/wip/")


class ParkedActivities:
    """The rigs' parked work, as this host and the remotes have it. Blocking; runs in threads."""

    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths

    @activity.defn
    def list_parked(self, request: ListParked) -> ErrandResult:
        """All of a rig, newest first. A remote that cannot be reached is told of, and what is here is listed.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        rig, problem = request.rig, ""
        with self._alone(rig):
            repo = cache_clone(self._paths, rig)
            here = _refs_here(repo)
            try:
                there = self._fetch(repo, rig, _FOLDERS, request.targets.values())
            except GtError as error:
                if error.code not in REMOTE_PROBLEMS:
                    raise
                there, problem = {}, error.message
            works = [
                _described(repo, rig.landing_on(request.targets.get(ref.split("/")[3])), ref, sha, ref in there)
                for ref, sha in {**here, **there}.items()
            ]
        works = [*(self._with_kept(work) for work in works), *self._kept_alone(rig, {work.ref for work in works})]
        return ErrandResult(parked=tuple(sorted(works, key=lambda one: one.saved_at, reverse=True)), problem=problem)

    @activity.defn
    def unpark(self, request: Unpark) -> ErrandResult:
        """Put a bead's parked work on its branch on the remote, as one commit where it was not committed.

        The parked ref stays. Run again, it finds the branch as it left it.

        Raises:
            GtError: NOT_FOUND, REFUSED where the branch holds other work; REMOTE_UNREACHABLE, REMOTE_REFUSED,
                DISK_FULL, GIT_FAILED.
        """
        rig, bead = request.rig, names.valid_bead(request.bead)
        name = names.published_branch(bead, request.git.branch_prefix)
        branch = f"refs/heads/{name}"
        with self._alone(rig):
            repo = cache_clone(self._paths, rig)
            there = self._fetch(repo, rig, (f"{_FOLDERS[0]}{bead}/", f"{_FOLDERS[1]}{bead}/"))
            saves = {ref: sha for ref, sha in {**there, **_refs_here(repo)}.items() if ref.split("/")[3] == bead}
            ref = _chosen(saves, bead, request.attempt)
            saved = read_save(repo, saves[ref], bead)
            sha = _commit_of(repo, saves[ref], saved, bead)
            before = ls_remote(rig.url, [branch]).get(branch, "")
            if before and before != sha:
                self._refuse_other_work(repo, rig, branch, before, sha)
            if not request.dry_run and before != sha:
                answer = repo.push(rig.url, [f"{sha}:{branch}"], {branch: before})
                if answer.exit_code != 0 and ls_remote(rig.url, [branch]).get(branch) != sha:
                    raise push_failure(answer, f"unparking {bead}")
        return ErrandResult(
            unparked=Unparked(
                bead=bead,
                attempt=names.saved_attempt(ref) or 0,
                ref=ref,
                branch=name,
                sha=sha,
                stayed_here=saved.left if saved else "",
                kept_folder=first_salvaged(self._paths, rig.name, bead, names.saved_attempt(ref) or 0),
            )
        )

    @activity.defn
    def expire_parked(self, request: ExpireParked) -> ErrandResult:
        """Delete these refs, on the remote and here, where they still hold what they held.

        With `kept` the files go too that were kept of their attempts on this host.

        Raises:
            GtError: REMOTE_UNREACHABLE, REMOTE_REFUSED, GIT_FAILED.
        """
        rig, expired = request.rig, []
        with self._alone(rig):
            repo = cache_clone(self._paths, rig)
            wanted = {one.ref: one.sha for one in request.refs if names.saved_attempt(one.ref) is not None}
            there = ls_remote(rig.url, list(wanted)) if wanted else {}
            doomed = {ref: sha for ref, sha in there.items() if wanted[ref] == sha}
            if doomed:
                answer = repo.push(rig.url, [f":{ref}" for ref in doomed], doomed)
                if answer.exit_code != 0 and ls_remote(rig.url, list(doomed)):
                    raise push_failure(answer, "expiring parked work")
            for ref, sha in wanted.items():
                if ref in there and ref not in doomed:
                    continue
                if sha and repo.resolve(ref) == sha:
                    repo.run("update-ref", "-d", ref, sha)
                if request.kept and ref.startswith(_FOLDERS[0]):
                    self._forget_kept(rig, ref)
                expired.append(ref)
        return ErrandResult(expired=tuple(expired))

    def _with_kept(self, work: ParkedWork) -> ParkedWork:
        """The work with what stayed of its attempt on this host; of one attempt that goes with what was parked."""
        folders = salvaged_of(self._paths, work.rig, work.bead, work.attempt) if work.parked else []
        if not folders:
            return work
        return work.model_copy(update={"kept_folder": str(folders[0]), "kept_files": tuple(salvaged_files(folders[0]))})

    def _kept_alone(self, rig: Rig, known: set[str]) -> Iterator[ParkedWork]:
        """What stayed of attempts of which nothing is parked."""
        for folder in sorted((self._paths.salvage / rig.name).glob("*.*.*")):
            with contextlib.suppress(GtError, ValueError):
                bead, attempt, *_ = folder.name.split(".")
                ref = names.parked_ref(names.valid_bead(bead), int(attempt))
                if ref not in known:
                    known.add(ref)
                    at = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
                    yield self._with_kept(
                        ParkedWork(
                            ref=ref, sha="", rig=rig.name, bead=bead, attempt=int(attempt), saved_at=at, files=0,
                            subject=f"Files of {bead}, attempt {attempt}", on_remote=False, landed=False,
                        )
                    )  # fmt: skip

    def _forget_kept(self, rig: Rig, ref: str) -> None:
        for folder in salvaged_of(self._paths, rig.name, ref.split("/")[3], names.saved_attempt(ref) or 0):
            discard(folder, self._paths.salvage / rig.name)

    def _fetch(self, repo: GitRepo, rig: Rig, folders: tuple[str, ...], targets: Iterable[str] = ()) -> dict[str, str]:
        """Fetch the rig's branch, other targets and what is under `folders`: full ref → object name."""
        branches = {f"refs/heads/{names.valid_branch(branch)}": branch for branch in (rig.branch, *targets)}
        there = ls_remote_under(rig.url, [*folders, *branches])
        tracked = []
        for ref, branch in branches.items():
            if ref in there:
                repo.make_way(f"refs/remotes/origin/{branch}")
                tracked.append(f"+{there.pop(ref)}:refs/remotes/origin/{branch}")
        found = {ref: sha for ref, sha in there.items() if names.saved_attempt(ref) is not None}
        missing = [ref for ref, sha in found.items() if repo.resolve(sha) is None]
        if tracked or missing:
            repo.fetch(rig.url, [*tracked, *missing])
        return found

    def _refuse_other_work(self, repo: GitRepo, rig: Rig, branch: str, before: str, sha: str) -> None:
        """Refuse to move the branch away from commits that the parked work does not hold."""
        if repo.resolve(before) is None:
            repo.fetch(rig.url, [branch])
        if not repo.is_ancestor(before, sha):
            name = branch.removeprefix("refs/heads/")
            raise GtError(
                ErrorCode.REFUSED,
                f"the branch {name} is on the remote already, at {before[:12]}, and holds other work",
                f"git push {rig.url} :{branch}   # only if that work is not wanted",
            )

    def _alone(self, rig: Rig) -> AbstractContextManager[None]:
        return exclusive(self._paths.rig(rig.name) / "repo.lock")


def _refs_here(repo: GitRepo) -> dict[str, str]:
    listed = repo.run("for-each-ref", "--format=%(refname) %(objectname)", *(one.rstrip("/") for one in _FOLDERS)).text
    return {
        ref: sha
        for ref, sha in (line.split(" ") for line in listed.splitlines())
        if names.saved_attempt(ref) is not None
    }


def _described(repo: GitRepo, rig: Rig, ref: str, sha: str, on_remote: bool) -> ParkedWork:
    target = repo.resolve(f"refs/remotes/origin/{rig.branch}") or ""
    bead, attempt = ref.split("/")[3], names.saved_attempt(ref) or 0
    at, _, subject = repo.run("log", "-1", "--format=%ct %s", sha, "--").word.partition(" ")
    base = repo.attempt("merge-base", target, sha).word if target else ""
    # Where there is nothing to compare with every file counts.
    against = ("diff", "--name-only", "-z", "--no-renames", base, sha, "--") if base else ("ls-tree", "-r", "-z", sha)
    changed = repo.run(*against).stdout
    saved = read_save(repo, sha, bead)
    return ParkedWork(
        ref=ref,
        sha=sha,
        rig=rig.name,
        bead=bead,
        attempt=attempt,
        parked=ref.startswith(_FOLDERS[0]),
        saved_at=datetime.fromtimestamp(int(at), UTC),
        subject=subject,
        files=changed.count(b"\0"),
        on_remote=on_remote,
        landed=bool(target) and _has_landed(repo, bead, sha, saved, target),
        stayed_here=saved.left if saved else "",
    )


def _has_landed(repo: GitRepo, bead: str, sha: str, saved: SavedCommit | None, target: str) -> bool:
    """All of it is on the target. What was never committed cannot be told to be, so it counts as not landed."""
    if saved is None:
        return repo.is_ancestor(sha, target) or landed_as(repo, bead, sha, target, here=True) is not None
    if saved.parent is None or saved.staged or saved.others or saved.left:
        return False
    unchanged = repo.run("rev-parse", "--verify", f"{saved.parent}^{{tree}}").word == saved.tree
    return unchanged and _has_landed(repo, bead, saved.parent, None, target)


def _chosen(saves: dict[str, str], bead: str, attempt: int | None) -> str:
    """Of the newest attempt, or of the one asked for; parked comes after saved."""
    fitting = [ref for ref in saves if attempt in (None, names.saved_attempt(ref))]
    if not fitting:
        what = f"attempt {attempt} of {bead}" if attempt is not None else bead
        raise GtError(ErrorCode.NOT_FOUND, f"nothing of {what} is parked", "gt polecat parked")
    return max(fitting, key=lambda ref: (names.saved_attempt(ref) or 0, ref.startswith(_FOLDERS[0])))


def _commit_of(repo: GitRepo, sha: str, saved: SavedCommit | None, bead: str) -> str:
    """The parked work as an agent would have committed it; the same each time."""
    if saved is None:
        return sha
    dated = f"@{int(saved.at.timestamp())} +0000"
    parents = ["-p", saved.parent] if saved.parent else []
    if saved.parent and repo.run("rev-parse", "--verify", f"{saved.parent}^{{tree}}").word == saved.tree:
        return saved.parent
    message = f"Unfinished work of {bead}, attempt {saved.attempt}"
    environment = {"GIT_AUTHOR_DATE": dated, "GIT_COMMITTER_DATE": dated}
    return repo.run("commit-tree", *parents, "-m", message, saved.tree, environment=environment).word
