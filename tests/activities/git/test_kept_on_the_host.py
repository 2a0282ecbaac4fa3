"""What must not leave the host stays on it, in the salvage folder, and is named, when a worktree is parked."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from activities.git.worktree.salvage import salvaged_files
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.parking_bench import Bench


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, remote: Path, tmp_path: Path) -> Bench:
    return Bench(town_paths, rig, remote, tmp_path / "stranger")


def test_files_with_a_secret_stay_on_this_host_and_are_named(bench: Bench) -> None:
    key = "AKIA" + "QWERTYUIOP234567"
    bench.write("half.py", "half\n")
    bench.write("settings.py", f"aws = '{key}'\n")
    bench.write(".env", "TOKEN=whatever\n")
    bench.write("deep/.env", "TOKEN=deep\n")
    bench.write("till.py", f"key = '{key}'\n")
    bench.park_and_release()
    assert bench.file("half.py") == "half"
    assert key not in bench.everything()
    assert "whatever" not in bench.everything()
    assert "one\ntwo" in bench.file("till.py")
    for line in ("settings.py: it seems to hold an AWS access key", ".env: its name", "till.py: it seems"):
        assert line in bench.message()
    assert key not in bench.message()
    kept = bench.salvaged()
    assert (kept / "settings.py").read_text() == f"aws = '{key}'\n"
    assert (kept / ".env").read_text() == "TOKEN=whatever\n"
    assert salvaged_files(kept) == [".env", "deep/.env", "settings.py", "till.py"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def test_a_secret_that_is_staged_and_edited_since_stays_here_in_both_versions(bench: Bench) -> None:
    bench.write(".env", "TOKEN=staged\n")
    bench.git("add", ".env")
    bench.write(".env", "TOKEN=edited\n")
    bench.write("half.txt", "half\n")
    bench.park_and_release()
    assert "TOKEN" not in bench.everything()
    assert "it has staged content that may not leave the host" in bench.message()
    assert (bench.salvaged() / ".env").read_text() == "TOKEN=edited\n"
    assert bench.salvaged_git("show", ":.env") == "TOKEN=staged"


def test_a_later_attempt_under_the_same_number_drops_no_earlier_version(bench: Bench, town_paths: TownPaths) -> None:
    for content in ("one", "two"):
        bench.write("deep/.env", f"{content}\n")
        bench.worktrees.park(bench.rig, "toast", "sh-1", 0, None)
        bench.worktrees.release(bench.rig, "toast", "sh-1")
        bench.worktrees.prepare(bench.rig, "toast", "sh-1", "main")
    kept = bench.salvaged() / "deep"
    assert {path.name: path.read_text() for path in kept.iterdir()} == {".env": "two\n", ".env.~1~": "one\n"}


def test_a_file_that_nobody_may_read_is_moved_out_of_the_worktree(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, who may read everything.
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *of: not os.fsencode(path).endswith(b"/locked.txt") and access(path, *of)
    )
    bench.write("half.txt", "half\n")
    bench.write("locked.txt", "locked\n")
    (bench.path / "locked.txt").chmod(0)
    bench.park_and_release()
    kept = bench.salvaged() / "locked.txt"
    kept.chmod(0o600)
    assert kept.read_text() == "locked\n"


def test_where_there_is_no_place_for_what_must_stay_here_the_worktree_stays(
    bench: Bench, town_paths: TownPaths
) -> None:
    bench.write(".env", "TOKEN=whatever\n")
    town_paths.salvage.write_text("in the way")
    bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
    with pytest.raises(OSError, match="salvage"):
        bench.worktrees.release(bench.rig, "toast", "sh-1")
    assert (bench.path / ".env").read_text() == "TOKEN=whatever\n"


def test_files_that_git_ignores_are_nobodys_work(bench: Bench, town_paths: TownPaths) -> None:
    bench.write(".gitignore", "*.local\n")
    bench.git("add", ".gitignore")
    bench.git("commit", "--quiet", "-m", "Ignore")
    bench.write("plan.local", "a plan\n")
    bench.park_and_release()
    assert not town_paths.salvage.exists()


def test_the_next_attempt_on_this_host_is_told_where_they_are(bench: Bench) -> None:
    bench.write(".env", "TOKEN=whatever\n")
    bench.write("half.txt", "half\n")
    bench.worktrees.prepare(bench.rig, "toast", "sh-1", "main", 3, 1)
    bench.park_and_release()
    made = bench.worktrees.prepare(bench.rig, "nux", "sh-1", "main", 4, 1)
    assert made.restored is not None
    story = made.restored.story(made.kept)
    assert str(bench.salvaged()) in story
    assert ".env" in story
