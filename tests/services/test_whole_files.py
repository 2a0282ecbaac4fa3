"""Files are there whole or not at all, private, and leave nothing behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from services.atomic_files import copy_whole, rename_whole, write_once, write_whole


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_and_the_folders_above_it_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note"
    write_whole(path, "old\n")
    write_whole(path, "new\n")
    assert path.read_text() == "new\n"
    assert names(path.parent) == ["note"]


@pytest.mark.parametrize("wanted", [0o600, 0o755])
def test_it_is_private_unless_told_otherwise_whatever_the_umask(tmp_path: Path, wanted: int) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "note", "x", wanted)
    finally:
        os.umask(before)
    assert mode(tmp_path / "note") == wanted


@pytest.mark.parametrize(("wanted", "folders"), [(0o600, 0o700), (0o644, 0o755)])
@pytest.mark.parametrize("follows", [True, False])
def test_folders_that_are_made_for_a_private_file_are_private(
    tmp_path: Path, wanted: int, folders: int, follows: bool
) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "a" / "b" / "file", "x", wanted, within=None if follows else tmp_path / "a")
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [folders] * 2


def test_what_fails_halfway_leaves_what_was_there_and_nothing_besides(tmp_path: Path) -> None:
    target = tmp_path / "note"
    target.mkdir()
    with pytest.raises(OSError, match="note"):
        write_whole(target, "a file cannot replace a folder")
    assert names(tmp_path) == ["note"]


def test_what_was_written_once_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert write_once(path, "first")
    assert not write_once(path, "second")
    assert path.read_text() == "first"
    assert mode(path) == 0o600
    assert names(tmp_path) == ["secret"]


def test_names_that_no_encoding_knows_are_written_readably(tmp_path: Path) -> None:
    write_whole(tmp_path / "note", "caf\udce9")
    assert (tmp_path / "note").read_text() == "caf\\udce9"


def test_a_copy_is_private_and_has_every_byte(tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    (tmp_path / "large").write_bytes(content)
    copy_whole(tmp_path / "large", tmp_path / "kept" / "large")
    assert (tmp_path / "kept" / "large").read_bytes() == content
    assert mode(tmp_path / "kept" / "large") == 0o600


def test_a_file_that_is_gone_cannot_be_moved(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "x")
    assert rename_whole(tmp_path / "a", tmp_path / "b")
    assert not rename_whole(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b"]
