"""A chain of landing commits: merged trees and commits, without a checkout and with nothing left to chance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from activities.changes import ChangeFacts, beads_that_changed, landed_as, read_change
from activities.git import IDENTITY, GitRepo, failure
from models import names
from models.git_errors import plain_words
from models.merging import ChainLink, DropKind, DroppedChange
from models.records import MergeRequest
from policies.merge_message import landing_message

_IDENT_CRUD: Final = re.compile(r"[<>\x00-\x1f\x7f]")
_MAX_FILES: Final = 100
"""A conflict names at most this many files: what a message carries stays small."""


class Merged(NamedTuple):
    """What came of merging a change onto a commit."""

    tree: str
    conflict: bool = False
    files: tuple[str, ...] = ()
    detail: str = ""


def merge_tree(repo: GitRepo, onto: str, head_sha: str) -> Merged:
    """Merge `head_sha` onto the commit `onto`, with their real merge base.

    Raises:
        GtError: what models.git_errors.classify finds; a conflict is an answer, not an error.
    """
    answer = repo.attempt("merge-tree", "--write-tree", "-z", "--name-only", "--messages", onto, head_sha)
    if answer.exit_code == 128 and "unrelated histories" in answer.stderr:
        return Merged("", conflict=True, detail="the branch has no commit in common with the target")
    if answer.exit_code not in {0, 1}:
        raise failure(answer, "merging")
    # <tree> NUL (<file> NUL)* NUL (<count> NUL (<path> NUL)* <kind> NUL <message> NUL)*
    names_part, _, messages = answer.text.partition("\0\0")
    tree, *files = names_part.split("\0")
    if answer.exit_code == 0:
        return Merged(tree.rstrip("\0"))
    return Merged(tree, True, tuple(dict.fromkeys(files))[:_MAX_FILES], plain_words(_conflicts(messages)))


def _conflicts(messages: str) -> str:
    """git's sentences about conflicts, a line each."""
    fields = messages.split("\0")
    said = []
    position = 0
    while position < len(fields) and fields[position].isdigit():
        position += 1 + int(fields[position])
        if fields[position].startswith("CONFLICT"):
            said.append(fields[position + 1].strip())
        position += 2
    return "\n".join(said)


def commit(repo: GitRepo, change: MergeRequest, facts: ChangeFacts, tree: str, parent: str) -> str:
    """Commit `tree` onto `parent` in the author's name; the same inputs give the same object name.

    Raises:
        GtError: DISK_FULL, GIT_FAILED.
    """
    polecat = names.polecat_address(change.rig, change.polecat)
    message = landing_message(change.title, facts.messages, change.bead, polecat, change.head_sha)
    author = {
        "GIT_AUTHOR_NAME": _ident(facts.author_name) or change.polecat,
        "GIT_AUTHOR_EMAIL": _ident(facts.author_email) or f"{change.polecat}@{change.rig}.gastown.invalid",
        "GIT_AUTHOR_DATE": f"@{facts.author_date}",
        "GIT_COMMITTER_NAME": IDENTITY[0],
        "GIT_COMMITTER_EMAIL": IDENTITY[1],
        "GIT_COMMITTER_DATE": f"@{facts.author_date}",
    }
    written = message.encode("utf-8", "replace")
    return repo.run("commit-tree", "-p", parent, "-F", "-", tree, stdin=written, environment=author).word


class ChainBuilder:
    """Puts changes one by one on top of a base: each becomes the next link or is dropped.

    Args:
        needs: by bead, those that have to stand before it.
    """

    def __init__(self, repo: GitRepo, base_sha: str, needs: Mapping[str, tuple[str, ...]]) -> None:
        self._repo = repo
        self._needs = needs
        self._there: set[str] = set()
        """beads that are landed or in the chain"""
        self._base_sha = base_sha
        self._tip_sha = base_sha
        self._tip_tree = repo.run("rev-parse", "--verify", f"{base_sha}^{{tree}}").word
        self.links: list[ChainLink] = []
        self.dropped: list[DroppedChange] = []

    def add(self, change: MergeRequest, here: bool) -> None:
        """Find the place of `change`; `here` tells whether its head was found on the remote.

        Raises:
            GtError: DISK_FULL, GIT_FAILED.
        """
        landed = landed_as(self._repo, change.bead, change.head_sha, self._base_sha, here=here)
        missing = [bead for bead in self._needs.get(change.bead, ()) if bead not in self._there]
        if landed is not None:
            self._there.add(change.bead)
            self._drop(change, DropKind.LANDED, sha=landed)
        elif missing:
            self._drop(change, DropKind.WAITS, detail=f"waits for {', '.join(missing)}")
        elif not here:
            self._drop(change, DropKind.GONE, detail=f"{change.branch} at {change.head_sha} is not on the remote")
        else:
            self._merge(change)

    def _merge(self, change: MergeRequest) -> None:
        merged = merge_tree(self._repo, self._tip_sha, change.head_sha)
        if merged.conflict:
            rivals = beads_that_changed(self._repo, change.head_sha, self._tip_sha, merged.files)
            self._drop(change, DropKind.CONFLICT, files=merged.files, rivals=rivals, detail=merged.detail)
        elif merged.tree == self._tip_tree:
            self._drop(change, DropKind.EMPTY)
        else:
            self._link(change, merged.tree)

    def _link(self, change: MergeRequest, tree: str) -> None:
        facts = read_change(self._repo, change.head_sha, self._base_sha)
        self._tip_sha = commit(self._repo, change, facts, tree, self._tip_sha)
        self._tip_tree = tree
        self._there.add(change.bead)
        self.links.append(
            ChainLink(merge_request=change.id, bead=change.bead, head_sha=change.head_sha, sha=self._tip_sha)
        )

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


def _ident(value: str) -> str:
    """`value` as git would clean it: git dies on a name of which nothing is left."""
    return _IDENT_CRUD.sub("", value).strip(" .,:;\\\"'")
