"""Building a chain of landing commits and moving the target to it: compare-and-swap on the remote.

Both work in a bare clone of their own that agents never see. The same inputs give the same
commits, so a repeated build is the same build; landing looks, pushes with the expected old value
and looks again, so a repeated landing finds what the first one did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from temporalio import activity

from activities.crash_points import crash_point
from activities.git.clone_refs import bring_refs, watched_refs
from activities.git.clone_refs import locks as ref_locks
from activities.git.clones import cache_clone
from activities.git.command import (
    ABSENT,
    Answer,
    GitRepo,
    ls_remote,
    ls_remote_under,
    push_failure,
    remote_failure,
    remote_head,
)
from activities.git.limits import refuse_what_git_cannot_walk
from activities.git.merging.chain import ChainBuilder
from activities.git.merging.changes import last_landing
from activities.git.merging.confirming import doubt
from activities.git.merging.styles import Hand
from activities.git.merging.target_history import Fork, Removed, TargetHistory
from activities.git.merging.trees import TreeMerger
from activities.git.stale_locks import clear_stale_locks
from models import names
from models.errors import ErrorCode, GtError
from models.job.attempts import ReleaseWorktree, WorktreeReleased
from models.ledger.records import MergeRequest, Rig
from models.refinery.messages import (
    BuildChain,
    Chain,
    ChainLink,
    Confirmation,
    ConfirmLanded,
    FindLanded,
    FindRenamed,
    ForeignCommit,
    LandChain,
    Landed,
    LandOutcome,
    LandResult,
    Renamed,
)
from models.town import TownPaths
from services.locks import exclusive

SINGLED_OUT_AT: Final = 3
"""the try at which a change that git fails at is left out: what fails for a moment has passed by then"""
_RACES: Final = ("stale info", "cannot lock ref", "failed to update ref", "fetch first", "non-fast-forward")
"""what a rejection says when somebody else moved the ref first"""


class Fetched(NamedTuple):
    """Submitted commits: those that the remote has, and git's words about those that cannot be fetched."""

    found: frozenset[str]
    broken: dict[str, str]


