"""What lands is what `git merge` in an ordinary clone would have made: generated histories and real ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from activities.git.chain import ChainBuilder
from activities.git.command import GitRepo
from activities.git.merge_styles import Hand
from activities.git.merged_trees import TreeMerger
from models.merging import DropKind
from models.records import MergeRequest
from models.settings import MergeStyle
from tests.activities.git.histories import History, OrdinaryClone, histories, write
from tests.activities.workshop import git


def landed_tree(repository: Path, ours: str, theirs: str, style: MergeStyle) -> str | None:
    """The tree of the target after `theirs` has landed on `ours`; None where it does not apply."""
    repo = GitRepo(repository)
    change = MergeRequest(
        id="sh-1/1",
        rig="shop",
        bead="sh-1",
        title="Work",
        polecat="toast",
        attempt=1,
        branch="polecat/sh-1",
        head_sha=theirs,
        target="main",
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with TreeMerger(repo) as merger:
        builder = ChainBuilder(repo, ours, {}, Hand(repo, merger, style, ""), [theirs], {})
        builder.add(change, here=True)
    tip = builder.links[-1].sha if builder.links else ours
    if any(drop.kind is not DropKind.EMPTY for drop in builder.dropped):
        assert [drop.kind for drop in builder.dropped] == [DropKind.CONFLICT]
        return None
    return git(repository, "rev-parse", f"{tip}^{{tree}}")


class Pair:
    """One repository, seen by the town and by a person."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "land.git"
        git(folder, "init", "--quiet", "--bare", "--template=", str(self.repository))
        self.clone = OrdinaryClone(self.repository, folder / "clone")


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
    pair.clone.start(ours)
    merged = pair.clone.merge("merge", "--quiet", "--no-edit", theirs)
    assert landed_tree(pair.repository, ours, theirs, style) == merged
