"""A look at a rig's target between merges: what came there past the queue."""

from __future__ import annotations

from activities.git.clones import cache_clone
from activities.git.command import ls_remote
from activities.git.target_history import TargetHistory
from models import names
from models.merging import ForeignCommit
from models.records import Rig
from models.town import TownPaths


def foreign_commits(paths: TownPaths, rig: Rig) -> tuple[ForeignCommit, ...]:
    """Commits on the rig's branch that no landing has put there since a merge, or a start of work, looked last.

    It notes nothing: until the next merge looks, each call finds the same ones. Nothing is found on a host that
    has never worked on the rig.

    Raises:
        GtError: REMOTE_UNREACHABLE, GIT_FAILED, DISK_FULL.
    """
    clone = paths.clone(rig.name)
    if not clone.exists():
        return ()
    repo = cache_clone(paths, rig)
    history = TargetHistory(repo, rig.branch, clone)
    before = history.last() or repo.resolve(f"refs/remotes/origin/{rig.branch}")
    ref = f"refs/heads/{names.valid_branch(rig.branch)}"
    tip = ls_remote(rig.url, [ref]).get(ref)
    if before is None or tip is None or tip == before:
        return ()
    if repo.resolve(tip) is None:
        repo.fetch(rig.url, [ref])
    found = history.foreign(before, tip, rig.name) if repo.resolve(tip) else []
    # A landing may have moved the target in between: what it put there is no news, and the next look finds the rest.
    return tuple(found) if history.last() in {None, before} else ()