class LandingActivities:
    """git's part of a merge, on the host that the Refinery works on, and what its jobs ask the remote.

    Args:
        release: frees the worktree of a job whose work is merged; None: it does that by itself.
    """

    def __init__(self, paths: TownPaths, release: Callable[[ReleaseWorktree], WorktreeReleased] | None = None) -> None:
        self._paths = paths
        self._release = release

    @activity.defn
    def build_chain(self, request: BuildChain) -> Chain:
        """Put one commit per change on top of the target's tip, without a checkout.

        CONFLICT, EMPTY, BROKEN and WAITS are judged on top of the links before: they hold only if those links land.
        A change that git cannot work with fails the first tries as a whole, and is BROKEN from the third on.

        Raises:
            GtError: REMOTE_UNREACHABLE, NO_SUCH_BRANCH (the target), DISK_FULL, GIT_FAILED.
        """
        rig, changes = request.rig, request.changes
        target_ref = _branch_ref(request.target)
        repo = cache_clone(self._paths, rig)
        branch_refs = [_branch_ref(change.branch) for change in changes]
        on_remote = ls_remote_under(rig.url, [target_ref, *branch_refs, *watched_refs(rig.branch)])
        base = request.base_sha or on_remote.get(target_ref)
        if base is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {request.target}")
        history = self._history(repo, request.rig, request.target)
        alive = [change for change in changes if _branch_ref(change.branch) in on_remote]
        single_out = activity.in_activity() and activity.info().attempt >= SINGLED_OUT_AT
        heads = [change.head_sha for change in alive]
        fetched, broken = self._fetch(repo, rig, request.target, base, heads, single_out=single_out)
        broken |= _too_much(repo, sorted(fetched), base)
        fetched -= broken.keys()
        here = [change for change in alive if change.head_sha in fetched]
        with self._fetching(rig, request.target):
            bring_refs(repo, rig.url, rig.branch, on_remote)
        crash_point("chain.fetched")
        removed = Removed()
        foreign: tuple[ForeignCommit, ...] = ()
        if request.base_sha:
            # The other host's chain again: what this host knows of the target's past must not change it.
            forks = {change: Fork(sha, "") for change, sha in request.forks.items()}
        else:
            with self._fetching(rig, request.target):
                before = history.saw(base)
            foreign = self._foreign(history, rig, before, base, here)
            removed = history.removed(base, here)
            forks = history.forks(here, base, removed)
        with TreeMerger(repo) as merger:
            hand = Hand(repo, merger, request.style, request.signing_key, request.git)
            builder = ChainBuilder(
                repo, base, request.needs, hand, sorted(fetched), forks, broken, single_out=single_out
            )
            for change in changes:
                builder.add(change, here=change in here)
        crash_point("chain.built")
        return Chain(
            base_sha=base,
            links=tuple(builder.links),
            dropped=tuple(builder.dropped),
            forks={change: fork.sha for change, fork in forks.items() if fork.sha},
            rewound=history.rewound(base, removed),
            foreign=foreign,
        )

    @activity.defn
    def land_chain(self, request: LandChain) -> LandResult:
        """Move the target on the remote from `base_sha` to the last link, once; then delete the landed branches.

        Returns:
            LANDED, now or since an earlier try; MOVED; or REFUSED with the remote's words.

        Raises:
            GtError: NOT_FOUND where this host lacks the chain; REMOTE_UNREACHABLE, DISK_FULL, NO_SUCH_BRANCH,
                GIT_FAILED.
        """
        if not request.links:
            raise GtError(ErrorCode.INVALID_VALUE, "a chain without links cannot land")
        repo = cache_clone(self._paths, request.rig)
        refs = _look(request)
        result = self._standing(repo, request, refs)
        if result is None:
            if repo.resolve(request.links[-1].sha) is None:
                raise GtError(ErrorCode.NOT_FOUND, "this host has no such chain: it has to be built again")
            fence = self._fence(repo, request, refs.get(names.EPOCH_REF))
            if isinstance(fence, LandResult):
                return fence
            crash_point("land.before_push")
            answer = _push(repo, request, fence)
            crash_point("land.pushed")
            refs = _look(request)
            result = self._standing(repo, request, refs) or _rejection(request, answer)
        if result.outcome is LandOutcome.LANDED:
            crash_point("land.verified")
            _delete_branches(repo, request, refs)
            crash_point("land.branches_deleted")
        return result

    @activity.defn
    def find_landed(self, request: FindLanded) -> Landed:
        """Look in the target's history on the remote for a landing of the bead, by the town's own trailers.

        Raises:
            GtError: REMOTE_UNREACHABLE, NO_SUCH_BRANCH (the target), DISK_FULL, GIT_FAILED.
        """
        rig, target_ref = request.rig, _branch_ref(request.rig.branch)
        repo = cache_clone(self._paths, rig)
        there = ls_remote(rig.url, [target_ref]).get(target_ref)
        if there is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote of {rig.name} has no branch {rig.branch}")
        if repo.resolve(there) is None:
            with self._fetching(rig, rig.branch):
                repo.fetch(rig.url, [there])
                self._history(repo, rig, rig.branch).saw(there)
        return Landed(sha=last_landing(repo, names.valid_bead(request.bead), there, request.known))

    @activity.defn
    def confirm_landed(self, request: ConfirmLanded) -> Confirmation:
        """Ask the remote whether a change is merged as its verdict says; if so, free its worktree.

        Raises:
            GtError: REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
        """
        rig, target = request.rig, request.change.target
        repo = cache_clone(self._paths, rig)
        tip = ls_remote(rig.url, [_branch_ref(target)]).get(_branch_ref(target))
        if tip is None:
            return Confirmation(doubt=f"the remote of {rig.name} has no branch {target}")
        if repo.resolve(tip) is None:
            with self._fetching(rig, target):
                repo.fetch(rig.url, [tip])
        found = doubt(repo, request, tip, self._history(repo, rig, target))
        crash_point("land.confirmed")
        if found or request.release is None or self._release is None:
            return Confirmation(doubt=found)
        try:
            return Confirmation(released=self._release(request.release))
        except GtError as error:
            activity.logger.warning("the worktree of %s is not free yet: %s", request.change.bead, error.message)
            return Confirmation()

    @activity.defn
    def find_renamed(self, request: FindRenamed) -> Renamed:
        """Look whether the rig's branch, which is gone, has become what the remote's HEAD names now.

        Only a branch that holds all that the old one is known to have had is taken for it.

        Raises:
            GtError: REMOTE_UNREACHABLE, DISK_FULL, GIT_FAILED.
        """
        rig = request.rig
        repo = cache_clone(self._paths, rig)
        head, branches = remote_head(rig.url)
        if rig.branch in branches:
            return Renamed(words=f"{rig.branch} is there again")
        if head is None:
            return Renamed(words=f"nor does its HEAD name a branch; it has {_some(branches)}")
        with self._fetching(rig, rig.branch):
            repo.fetch(rig.url, [branches[head]])
        known = self._history(repo, rig, rig.branch).known_tips(request.bases)
        lost = [sha for sha in known if not repo.is_ancestor(sha, branches[head])]
        if lost or not known:
            why = f"it lacks {lost[0][:12]} of {rig.branch}" if lost else f"nothing is known of {rig.branch} to tell by"
            return Renamed(words=f"its HEAD names {head}, which is not taken for it: {why}")
        return Renamed(branch=head, words=f"renamed to {head}, which holds all of it and is what HEAD names")

    def _fetch(
        self, repo: GitRepo, rig: Rig, target: str, base: str, heads: Iterable[str], *, single_out: bool
    ) -> Fetched:
        """Fetch the target's tip and submitted heads by name, whatever their branches hold by now."""
        wanted = list(dict.fromkeys(heads))
        with self._fetching(rig, target):
            answer = repo.try_fetch(rig.url, [base, *wanted])
            if answer.exit_code == 0:
                return Fetched(frozenset(wanted), {})
            error = remote_failure(answer, "fetching")
            if ABSENT not in answer.stderr and not (single_out and error.code is ErrorCode.GIT_FAILED):
                raise error
            # One absent or broken head fails a fetch as a whole.
            repo.fetch(rig.url, [base])
            found, broken = set(), {}
            for head in wanted:
                answer = repo.try_fetch(rig.url, [head])
                if answer.exit_code == 0:
                    found.add(head)
                elif ABSENT not in answer.stderr:
                    error = remote_failure(answer, "fetching")
                    if error.code is not ErrorCode.GIT_FAILED or not single_out:
                        raise error
                    broken[head] = error.message
            return Fetched(frozenset(found), broken)

    def _standing(self, repo: GitRepo, request: LandChain, refs: Mapping[str, str]) -> LandResult | None:
        """What the target's place on the remote means for the chain; None where it still stands on the base."""
        tip = request.links[-1].sha
        there = refs.get(_branch_ref(request.target))
        if there is None:
            raise GtError(ErrorCode.NO_SUCH_BRANCH, f"the remote has no branch {request.target}")
        if there == request.base_sha:
            return None
        if there != tip:
            with self._fetching(request.rig, request.target):
                repo.fetch(request.rig.url, [there])
                self._history(repo, request.rig, request.target).saw(there)
        else:
            with self._fetching(request.rig, request.target):
                self._history(repo, request.rig, request.target).landed(request.base_sha, tip)
        if there == tip or repo.is_ancestor(tip, there):
            return LandResult(outcome=LandOutcome.LANDED, target_sha=there)
        return LandResult(outcome=LandOutcome.MOVED, target_sha=there, detail=f"{request.target} moved to {there}")

    def _fence(self, repo: GitRepo, request: LandChain, on_remote: str | None) -> str | LandResult:
        """The town's epoch on the remote ("" where there is none), or REFUSED when another town has raised it.

        The first epoch seen is this town's own and is kept in the clone. A check before the push is
        enough: whoever raises the epoch later than that comes after this landing, and before it has
        landed anything the lease on the target still holds.
        """
        if on_remote is None:
            return ""
        known = repo.attempt("rev-parse", "--verify", "--quiet", names.EPOCH_REF)
        if known.exit_code != 0:
            with self._fetching(request.rig, request.target):
                repo.fetch(request.rig.url, [f"{on_remote}:{names.EPOCH_REF}"])
        elif known.word != on_remote:
            return LandResult(
                outcome=LandOutcome.REFUSED,
                target_sha=request.base_sha,
                detail=f"another town has taken over: {names.EPOCH_REF} on the remote was raised to {on_remote}",
            )
        return on_remote

    def _foreign(
        self, history: TargetHistory, rig: Rig, before: str | None, tip: str, changes: Sequence[MergeRequest]
    ) -> tuple[ForeignCommit, ...]:
        """What came to the target past the queue; a commit that a polecat has handed in as well is that bead's."""
        found = {each.sha: each for each in history.foreign(before, tip, rig.name)}
        for change in history.held(changes, tip):
            pushed = history.pushed(change, tip)
            if pushed is not None:
                found[pushed.sha] = pushed
        return tuple(found.values())

    def _history(self, repo: GitRepo, rig: Rig, target: str) -> TargetHistory:
        return TargetHistory(repo, target, self._paths.clone(rig.name))

    @contextlib.contextmanager
    def _fetching(self, rig: Rig, target: str) -> Iterator[None]:
        """Write refs of the clone alone, and without the locks of a fetch that was killed."""
        clone = self._paths.clone(rig.name)
        refs = (self._history(GitRepo(clone), rig, target).last_ref, names.EPOCH_REF, "packed-refs", "shallow")
        with exclusive(self._paths.rig(rig.name) / "land.lock"):
            locks = [clone / f"{name}.lock" for name in refs]
            clear_stale_locks([*locks, *clone.glob("refs/gastown/removed/*/*.lock"), *ref_locks(clone)], [clone])
            yield


