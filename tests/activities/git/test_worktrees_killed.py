"""Killed between any two git commands and run again, a worktree operation leaves the world of an unkilled run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from activities.git import command as git_module
from activities.git import lfs
from activities.git.worktree.worktrees import Worktrees
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


class Point(NamedTuple):
    """Where a kill may come: before or after the so-manieth git command."""

    at: int
    before: bool


class Killer:
    """Dies at a point among the git commands from now on, or finds the points at which the disk differs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._point: Point | None = None
        self._watched: Path | None = None
        self._disk: object = None
        self.points: list[Point] = []
        execute = git_module._execute

        def executing(*arguments: Any) -> Any:
            self._count += 1
            self._pass(Point(self._count, before=True))
            answer = execute(*arguments)
            self._pass(Point(self._count, before=False))
            return answer

        monkeypatch.setattr(git_module, "_execute", executing)

    def arm(self, point: Point | None) -> None:
        self._count, self._point, self._watched = 0, point, None

    def watch(self, folder: Path) -> None:
        """Collect the points at which what is in `folder` is not as it was at the point before."""
        self._count, self._point, self._watched = 0, None, folder

    def _pass(self, point: Point) -> None:
        if self._watched is not None:
            disk = {path: (facts.st_ino, facts.st_size, facts.st_mtime_ns) for path, facts in _walk(self._watched)}
            if disk != self._disk:
                self._disk = disk
                self.points.append(point)
        if point == self._point:
            raise Killed


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    return ((path, path.lstat()) for path in folder.rglob("*"))


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
            if entry.is_file() and ".git" not in entry.relative_to(worktree).parts
        },
        **(repository(worktree) if (worktree / ".git").exists() else {}),
        "side": sorted(entry.name for entry in paths.worktree_side("shop", "toast").iterdir()),
        "branches": git(clone, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/remotes"),
        "remote": parked,
        "salvage": sorted(entry.name for entry in paths.root.glob("salvage/*/*")),
        "leftovers": sorted(entry.name for entry in paths.rig("shop").iterdir()),
    }


def repository(worktree: Path) -> dict[str, object]:
    return {
        "head": git(worktree, "rev-parse", "--symbolic-full-name", "HEAD"),
        "commit": git(worktree, "rev-parse", "HEAD"),
        "status": git(worktree, "status", "--porcelain"),
        "refs": git(worktree, "for-each-ref"),
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
@pytest.mark.parametrize("setting", [new, over_leftovers, resumed, publish, park_and_release])
def test_killed_at_any_git_command_and_run_again_leaves_the_same_world(
    setting: Callable[[Worktrees, Rig], Callable[[], object]],
    rig: Rig,
    remote: Path,
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before and after each command, as far as the disk is another there: all else is the same kill once more."""
    killer = Killer(monkeypatch)

    def run(name: str, point: Point | None) -> dict[str, object]:
        folder = tmp_path / name
        folder.mkdir()
        own_remote = folder / "shop.git"
        git(tmp_path, "clone", "--quiet", "--mirror", str(remote), str(own_remote))
        own_rig = rig.model_copy(update={"url": str(own_remote)})
        paths = TownPaths(folder / "town")
        killer.arm(None)
        # Each time as in a worker that was just started, which asks git the same.
        monkeypatch.setattr(lfs, "_answers", {})
        act = setting(Worktrees(paths), own_rig)
        if point is None:
            killer.watch(folder)
        else:
            killer.arm(point)
            with pytest.raises(Killed):
                act()
            killer.arm(None)
        act()
        return world(paths, own_remote)

    unkilled = run("unkilled", None)
    assert len(killer.points) >= 2
    for number, point in enumerate(killer.points):
        assert run(f"killed-{number}", point) == unkilled, f"killed at {point}"
