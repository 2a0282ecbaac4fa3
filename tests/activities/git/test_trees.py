"""Removing whatever stands in a folder: deep, read-only and odd trees, and what cannot be removed at all."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from activities.git.trees import discard, remove_tree


def make_deep(path: Path, levels: int) -> None:
    path.mkdir(exist_ok=True)
    here = os.open(path, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(os.open(f"f{level}", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_of_2500_levels_is_removed(tmp_path: Path) -> None:
    make_deep(tmp_path / "deep", 2500)
    remove_tree(tmp_path / "deep")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_far_deeper_than_open_files_are_allowed_is_removed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    make_deep(tmp_path / "deep", 3000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        remove_tree(tmp_path / "deep")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not (tmp_path / "deep").exists()


def test_odd_entries_and_locked_folders_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "tree"
    for folder in (kept, tree, tree / "a", tree / "a" / "b", tree / "a" / "b" / "c"):
        folder.mkdir()
    (kept / "file").write_text("stays")
    (tree / "link").symlink_to(kept)
    (tree / "a" / "link").symlink_to(kept / "file")
    (tree / "a" / "dangling").symlink_to("nowhere")
    (tree / "a" / ("n" * 255)).write_text("")
    os.mkfifo(tree / "a" / "pipe")
    (tree / os.fsdecode(b"\xff\nnot text")).write_text("")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(tree)
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    (tree / "a" / "b").chmod(0o500)
    (tree / "a").chmod(0)
    tree.chmod(0o500)
    remove_tree(tree)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept"]
    assert (kept / "file").read_text() == "stays"


def test_a_link_or_a_file_in_its_place_loses_only_itself(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "file").write_text("")
    for name in ("link", "file", "absent"):
        remove_tree(tmp_path / name)
    remove_tree(tmp_path / "file" / "below")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


class TestWhatCannotBeRemoved:
    @pytest.fixture(autouse=True)
    def immutable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files named `immutable` are, as another user's in another's folder would be."""
        unlink = os.unlink

        def refusing(path: str | Path, *, dir_fd: int | None = None) -> None:
            if os.path.basename(path) == "immutable":
                raise PermissionError(1, "Operation not permitted", str(path))
            unlink(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, "unlink", refusing)

    def test_it_is_renamed_aside_and_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = tmp_path / "tree" / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "immutable").write_text("still here")
        (folder / "other").write_text("")
        aside = discard(tmp_path / "tree", tmp_path / "trash")
        assert aside is not None
        assert aside.parent == tmp_path / "trash"
        assert not (tmp_path / "tree").exists()
        assert [path.read_text() for path in aside.rglob("*") if path.is_file()] == ["still here"]
        assert "cannot be removed (Operation not permitted)" in caplog.text

    def test_without_a_trash_its_reason_is_raised(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "immutable").write_text("")
        with pytest.raises(PermissionError):
            remove_tree(tmp_path / "tree")

    def test_what_can_be_removed_leaves_nothing_in_the_trash(self, tmp_path: Path) -> None:
        make_deep(tmp_path / "tree", 20)
        assert discard(tmp_path / "tree", tmp_path / "trash") is None
        assert list(tmp_path.iterdir()) == []
