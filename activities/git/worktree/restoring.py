"""Which save of unfinished work, if any, a new worktree goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from activities.git.command import GitRepo
from activities.git.worktree.saved_commits import SavedCommit, read_save
from models import names
from models.errors import ErrorCode, GtError

_PARKED: Final = "refs/gastown/parked/"


class Save(NamedTuple):
    """Work of one attempt under a ref, on the remote or on this host alone."""

    attempt: int
    parked: bool
    """parked comes after saved: of one attempt it counts"""
    ref: str
    sha: str


class AttemptUsed(GtError):
    """STALE_ATTEMPT: the number of an attempt is known already, though not to its job."""

    def __init__(self, bead: str, highest: int) -> None:
        super().__init__(ErrorCode.STALE_ATTEMPT, f"attempt {highest} of {bead} is known already")
        self.highest = highest


def saves_of(repo: GitRepo, bead: str, on_remote: Mapping[str, str]) -> list[Save]:
    """Every save of a bead, oldest attempt first; where this host has another one under the same ref, it made it later.

    Args:
        on_remote: full ref → object name, as `ls_remote` found them.
    """
    folders = [pattern.removesuffix("/*") for pattern in (names.parked_refs(bead), names.wip_refs(bead))]
    listed = repo.run("for-each-ref", "--format=%(refname) %(objectname)", *folders).text
    here = dict(line.split(" ") for line in listed.splitlines())
    found = {ref: sha for ref, sha in on_remote.items() if names.saved_attempt(ref) is not None} | here
    return sorted(Save(names.saved_attempt(ref) or 0, ref.startswith(_PARKED), ref, sha) for ref, sha in found.items())


def commit_to_go_on_from(repo: GitRepo, save: Save, bead: str, start: str, target_sha: str) -> SavedCommit | str | None:
    """What the save adds to `start`, from where the branch would go on without it.

    Returns:
        The save to restore, or a commit of the agent's own to start from; None: `start` is further on.

    Raises:
        GtError: GIT_FAILED where the save is not here.
    """
    saved = read_save(repo, save.sha, bead)
    tip = (saved.parent if saved is not None else save.sha) or target_sha
    further = tip == start or repo.is_ancestor(start, tip) or repo.is_ancestor(start, target_sha)
    if not further and not repo.is_ancestor(tip, start):
        # They parted: what was made last.
        further = _committed_at(repo, save.sha) >= _committed_at(repo, start)
    if not further or (saved is None and repo.is_ancestor(save.sha, target_sha)):
        return None
    return saved if saved is not None else save.sha


def _committed_at(repo: GitRepo, sha: str) -> datetime:
    return datetime.fromtimestamp(int(repo.run("log", "-1", "--format=%ct", sha, "--").word), UTC)
