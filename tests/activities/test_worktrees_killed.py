"""Killed between any two git commands and run again, a worktree operation leaves the world of an unkilled run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from activities import git as git_module
from activities.worktrees import Worktrees
from models.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


class Killer:
    """Dies at the `at`-th git command from now, before or after it has run; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at: int | None = None
        self.before = True
        execute = git_module._execute

        def executing(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self.at and self.before:
                raise Killed
            answer = execute(*arguments)
            if self.count == self.at:
                raise Killed
            return answer

        monkeypatch.setattr(git_module, "_execute", executing)

    def arm(self, at: int | None, before: bool) -> None:
        self.count, self.at, self.before = 0, at, before


def commit(path: Path, name: str) -> str:
    (path / name).write_text("x\n")
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


def world(paths: TownPaths, remote: Path) -> dict[str, object]:
    """What an operation may leave behind, as far as anybody can tell."""
    worktree = paths.worktree("shop", "toast")
    clone = paths.clone("shop")
    parked = git(remote, "for-each-ref", "--format=%(refname) %(tree) %(parent)", "refs/gastown", "refs/heads")
    return {
        "files": {
            entry.relative_to(worktree).as_posix(): entry.read_text()
            for entry in sorted(worktree.rglob("*"))
            if entry.is_file() and entry.name != ".git"
        },
        "head": git(worktree, "rev-parse", "--symbolic-full-name", "HEAD"),
        "commit": git(worktree, "rev-parse", "HEAD"),
        "status": git(worktree, "status", "--porcelain"),
        "worktrees": git(clone, "worktree", "list", "--porcelain").count("worktree "),
        "branches": git(clone, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/remotes"),
        "remote": parked,
        "salvage": sorted(entry.name for entry in paths.root.glob("salvage/*/*")),
        "leftovers": sorted(entry.name for entry in paths.rig("shop").iterdir()),
    }


def new(worktrees: Worktrees, rig: Rig) -> Callable[[], object]:
    return lambda: worktrees.prepare(rig, "toast", "sh-1", "main")


def over_leftovers(worktrees: Worktrees, rig: Rig) -> Callable[[], object]:
    path = worktrees.prepare(rig, "toast", "sh-2", "main").path
    commit(path, "done.txt")
    (path / "half.txt").write_text("half\n")
    return lambda: worktrees.prepare(rig, "toast", "sh-1", "main")


def resumed(worktrees: Worktrees, rig: Rig) -> Callable[[], object]:
    path = worktrees.prepare(rig, "toast", "sh-1", "main").path
    commit(path, "done.txt")
    (path / "half.txt").write_text("half\n")
    return lambda: worktrees.prepare(rig, "toast", "sh-1", "main")


def park_and_release(worktrees: Worktrees, rig: Rig) -> Callable[[], object]:
    path = worktrees.prepare(rig, "toast", "sh-1", "main").path
    commit(path, "done.txt")
    (path / "half.txt").write_text("half\n")

    def both() -> None:
        worktrees.park(rig, "toast", "sh-1", 1, None)
        worktrees.release(rig, "toast", "sh-1")

    return both


def publish(worktrees: Worktrees, rig: Rig) -> Callable[[], object]:
    commit(worktrees.prepare(rig, "toast", "sh-1", "main").path, "done.txt")
    return lambda: worktrees.publish(rig, "toast", "sh-1")


@pytest.mark.document("1: 重复执行同操作不产生副作用")
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("setting", [new, over_leftovers, resumed, publish, park_and_release])
def test_killed_at_any_git_command_and_run_again_leaves_the_same_world(
    setting: Callable[[Worktrees, Rig], Callable[[], object]],
    before: bool,
    rig: Rig,
    remote: Path,
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killer = Killer(monkeypatch)

    def run(name: str, at: int | None) -> dict[str, object]:
        own_remote = tmp_path / name / "shop.git"
        own_remote.parent.mkdir()
        git(tmp_path, "clone", "--quiet", "--mirror", str(remote), str(own_remote))
        own_rig = rig.model_copy(update={"url": str(own_remote)})
        paths = TownPaths(tmp_path / name / "town")
        killer.arm(None, before)
        act = setting(Worktrees(paths), own_rig)
        killer.arm(at, before)
        if at is not None:
            with pytest.raises(Killed):
                act()
            killer.arm(None, before)
        act()
        return world(paths, own_remote)

    unkilled = run("unkilled", None)
    steps = killer.count
    assert steps >= 3
    for step in range(1, steps + 1):
        assert run(f"killed-{step}", step) == unkilled, f"killed at git command {step} of {steps}"
