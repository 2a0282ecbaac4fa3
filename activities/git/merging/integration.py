"""Integration branches: made where the rig's own branch stands, and handed in to be landed on it as one."""

from __future__ import annotations

from contextlib import AbstractContextManager

from temporalio import activity

from activities.git.clones import cache_clone
from activities.git.command import GitRepo, ls_remote, push_failure
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.supervision.host_requests import CreateBranch, ErrandResult, HandInBranch, IntegrationBranch, LookAtBranch
from models.town import TownPaths
from services.locks import exclusive


class IntegrationActivities:
    """The rigs' integration branches, as the remotes have them. Blocking; runs in threads."""

    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths

    @activity.defn
    def create_branch(self, request: CreateBranch) -> ErrandResult:
        """Make the branch on the remote; one that is there already stays where it is.

        Raises:
            GtError: INVALID_NAME, NO_SUCH_BRANCH (the rig's own), REMOTE_UNREACHABLE, REMOTE_REFUSED, GIT_FAILED.
        """
        rig, ref = request.rig, f"refs/heads/{names.valid_target(request.branch)}"
        with self._alone(rig):
            repo = cache_clone(self._paths, rig)
            there = ls_remote(rig.url, [ref, _own(rig)])
            if _own(rig) not in there:
                raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {rig.branch}")
            created = ref not in there
            if created:
                repo.fetch(rig.url, [there[_own(rig)]])
                self._push(repo, rig, there[_own(rig)], ref)
            return ErrandResult(branch=self._look(repo, rig, request.branch, created=created))

    @activity.defn
    def look_at_branch(self, request: LookAtBranch) -> ErrandResult:
        """Where the branch stands, and how much of it the rig's own branch lacks.

        Raises:
            GtError: INVALID_NAME, NO_SUCH_BRANCH (either), REMOTE_UNREACHABLE, GIT_FAILED.
        """
        with self._alone(request.rig):
            repo = cache_clone(self._paths, request.rig)
            return ErrandResult(branch=self._look(repo, request.rig, request.branch))

    @activity.defn
    def hand_in_branch(self, request: HandInBranch) -> ErrandResult:
        """Put the commit on the bead's branch on the remote; a branch that is there already stays where it is.

        Raises:
            GtError: INVALID_NAME, REMOTE_UNREACHABLE, REMOTE_REFUSED, GIT_FAILED.
        """
        rig = request.rig
        ref = f"refs/heads/{names.published_branch(request.bead, request.git.branch_prefix)}"
        with self._alone(rig):
            repo = cache_clone(self._paths, rig)
            if ref not in ls_remote(rig.url, [ref]):
                if repo.resolve(request.sha) is None:
                    repo.fetch(rig.url, [request.sha])
                self._push(repo, rig, request.sha, ref)
            return ErrandResult(branch=self._look(repo, rig, request.branch))

    def _look(self, repo: GitRepo, rig: Rig, branch: str, *, created: bool = False) -> IntegrationBranch:
        ref = f"refs/heads/{names.valid_target(branch)}"
        there = ls_remote(rig.url, [ref, _own(rig)])
        for name, place in ((branch, ref), (rig.branch, _own(rig))):
            if place not in there:
                hint = f"gt refinery integration create {name} --rig {rig.name}" if name == branch else ""
                raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {name}", hint)
        repo.fetch(rig.url, [there[ref], there[_own(rig)]])
        ahead = int(repo.run("rev-list", "--count", there[ref], f"^{there[_own(rig)]}", "--").word)
        return IntegrationBranch(branch=branch, sha=there[ref], ahead=ahead, created=created)

    def _push(self, repo: GitRepo, rig: Rig, sha: str, ref: str) -> None:
        """Make `ref` on the remote, unless somebody else was first."""
        answer = repo.push(rig.url, [f"{sha}:{ref}"], {ref: ""})
        if answer.exit_code != 0 and ref not in ls_remote(rig.url, [ref]):
            raise push_failure(answer, f"making {ref.removeprefix('refs/heads/')}")

    def _alone(self, rig: Rig) -> AbstractContextManager[None]:
        return exclusive(self._paths.rig(rig.name) / "repo.lock")


def _own(rig: Rig) -> str:
    return f"refs/heads/{names.valid_branch(rig.branch)}"