def _branch_ref(branch: str) -> str:
    return f"refs/heads/{names.valid_branch(branch)}"


def _too_much(repo: GitRepo, heads: Sequence[str], base: str) -> dict[str, str]:
    """Heads with trees that no command of git gets through, and what is too much: nothing walks them from here on."""
    if not heads:
        return {}
    try:
        refuse_what_git_cannot_walk(repo, heads, [base])
    except GtError as error:
        if error.code is not ErrorCode.INVALID_VALUE:
            raise
        if len(heads) == 1:
            return {heads[0]: error.message}
        return {head: words for one in heads for head, words in _too_much(repo, [one], base).items()}
    return {}


def _some(branches: Iterable[str]) -> str:
    return ", ".join(sorted(branches)[:8]) or "no branch at all"


def _branch_of(link: ChainLink) -> str:
    return link.branch or names.job_branch(link.bead)


def _look(request: LandChain) -> dict[str, str]:
    """The refs on the remote that a landing depends on: target, epoch, the landed beads' branches."""
    branches = (_branch_ref(_branch_of(link)) for link in request.links)
    return ls_remote(request.rig.url, [_branch_ref(request.target), names.EPOCH_REF, *branches])


def _push(repo: GitRepo, request: LandChain, epoch: str) -> Answer:
    """Push the last link, which descends from the base by construction, as a compare-and-swap."""
    target_ref = _branch_ref(request.target)
    refspecs, leases = [f"{request.links[-1].sha}:{target_ref}"], {target_ref: request.base_sha}
    if epoch:
        refspecs.append(f"{epoch}:{names.EPOCH_REF}")
        leases[names.EPOCH_REF] = epoch
    return repo.push(request.rig.url, refspecs, leases, atomic=bool(epoch))


def _rejection(request: LandChain, answer: Answer) -> LandResult:
    """What a push means that left the target on the base: refused by a rule, or (raised) worth another try."""
    words = "\n".join(line for line in answer.text.splitlines() if line.startswith("!"))
    error = push_failure(answer, f"landing on {request.target}")
    lost_race = answer.exit_code == 0 or any(sign in words for sign in _RACES)
    if error.code is not ErrorCode.REMOTE_REFUSED or lost_race:
        raise error
    return LandResult(outcome=LandOutcome.REFUSED, target_sha=request.base_sha, detail=error.message)


def _delete_branches(repo: GitRepo, request: LandChain, refs: Mapping[str, str]) -> None:
    """Delete the landed beads' branches that still stand at what has landed; failing at it undoes no landing."""
    leases = {
        ref: link.head_sha for link in request.links if refs.get(ref := _branch_ref(_branch_of(link))) == link.head_sha
    }
    if leases:
        repo.push(request.rig.url, [f":{ref}" for ref in leases], leases)
