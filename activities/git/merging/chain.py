"""A chain of landing commits, without a checkout: each change becomes the next link or is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from activities.git.command import GitRepo
from activities.git.merging.changes import Submitted, beads_that_changed, holder_of
from activities.git.merging.styles import Commit, Hand
from activities.git.merging.target_history import Fork
from activities.git.merging.trees import Conflict
from models.errors import ErrorCode, GtError
from models.ledger.records import MergeRequest
from models.refinery.messages import ChainLink, DropKind, DroppedChange


class ChainBuilder:
    """Puts changes one by one on top of a base: each becomes the next link or is dropped.

    Args:
        needs: by bead, those that have to stand before it.
        hand: makes the commits.
        heads: the submitted commits that were found on the remote.
        rewritten: by merge request, what to do about a change that stands on commits that the target has lost.
        broken: by submitted commit that git could not even fetch, git's words.
        single_out: git has failed before at one of these changes: leave that one out.
    """

    def __init__(
        self,
        repo: GitRepo,
        base_sha: str,
        needs: Mapping[str, tuple[str, ...]],
        hand: Hand,
        heads: Sequence[str],
        rewritten: Mapping[str, Fork],
        broken: Mapping[str, str] = MappingProxyType({}),
        *,
        single_out: bool = False,
    ) -> None:
        self._repo = repo
        self._needs = needs
        self._hand = hand
        self._submitted = Submitted(repo, base_sha, heads)
        self._rewritten = rewritten
        self._broken = broken
        self._single_out = single_out
        self._there: set[str] = set()
        """beads that are landed or in the chain"""
        self._tip = Commit(base_sha, repo.run("rev-parse", "--verify", f"{base_sha}^{{tree}}").word)
        self.links: list[ChainLink] = []
        self.dropped: list[DroppedChange] = []

    def add(self, change: MergeRequest, here: bool) -> None:
        """Find the place of `change`; `here` tells whether its head was found on the remote.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        landed = self._submitted.landed_as(change.bead, change.head_sha)
        missing = [bead for bead in self._needs.get(change.bead, ()) if bead not in self._there]
        if landed is not None:
            self._there.add(change.bead)
            self._drop(change, DropKind.LANDED, sha=landed)
        elif missing:
            self._drop(change, DropKind.WAITS, detail=f"waits for {', '.join(missing)}")
        elif change.head_sha in self._broken:
            self._drop(change, DropKind.BROKEN, detail=self._broken[change.head_sha])
        elif not here:
            self._drop(change, DropKind.GONE, detail=f"{change.branch} at {change.head_sha} is not on the remote")
        else:
            self._merge_or_drop(change)

    def _merge_or_drop(self, change: MergeRequest) -> None:
        """Merge; a change that git cannot work with is dropped once trying again has not helped."""
        try:
            self._merge(change)
        except GtError as error:
            if error.code is not ErrorCode.GIT_FAILED or not self._single_out:
                raise
            self._drop(change, DropKind.BROKEN, detail=error.message)
        except (UnicodeError, ValueError) as error:
            if not self._single_out:
                raise
            self._drop(change, DropKind.BROKEN, detail=f"git's answer about it cannot be read: {error}"[:600])

    def _merge(self, change: MergeRequest) -> None:
        landed = self._landing(change)
        if isinstance(landed, Conflict):
            rivals = beads_that_changed(self._repo, change.head_sha, self._tip.sha, landed.files)
            self._drop(change, DropKind.CONFLICT, files=landed.files, rivals=rivals, detail=landed.detail)
        elif landed.tree == self._tip.tree:
            holder = holder_of(self._repo, change.head_sha, self._tip.sha)
            self._drop(change, DropKind.EMPTY, sha=holder)
        else:
            self._tip = landed
            self._there.add(change.bead)
            self.links.append(
                ChainLink(
                    merge_request=change.id,
                    bead=change.bead,
                    head_sha=change.head_sha,
                    sha=landed.sha,
                    branch=change.branch,
                )
            )

    def _landing(self, change: MergeRequest) -> Commit | Conflict:
        fork = self._rewritten.get(change.id)
        if fork is None:
            return self._hand.land(change, self._submitted, self._tip)
        if not fork.sha:
            return Conflict(detail=fork.why)
        landed = self._hand.land_without(change, self._submitted, self._tip, fork.sha)
        if isinstance(landed, Conflict):
            return Conflict(landed.files, "\n".join(words for words in (fork.why, landed.detail) if words))
        return landed

    def _drop(
        self,
        change: MergeRequest,
        kind: DropKind,
        sha: str | None = None,
        files: tuple[str, ...] = (),
        rivals: tuple[str, ...] = (),
        detail: str = "",
    ) -> None:
        self.dropped.append(
            DroppedChange(
                merge_request=change.id,
                bead=change.bead,
                kind=kind,
                sha=sha,
                files=files,
                rivals=rivals,
                detail=detail,
            )
        )
