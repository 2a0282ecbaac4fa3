"""What counts as progress of a worktree: real git, and a clock that the test moves."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.worktrees import Worktrees
from activities.sessions import progress
from activities.sessions.progress import REST, Progress, TreeReader, TreeState, read_tree
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import git
from tests.pace import DEADLINE_S

LIMIT_S = 100.0


class Reader:
    """Reads trees when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[PolecatRepo, Future[TreeState]]] = []

    def __call__(self, repo: PolecatRepo) -> Future[TreeState]:
        self.asked.append((repo, Future()))
        return self.asked[-1][1]

    def answer(self) -> None:
        repo, answer = self.asked[-1]
        answer.set_result(read_tree(repo))


@pytest.fixture
def repo(rig: Rig, town_paths: TownPaths) -> PolecatRepo:
    path = Worktrees(town_paths).prepare(rig, "toast", "sh-1", "main").path
    (path / "src").mkdir()
    (path / "src" / "drawer.py").write_text("0\n")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "-m", "Drawer")
    return PolecatRepo(town_paths, "shop", "toast")


@pytest.fixture
def worktree(repo: PolecatRepo) -> Path:
    return repo.path


def settled(repo: PolecatRepo, reader: Reader) -> Progress:
    """A worktree that has not changed for 10 s."""
    progress = Progress(repo, "polecat/sh-1", reader)
    progress.look(0, LIMIT_S)
    reader.answer()
    assert progress.look(10, LIMIT_S) == 10
    return progress


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "more\n")


@pytest.mark.parametrize(
    "change",
    [
        "echo new > new.py",
        "git commit --quiet --allow-empty -m More",
        "echo 1 > src/drawer.py; git add src/drawer.py",
        "git checkout --quiet --detach",
    ],
)
def test_commits_staging_branches_and_new_files_are_seen_at_the_next_look(
    repo: PolecatRepo, worktree: Path, change: str
) -> None:
    progress = settled(repo, Reader())
    for command in change.split("; "):
        words = command.split()
        if words[0] == "git":
            git(worktree, *words[1:])
        else:
            (worktree / words[3]).write_text(words[1] + "\n")
    assert progress.look(1, LIMIT_S) == 0


def test_a_deep_edit_is_seen_when_the_tree_is_read_again(repo: PolecatRepo, worktree: Path) -> None:
    reader = Reader()
    progress = settled(repo, reader)
    edit(worktree / "src" / "drawer.py")
    assert progress.look(1, LIMIT_S) == 11
    reader.answer()
    assert progress.look(1, LIMIT_S) == 0


def test_a_second_edit_of_the_same_file_is_seen_too(repo: PolecatRepo, worktree: Path) -> None:
    edit(worktree / "src" / "drawer.py")
    reader = Reader()
    progress = settled(repo, reader)
    edit(worktree / "src" / "drawer.py")
    reader.answer()
    assert progress.look(1, LIMIT_S) == 0


def test_an_untouched_tree_grows_old(repo: PolecatRepo, worktree: Path) -> None:
    reader = Reader()
    progress = settled(repo, reader)
    for _ in range(20):
        progress.look(10, LIMIT_S)
        if not reader.asked[-1][1].done():
            reader.answer()
    assert progress.look(1, LIMIT_S) == 211


def test_an_age_beyond_the_limit_is_told_only_once_the_tree_was_read_beyond_it(
    repo: PolecatRepo, worktree: Path
) -> None:
    reader = Reader()
    progress = settled(repo, reader)
    assert progress.look(95, LIMIT_S) == LIMIT_S
    reader.answer()  # of a reading that began before the limit
    assert progress.look(5, LIMIT_S) == LIMIT_S
    assert progress.look(5, LIMIT_S) == LIMIT_S
    reader.answer()
    assert progress.look(5, LIMIT_S) == 120


def test_an_edit_that_is_found_at_the_limit_is_progress(repo: PolecatRepo, worktree: Path) -> None:
    reader = Reader()
    progress = settled(repo, reader)
    progress.look(80, LIMIT_S)
    edit(worktree / "src" / "drawer.py")
    assert progress.look(15, LIMIT_S) == LIMIT_S
    reader.answer()
    assert progress.look(1, LIMIT_S) == 0


def test_the_tree_is_read_once_in_a_tenth_of_the_limit(repo: PolecatRepo, worktree: Path) -> None:
    reader = Reader()
    progress = settled(repo, reader)
    begun = len(reader.asked)
    for _ in range(60):
        if not reader.asked[-1][1].done():
            reader.answer()
        progress.look(1, LIMIT_S)
    assert 5 <= len(reader.asked) - begun <= 7


def test_a_later_watcher_goes_on_from_a_fingerprint(repo: PolecatRepo, worktree: Path) -> None:
    reader = Reader()
    before = settled(repo, reader)
    later = Progress(repo, "polecat/sh-1", reader)
    later.resume(before.fingerprint, 70)
    assert later.look(0, LIMIT_S) == 70
    reader.answer()
    assert later.look(1, LIMIT_S) == 71
    git(worktree, "commit", "--quiet", "--allow-empty", "-m", "More")
    third = Progress(repo, "polecat/sh-1", reader)
    third.resume(later.fingerprint, 71)
    assert third.look(0, LIMIT_S) == 0


def test_reading_a_tree_takes_no_lock_and_writes_nothing(repo: PolecatRepo, worktree: Path) -> None:
    git_dir = Path(git(worktree, "rev-parse", "--absolute-git-dir"))
    edit(worktree / "src" / "drawer.py")
    (git_dir / "index.lock").touch()
    before = (git_dir / "index").read_bytes()
    assert read_tree(repo).fingerprint not in {"absent", "unreadable"}
    assert (git_dir / "index").read_bytes() == before


def test_a_worktree_that_is_gone_or_broken_has_a_state_too(repo: PolecatRepo, worktree: Path, tmp_path: Path) -> None:
    head = worktree / ".git" / "HEAD"
    head.write_text(f"{'1' * 40}\n")
    assert read_tree(repo).fingerprint == "unreadable"
    head.unlink()
    assert read_tree(repo).fingerprint == "absent"


def test_a_git_directory_elsewhere_is_not_read(repo: PolecatRepo, worktree: Path, tmp_path: Path) -> None:
    os.rename(worktree / ".git", tmp_path / "elsewhere")
    (worktree / ".git").write_text(f"gitdir: {tmp_path / 'elsewhere'}\n")
    assert read_tree(repo).fingerprint == "absent"


def test_names_that_are_no_text_are_read(repo: PolecatRepo, worktree: Path) -> None:
    (worktree / "b\udcff\n.py").write_text("x\n")
    assert read_tree(repo).fingerprint not in {"absent", "unreadable"}


def test_trees_are_read_in_a_thread_of_their_own(repo: PolecatRepo, worktree: Path) -> None:
    reader = TreeReader()
    assert reader(repo).result(timeout=DEADLINE_S).fingerprint == read_tree(repo).fingerprint


def test_reading_trees_leaves_most_of_a_core_to_others(
    repo: PolecatRepo, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "read_tree", lambda _: TreeState("slow", 0.02))
    reader = TreeReader()
    began = time.monotonic()
    answers = [reader(repo) for _ in range(6)]
    assert [answer.result(timeout=DEADLINE_S).fingerprint for answer in answers] == ["slow"] * 6
    assert time.monotonic() - began >= 5 * 0.02 * REST
