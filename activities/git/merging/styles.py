"""Landing commits in three styles: merged trees and commits, without a checkout and with nothing left to chance.

The same inputs give the same object names: dates are the author's, identities and messages follow
from the change, and a signature is one of an SSH key whose signatures carry no time. git 2.39 has
no `merge-tree --merge-base`; where a commit is to be put on another base, a stand-in for the tip
with the commit's own parent makes that parent the merge base.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from activities.git.command import GitRepo
from activities.git.merging.changes import ChangeFacts, CommitFacts, Submitted
from activities.git.merging.trees import Conflict, TreeMerger
from models import names
from models.ledger.records import MergeRequest
from models.settings import GitSettings, MergeStyle
from policies.refinery.merge_message import claims, kept_message, landing_message, signed_off
from services.git_config import IDENTITY

_IDENT_CRUD: Final = re.compile(r"[<>\x00-\x1f\x7f]")


class Commit(NamedTuple):
    sha: str
    tree: str


class Hand:
    """Makes landing commits.

    Args:
        merger: merges in `repo`.
        signing_key: path of an SSH private key; "" signs nothing.
        git: whom commits name.
    """

    def __init__(
        self,
        repo: GitRepo,
        merger: TreeMerger,
        style: MergeStyle,
        signing_key: str,
        git: GitSettings = GitSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._repo = repo
        self._merger = merger
        self._style = style
        self._git = git
        self._committer = git.committer_identity or IDENTITY
        self._signing = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={signing_key}") if signing_key else ()

    def land(self, change: MergeRequest, submitted: Submitted, tip: Commit) -> Commit | Conflict:
        """Put `change` on `tip`; a commit with the tip's tree means that there is nothing to land.

        A change with merges in it is squashed where commits are kept one by one, since a merge cannot
        be moved; so is one whose own messages claim what only the town may say, where they would land
        as they are. An integration branch is merged in every style, so that each of its landings stays
        the commit that it is; what was added to it claims nothing either.

        Args:
            submitted: the batch that the change is of.

        Raises:
            GtError: what models.git_errors.classify finds; a conflict is an answer, not an error.
        """
        merged = self._merger.merge(tip.sha, tip.tree, change.head_sha)
        if isinstance(merged, Conflict) or merged == tip.tree:
            return merged if isinstance(merged, Conflict) else tip
        facts = submitted.change(change.head_sha)
        if change.whole and self._adds_no_claim(change.whole, change.head_sha, submitted):
            return self._merge_commit(change, facts, merged, tip)
        if self._style is MergeStyle.SQUASH:
            return self._squash(change, facts, merged, tip)
        commits = submitted.commits(change.head_sha)
        if self._style is MergeStyle.REBASE and all(len(commit.parents) == 1 for commit in commits):
            return self._rebase(change, commits, tip)
        if self._style is MergeStyle.MERGE and not any(claims(commit.message) for commit in commits):
            return self._merge_commit(change, facts, merged, tip)
        return self._squash(change, facts, merged, tip)

    def land_without(self, change: MergeRequest, submitted: Submitted, tip: Commit, fork: str) -> Commit | Conflict:
        """As `land`, of what `change` adds to `fork`: a commit that it stands on and the target has lost.

        Neither the removed commits nor what they say lands: a merge commit would have them as its history, so the
        change is squashed instead. An integration branch whose commits must stay as they are cannot land so.

        Raises:
            GtError: as `land`.
        """
        if change.whole:
            return Conflict(detail="an integration branch lands as it is, and it holds removed commits")
        facts, commits = submitted.change_from(change.head_sha, fork)
        if self._style is MergeStyle.REBASE and all(len(commit.parents) == 1 for commit in commits):
            return self._rebase(change, commits, tip)
        merged = self._merger.merge(self._stand_in(tip.tree, fork), tip.tree, change.head_sha)
        return merged if isinstance(merged, Conflict) else self._squash(change, facts, merged, tip)

    def _adds_no_claim(self, whole: str, head_sha: str, submitted: Submitted) -> bool:
        """The head holds the integration branch as it was, and nothing added to it claims to be a landing."""
        if not self._repo.is_ancestor(whole, head_sha):
            return False
        added = set(self._repo.run("rev-list", f"{whole}..{head_sha}", "--").text.split())
        return not any(commit.sha in added and claims(commit.message) for commit in submitted.commits(head_sha))

    def _squash(self, change: MergeRequest, facts: ChangeFacts, tree: str, tip: Commit) -> Commit:
        polecat = names.polecat_address(change.rig, change.polecat)
        co_authors = (*facts.co_authors, *self._agent_behind(change, facts))
        message = landing_message(change.title, facts.messages, change.bead, polecat, change.head_sha, co_authors)
        return self._commit(change, facts, message, tree, tip.sha)

    def _agent_behind(self, change: MergeRequest, facts: ChangeFacts) -> tuple[str, ...]:
        """The polecat as a co-author, where its commits name the author that is set."""
        if self._git.author_identity != (facts.author_name, facts.author_email):
            return ()
        return (f"{change.polecat} <{names.polecat_email(change.rig, change.polecat)}>",)

    def _merge_commit(self, change: MergeRequest, facts: ChangeFacts, tree: str, tip: Commit) -> Commit:
        polecat = names.polecat_address(change.rig, change.polecat)
        message = landing_message(f"Merge {change.bead}: {change.title}", (), change.bead, polecat, change.head_sha)
        return self._commit(change, facts, message, tree, tip.sha, change.head_sha)

    def _rebase(self, change: MergeRequest, commits: tuple[CommitFacts, ...], tip: Commit) -> Commit | Conflict:
        """Put the commits on the tip one by one; the last that changes something closes the change."""
        replayed: list[tuple[CommitFacts, str]] = []
        tree = tip.tree
        for commit in commits:
            merged = self._merger.merge(self._stand_in(tree, commit.parents[0]), tree, commit.sha)
            if isinstance(merged, Conflict):
                return merged
            if merged != tree:
                tree = merged
                replayed.append((commit, tree))
        made = tip
        for place, (commit, tree) in enumerate(replayed, start=1):
            message = kept_message(commit.message, change.bead)
            if place == len(replayed):
                polecat = names.polecat_address(change.rig, change.polecat)
                message = landing_message("", (commit.message,), change.bead, polecat, change.head_sha)
            made = self._commit(change, commit, message, tree, made.sha)
        return made

    def _stand_in(self, tree: str, parent: str) -> str:
        """A commit of `tree` whose parent is `parent`: merging with it takes `parent` as the merge base."""
        nobody = f"{IDENTITY[0]} <{IDENTITY[1]}> 0 +0000"
        return self._merger.write(_content(tree, (parent,), nobody, nobody, "stand-in\n"))

    def _commit(
        self, change: MergeRequest, author: ChangeFacts | CommitFacts, message: str, tree: str, *parents: str
    ) -> Commit:
        """Commit `tree` in the author's name; the same inputs give the same object name."""
        name = _ident(author.author_name) or change.polecat
        email = _ident(author.author_email) or names.polecat_email(change.rig, change.polecat)
        committer = tuple(_ident(given) or usual for given, usual in zip(self._committer, IDENTITY, strict=True))
        if self._git.sign_off:
            message = signed_off(message, f"{committer[0]} <{committer[1]}>")
        if self._signing:
            return Commit(self._signed((name, email), committer, author.author_date, message, tree, parents), tree)
        seconds, zone = author.author_date.split()
        date = f"{int(seconds)} {zone}"
        who = f"{name} <{email}> {date}", f"{committer[0]} <{committer[1]}> {date}"
        return Commit(self._merger.write(_content(tree, parents, *who, message)), tree)

    def _signed(
        self,
        author: tuple[str, ...],
        committer: tuple[str, ...],
        date: str,
        message: str,
        tree: str,
        parents: tuple[str, ...],
    ) -> str:
        identity = {
            "GIT_AUTHOR_NAME": author[0],
            "GIT_AUTHOR_EMAIL": author[1],
            "GIT_AUTHOR_DATE": f"@{date}",
            "GIT_COMMITTER_NAME": committer[0],
            "GIT_COMMITTER_EMAIL": committer[1],
            "GIT_COMMITTER_DATE": f"@{date}",
        }
        onto = (word for parent in parents for word in ("-p", parent))
        return self._repo.run(
            *self._signing, "commit-tree", "-S", *onto, "-F", "-", tree,
            stdin=message.encode("utf-8", "replace"), environment=identity, doing="committing",
        ).word  # fmt: skip


def _content(tree: str, parents: Sequence[str], author: str, committer: str, message: str) -> bytes:
    """A commit object, as git-commit-tree(1) makes it."""
    lines = (f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {author}", f"committer {committer}")
    return "\n".join((*lines, "", message)).replace("\0", "").encode("utf-8", "replace")


def _ident(value: str) -> str:
    """`value` as git would clean it: git dies on a name of which nothing is left."""
    return _IDENT_CRUD.sub("", value).strip(" .,:;\\\"'")
