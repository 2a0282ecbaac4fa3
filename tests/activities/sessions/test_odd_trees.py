"""Whatever tree an agent leaves, its polecat is free for the next bead within seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.git.trees import remove_tree
from tests.activities.git.test_trees import make_deep
from tests.activities.sessions.desk import IDLE, Desk


@pytest.fixture(autouse=True)
def nothing_deep_stays(desk: Desk) -> Iterator[None]:
    """pytest cannot remove such trees with its own folders."""
    yield
    remove_tree(desk.paths.salvage)
    remove_tree(desk.paths.rig("shop"))


def deep(worktree: Path) -> None:
    make_deep(worktree / "deep", 2500)


def deep_and_ignored(worktree: Path) -> None:
    (worktree / ".git" / "info" / "exclude").write_text("/deep\n")
    make_deep(worktree / "deep", 2500)


def deep_repository(worktree: Path) -> None:
    make_deep(worktree / ".git" / "deep", 2500)


def long_names(worktree: Path) -> None:
    for name in ("n" * 255, "é" * 127, os.fsdecode(b"\xff\xfe"), "a\nb"):
        (worktree / name).write_text("x")


def locked(worktree: Path) -> None:
    (worktree / "locked" / "in").mkdir(parents=True)
    (worktree / "locked" / "in" / "file").write_text("x")
    (worktree / "locked" / "in").chmod(0)
    (worktree / "locked").chmod(0o500)


def special(worktree: Path) -> None:
    os.mkfifo(worktree / "pipe")
    (worktree / "link").symlink_to("/")
    (worktree / "loop").symlink_to("loop")


@pytest.mark.parametrize("make", [deep, deep_and_ignored, deep_repository, long_names, locked, special])
def test_it_is_cleaned_up_and_the_next_bead_starts_on_a_clean_tree(desk: Desk, make: object) -> None:
    started = desk.start()
    worktree = Path(started.worktree)
    assert callable(make)
    make(worktree)
    desk.end()
    assert desk.clean_up().worktree_freed
    desk.start(IDLE, bead="sh-2")
    assert sorted(path.name for path in worktree.iterdir()) == [".git", "README.md", "till.py"]
    assert desk.worktree_git("status", "--short") == ""


def test_a_tree_that_no_commit_can_hold_is_kept_as_it_is(desk: Desk) -> None:
    worktree = Path(desk.start().worktree)
    deep(worktree)
    (worktree / "note.txt").write_text("mine")
    desk.end()
    kept = desk.clean_up().kept_folder
    assert kept is not None
    assert (Path(kept) / "note.txt").read_text() == "mine"
    assert (Path(kept) / "deep" / "d" / "d").is_dir()
