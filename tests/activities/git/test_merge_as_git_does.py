"""What lands is what `git merge` in an ordinary clone would have made: generated histories and real ones."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from activities.git.command import GitRepo
from activities.git.merging.chain import ChainBuilder
from activities.git.merging.styles import Hand
from activities.git.merging.trees import TreeMerger
from models.ledger.records import MergeRequest
from models.refinery.messages import DropKind
from models.settings import MergeStyle
from tests.activities.git.histories import History, OrdinaryClone, histories, write
from tests.activities.workshop import git

PUBLIC = Path(__file__).parent / "public"
MOST_MERGES = 400


def change_of(number: int, head_sha: str) -> MergeRequest:
    return MergeRequest(
        id=f"sh-{number}/1",
        rig="shop",
        bead=f"sh-{number}",
        title="Work",
        polecat="toast",
        attempt=1,
        branch=f"polecat/sh-{number}",
        head_sha=head_sha,
        target="main",
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def landed_trees(repository: Path, ours: str, theirs: list[str], style: MergeStyle) -> list[str | None]:
    """The tree of the target after each of `theirs` has landed on `ours`; None for one that does not apply."""
    repo, tips, dropped = GitRepo(repository), [], set()
    with TreeMerger(repo) as merger:
        builder = ChainBuilder(repo, ours, {}, Hand(repo, merger, style, ""), sorted(set(theirs)), {})
        for number, head_sha in enumerate(theirs):
            builder.add(change_of(number, head_sha), here=True)
            tips.append(builder.links[-1].sha if builder.links else ours)
    for drop in builder.dropped:
        assert drop.kind in {DropKind.CONFLICT, DropKind.EMPTY}
        if drop.kind is DropKind.CONFLICT:
            dropped.add(drop.bead)
    trees = git(repository, "rev-parse", *(f"{tip}^{{tree}}" for tip in tips)).split()
    return [None if f"sh-{number}" in dropped else tree for number, tree in enumerate(trees)]


def landed_tree(repository: Path, ours: str, theirs: str, style: MergeStyle) -> str | None:
    (tree,) = landed_trees(repository, ours, [theirs], style)
    return tree


class Pair:
    """One repository, seen by the town and by a person.

    Args:
        source: whose history it has.
    """

    def __init__(self, folder: Path, source: Path | None = None) -> None:
        self.repository = folder / "land.git"
        if source is None:
            git(folder, "init", "--quiet", "--bare", "--template=", str(self.repository))
        else:
            git(folder, "clone", "--quiet", "--bare", "--template=", "--no-hardlinks", str(source), "land.git")
        self.clone = OrdinaryClone(self.repository, folder / "clone")

    def compare(self, ours: str, theirs: str, style: MergeStyle = MergeStyle.SQUASH) -> bool:
        """The landing's tree is that of `git merge`; whether both found a conflict."""
        self.clone.start(ours)
        merged = self.clone.run("merge", "--quiet", "--no-edit", theirs)
        assert landed_tree(self.repository, ours, theirs, style) == merged, (ours, theirs)
        return merged is None

    def with_union(self, commit: str) -> str:
        """A commit on `commit` whose attributes merge every file by union."""
        index = str(self.repository / "made.index")
        blob = git(self.repository, "hash-object", "-w", "--stdin", stdin=b"* merge=union\n")
        git(self.repository, "read-tree", commit, GIT_INDEX_FILE=index)
        git(
            self.repository,
            "update-index",
            "--add",
            "--cacheinfo",
            f"100644,{blob},.gitattributes",
            GIT_INDEX_FILE=index,
        )
        tree = git(self.repository, "write-tree", GIT_INDEX_FILE=index)
        return git(self.repository, "commit-tree", "-p", commit, "-m", "union", tree)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


@settings(max_examples=200)
@given(history=histories(), style=st.sampled_from((MergeStyle.SQUASH, MergeStyle.SQUASH, MergeStyle.MERGE)))
def test_a_landing_has_the_tree_of_git_merge_and_conflicts_where_it_does(
    pair: Pair, history: History, style: MergeStyle
) -> None:
    ours, theirs = write(history, pair.repository)
    note(f"git -C {pair.repository} log --graph --stat {ours} {theirs}")
    pair.compare(ours, theirs, style)


@settings(max_examples=40)
@given(history=histories(sides=4))
def test_a_chain_has_the_trees_of_git_merge_squash_of_each_change_in_turn(pair: Pair, history: History) -> None:
    ours, *theirs = write(history, pair.repository)
    note(f"git -C {pair.repository} log --graph --stat {ours} {' '.join(theirs)}")
    pair.clone.start(ours)
    squashed = [pair.clone.squash(commit) for commit in theirs]
    assert landed_trees(pair.repository, ours, theirs, MergeStyle.SQUASH) == squashed


@settings(max_examples=25)
@given(history=histories())
def test_a_rebased_landing_has_the_tree_of_git_cherry_pick_of_each_commit(pair: Pair, history: History) -> None:
    ours, theirs = write(history, pair.repository)
    note(f"git -C {pair.repository} log --graph --stat {ours} {theirs}")
    commits = git(pair.repository, "rev-list", "--reverse", f"{ours}..{theirs}").split()
    merges = git(pair.repository, "rev-list", "--merges", f"{ours}..{theirs}").split()
    assume(commits and not merges)
    merged = landed_tree(pair.repository, ours, theirs, MergeStyle.SQUASH)
    before = git(pair.repository, "rev-parse", f"{ours}^{{tree}}")
    # What conflicts as a whole, or changes nothing as a whole, is not taken apart.
    assume(merged not in {None, before})
    pair.clone.start(ours)
    picked: str | None = before
    for commit in commits:
        if picked is not None:
            picked = pair.clone.run("cherry-pick", "--allow-empty", "--keep-redundant-commits", commit)
    assert landed_tree(pair.repository, ours, theirs, MergeStyle.REBASE) == picked


def public_histories() -> list[Path]:
    others = os.environ.get("GT_PUBLIC_HISTORIES", "")
    return [PUBLIC / "schedule-0.5.0.bundle", *map(Path, filter(None, others.split(":")))]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", public_histories(), ids=lambda path: path.stem)
def test_each_merge_of_a_public_history_comes_out_the_same_also_with_union(source: Path, tmp_path: Path) -> None:
    pair = Pair(tmp_path, source)
    merges = git(pair.repository, "rev-list", "--all", "--min-parents=2", "--max-parents=2", "--parents").splitlines()
    conflicts = {"as it is": 0, "with union": 0}
    for _, ours, theirs in (line.split() for line in merges[:MOST_MERGES]):
        conflicts["as it is"] += pair.compare(ours, theirs)
        conflicts["with union"] += pair.compare(pair.with_union(ours), theirs)
    print(f"{source.stem}: {len(merges[:MOST_MERGES])} merges, conflicts: {conflicts}")
    assert len(merges) >= 20
    assert conflicts["with union"] <= conflicts["as it is"]
