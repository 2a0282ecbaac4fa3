"""No command of git that reads what an agent wrote goes on without end: trees are measured, commands are bounded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from pathlib import Path

import pytest

from activities.git.command import Bounds
from activities.git.merging.landing import LandingActivities
from activities.git.worktree import polecat_repo as polecat_repo_module
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.worktrees import Worktrees
from activities.sessions.progress import read_tree
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.refinery.messages import BuildChain, DropKind
from models.settings import GitSettings, LimitSettings
from models.town import TownPaths
from tests.activities.git.objects import Objects
from tests.activities.workshop import Workshop, git

BOMB = (10, 12)
"""ten names in each of twelve folders: 10^12 files"""


@pytest.fixture
def worktrees(town_paths: TownPaths, rig: Rig) -> Worktrees:
    worktrees = Worktrees(town_paths)
    worktrees.prepare(rig, "toast", "sh-1", "main")
    return worktrees


@pytest.fixture
def worktree(worktrees: Worktrees, town_paths: TownPaths) -> Path:
    return town_paths.worktree("shop", "toast")


def released(worktrees: Worktrees, paths: TownPaths, rig: Rig) -> Path:
    """Give the polecat up; the folder that its whole worktree is in then."""
    worktrees.park(rig, "toast", "sh-1", 1, None)
    worktrees.release(rig, "toast", "sh-1")
    (folder,) = (paths.salvage / "shop").iterdir()
    return folder


def free(worktrees: Worktrees, paths: TownPaths, rig: Rig) -> None:
    worktrees.prepare(rig, "toast", "sh-2", "main")
    worktree = paths.worktree("shop", "toast")
    assert sorted(entry.name for entry in worktree.iterdir()) == [".git", "README.md", "till.py"]


def bombed(worktree: Path) -> str:
    """HEAD at a tree of a few hundred bytes that stands for 10^12 files."""
    return Objects(worktree / ".git" / "objects").commit_on(worktree, "sh-1", *BOMB)


def test_a_tree_that_stands_for_more_files_than_git_can_walk_is_refused_and_its_worktree_kept_as_it_is(
    worktrees: Worktrees, worktree: Path, town_paths: TownPaths, rig: Rig
) -> None:
    head = bombed(worktree)
    for asked in (
        lambda: worktrees.status(rig, "toast", "sh-1"),
        lambda: worktrees.publish(rig, "toast", "sh-1", 1, GitSettings(), LimitSettings(entries=500_000)),
    ):
        with pytest.raises(GtError, match="files in its folders, more than") as refused:
            asked()
        assert refused.value.code is ErrorCode.INVALID_VALUE
    assert read_tree(PolecatRepo(town_paths, "shop", "toast")).fingerprint == "unreadable"
    folder = released(worktrees, town_paths, rig)
    assert git(folder, "rev-parse", "HEAD") == head
    free(worktrees, town_paths, rig)


def test_the_next_attempt_begins_without_it(
    worktrees: Worktrees, worktree: Path, town_paths: TownPaths, rig: Rig
) -> None:
    bombed(worktree)
    prepared = worktrees.prepare(rig, "toast", "sh-1", "main", attempt=2)
    assert (prepared.resumed, prepared.head_sha) == (False, prepared.base_sha)
    assert list((town_paths.salvage / "shop").iterdir())


def test_nor_does_one_pass_in_the_middle_of_a_history_or_on_another_branch(
    worktrees: Worktrees, worktree: Path, town_paths: TownPaths, rig: Rig
) -> None:
    bomb = bombed(worktree)
    base = git(worktree, "rev-parse", f"{bomb}^")
    fair = git(worktree, "commit-tree", "-p", bomb, "-m", "Gone again", f"{base}^{{tree}}")
    git(worktree, "update-ref", "refs/heads/polecat/sh-1", fair)
    assert not worktrees.status(rig, "toast", "sh-1").dirty
    with pytest.raises(GtError, match="files in its folders, more than"):
        worktrees.publish(rig, "toast", "sh-1", 1)
    assert git(released(worktrees, town_paths, rig), "rev-parse", "HEAD") == fair
    assert not git(Path(rig.url), "for-each-ref", "refs/gastown")
    free(worktrees, town_paths, rig)


def test_folders_that_are_written_in_another_way_count_as_well(worktrees: Worktrees, worktree: Path, rig: Rig) -> None:
    Objects(worktree / ".git" / "objects").commit_on(worktree, "sh-1", *BOMB, mode=b"040755")
    with pytest.raises(GtError, match="files in its folders, more than"):
        worktrees.status(rig, "toast", "sh-1")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"blob_bytes": 2_000}, "'a/b/large.bin' has 3000 bytes, above limits.blob_bytes 2000"),
        ({"total_bytes": 4_000}, "the change adds 4[0-9]{3} bytes, above limits.total_bytes 4000"),
        ({"path_bytes": 60}, "a path has 66 bytes, above limits.path_bytes 60"),
        ({"depth": 5}, "folders are 6 deep, above limits.depth 5"),
        ({"blob_bytes": 3_000, "total_bytes": 10_000, "path_bytes": 66, "depth": 6}, None),
    ],
)
def test_what_a_change_brings_has_its_limits(
    worktrees: Worktrees, worktree: Path, rig: Rig, limits: dict[str, int], told: str | None
) -> None:
    for name, size in (("a/b/large.bin", 3_000), ("1/2/3/4/5/6/x", 999), ("n" * 61 + ".text", 400)):
        (worktree / name).parent.mkdir(parents=True, exist_ok=True)
        (worktree / name).write_bytes(b"x" * size)
    git(worktree, "add", "-A")
    git(worktree, "commit", "--quiet", "-m", "Large")
    with pytest.raises(GtError, match=told) if told is not None else contextlib.nullcontext():
        worktrees.publish(rig, "toast", "sh-1", 1, GitSettings(), LimitSettings(**limits))


def test_a_tree_of_the_target_counts_as_often_as_it_is_named(worktrees: Worktrees, worktree: Path, rig: Rig) -> None:
    objects = Objects(worktree / ".git" / "objects")
    old = git(worktree, "rev-parse", "HEAD^{tree}")
    many = objects.write("tree", b"".join(b"40000 %03d\0" % number + bytes.fromhex(old) for number in range(100)))
    objects.commit_tree_on(worktree, "sh-1", many)
    with pytest.raises(GtError, match="200 files"):
        worktrees.publish(rig, "toast", "sh-1", 1, GitSettings(), LimitSettings(entries=150))
    worktrees.publish(rig, "toast", "sh-1", 1, GitSettings(), LimitSettings(entries=200))


def test_a_change_counts_what_it_adds_and_not_what_the_target_has_beside_it(
    worktrees: Worktrees, worktree: Path, rig: Rig
) -> None:
    for number in range(150):
        (worktree / f"{number}.txt").write_text(str(number))
    git(worktree, "add", ".")
    git(worktree, "commit", "-qm", "Many")
    with pytest.raises(GtError, match="150 files"):
        worktrees.publish(rig, "toast", "sh-1", 1, GitSettings(), LimitSettings(entries=100))
    worktrees.publish(rig, "toast", "sh-1", 1)
    git(Path(rig.url), "update-ref", "refs/heads/main", git(worktree, "rev-parse", "HEAD"))
    worktrees.prepare(rig, "nux", "sh-2", "main")
    other = worktree.with_name("nux")
    (other / "0.txt").write_text("other")
    git(other, "commit", "-qam", "One")
    worktrees.publish(rig, "nux", "sh-2", 1, GitSettings(), LimitSettings(entries=100))


def sparse_index(worktree: Path, tree: str) -> None:
    """An index with one entry, a folder that stands for all below it: git expands it when it reads the index."""
    entry = struct.pack(">10I20sHH", *[0] * 6, 0o040000, 0, 0, 0, bytes.fromhex(tree), 0x4000 | 2, 0x4000) + b"d/"
    entry += b"\0" * (8 - len(entry) % 8)
    raw = struct.pack(">4sII", b"DIRC", 3, 1) + entry + b"sdir" + struct.pack(">I", 0)
    (worktree / ".git" / "index").write_bytes(raw + hashlib.sha1(raw).digest())


@pytest.mark.parametrize(
    "bounds",
    [Bounds(cpu_s=1, wall_s=300.0, memory_bytes=2 << 30), Bounds(cpu_s=120, wall_s=300.0, memory_bytes=1 << 25)],
)
def test_an_index_that_stands_for_as_many_ends_with_its_command(
    worktrees: Worktrees,
    worktree: Path,
    town_paths: TownPaths,
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    bounds: Bounds,
) -> None:
    monkeypatch.setattr(polecat_repo_module, "BOUNDS", bounds)
    sparse_index(worktree, Objects(worktree / ".git" / "objects").nested(*BOMB))
    with pytest.raises(GtError, match="than is allowed") as refused:
        worktrees.status(rig, "toast", "sh-1")
    assert refused.value.code is ErrorCode.INVALID_VALUE
    assert (released(worktrees, town_paths, rig) / ".git" / "index").exists()
    free(worktrees, town_paths, rig)


def test_a_pipe_in_an_objects_place_holds_up_nobody_for_good(
    worktrees: Worktrees, worktree: Path, town_paths: TownPaths, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polecat_repo_module, "BOUNDS", Bounds(cpu_s=120, wall_s=1.0, memory_bytes=2 << 30))
    head = bombed(worktree)
    tree = git(worktree, "rev-parse", f"{head}^{{tree}}")
    place = worktree / ".git" / "objects" / tree[:2] / tree[2:]
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(GtError) as refused:
        worktrees.status(rig, "toast", "sh-1")
    assert refused.value.code is ErrorCode.INVALID_VALUE
    released(worktrees, town_paths, rig)
    monkeypatch.undo()
    free(worktrees, town_paths, rig)


def test_the_queue_leaves_one_out_that_came_in_past_the_town(
    town_paths: TownPaths, rig: Rig, workshop: Workshop
) -> None:
    good = workshop.change("sh-1", {"good.txt": "good"})
    workshop.start("sh-2")
    head = Objects(workshop.folder / ".git" / "objects").commit_on(workshop.folder, "sh-2", *BOMB)
    git(workshop.remote, "config", "receive.fsckObjects", "false")
    objects = workshop.remote / "objects" / "info" / "alternates"
    objects.write_text(f"{workshop.folder / '.git' / 'objects'}\n")
    git(workshop.remote, "update-ref", "refs/heads/polecat/sh-2", head)
    bad = good.model_copy(
        update={"id": "sh-2.1", "bead": "sh-2", "branch": "polecat/sh-2", "head_sha": head, "title": "Bad"}
    )
    chain = LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=(bad, good)))
    assert [link.bead for link in chain.links] == ["sh-1"]
    (dropped,) = chain.dropped
    assert (dropped.bead, dropped.kind) == ("sh-2", DropKind.BROKEN)
    assert "files in its folders" in dropped.detail


@pytest.mark.parametrize("mode", [b"100644", b"40000"])
def test_a_commit_that_names_what_is_nowhere_is_refused_and_not_tried_for_ever(
    worktrees: Worktrees, worktree: Path, town_paths: TownPaths, rig: Rig, mode: bytes
) -> None:
    objects = Objects(worktree / ".git" / "objects")
    objects.commit_tree_on(worktree, "sh-1", objects.write("tree", b"%s f\0" % mode + b"\x12" * 20))
    with pytest.raises(GtError, match="1212121212") as refused:
        worktrees.publish(rig, "toast", "sh-1", 1)
    assert refused.value.code is ErrorCode.INVALID_VALUE
    released(worktrees, town_paths, rig)
    free(worktrees, town_paths, rig)
