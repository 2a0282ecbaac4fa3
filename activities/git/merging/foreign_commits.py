"""A look at a rig's target between merges: what came there past the queue, and what agents may fetch."""

from __future__ import annotations

from activities.git.clones import cache_clone
from activities.git.command import ls_remote
from activities.git.merging.target_history import TargetHistory
from activities.git.worktree.served import serve
from models import names
from models.job.messages import RigFacts
from models.refinery.messages import ForeignCommit
from models.town import TownPaths


def look_at_target(paths: TownPaths, facts: RigFacts) -> tuple[ForeignCommit, ...]:
    """Commits on the rig's branch that no landing has put there since a merge, or a start of work, looked last.

    Of them it notes nothing: until the next merge looks, each call finds the same ones. Nothing is found on a host
    that has never worked on the rig. What agents fetch is brought up to date.

    Raises:
        GtError: REMOTE_UNREACHABLE, GIT_FAILED, DISK_FULL.
    """
    rig, git = facts.rig, facts.settings.git
    clone = paths.clone(rig.name)
    if not clone.exists():
        return ()
    repo = cache_clone(paths, rig)
    history = TargetHistory(repo, rig.branch, clone)
    before = history.last() or repo.resolve(f"refs/remotes/origin/{rig.branch}")
    ref = f"refs/heads/{names.valid_branch(rig.branch)}"
    tip = ls_remote(rig.url, [ref]).get(ref)
    if before is None or tip is None:
        return ()
    if repo.resolve(tip) is None:
        repo.fetch(rig.url, [ref])
        if repo.resolve(tip) is None:
            return ()  # it moved on in between
    serve(paths, rig, repo, git, tip)
    if tip == before:
        return ()
    found = history.foreign(before, tip, rig.name)
    # A landing may have moved the target in between: what it put there is no news, and the next look finds the rest.
    return tuple(found) if history.last() in {None, before} else ()
