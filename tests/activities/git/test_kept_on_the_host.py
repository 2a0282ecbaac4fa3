"""What must not leave the host is kept on it, and named, when a worktree is parked."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from activities.git.kept_files import kept_in
from models.errors import ErrorCode, GtError
from models.records import Rig
from models.town import TownPaths
from tests.activities.parking_bench import PARKED, Bench
from tests.activities.workshop import git


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, remote: Path, tmp_path: Path) -> Bench:
    return Bench(town_paths, rig, remote, tmp_path / "stranger")


class TestSecrets:
    def test_with_a_secret_stay_on_this_host_and_are_named(self, bench: Bench, town_paths: TownPaths) -> None:
        key = "AKIA" + "QWERTYUIOP234567"
        bench.write("half.py", "half\n")
        bench.write("settings.py", f"aws = '{key}'\n")
        bench.write(".env", "TOKEN=whatever\n")
        bench.write("till.py", f"key = '{key}'\n")
        bench.park_and_release()
        assert bench.file("half.py") == "half"
        assert key not in bench.everything()
        assert "whatever" not in bench.everything()
        assert "one\ntwo" in bench.file("till.py")
        for line in ("settings.py: it seems to hold an AWS access key", ".env: its name", "till.py: it seems"):
            assert line in bench.message()
        assert key not in bench.message()
        kept = town_paths.kept("shop", "sh-1", 3)
        assert (kept / "files" / "settings.py").read_text() == f"aws = '{key}'\n"
        assert (kept / "files" / ".env").read_text() == "TOKEN=whatever\n"
        assert kept_in(kept) == ["files/.env", "files/settings.py", "files/till.py"]
        for place in (kept, kept / "files"):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE((kept / "files" / ".env").stat().st_mode) == 0o600

    def test_with_a_secret_that_is_staged_and_edited_since_stay_here_in_both_versions(
        self, bench: Bench, town_paths: TownPaths
    ) -> None:
        bench.write(".env", "TOKEN=staged\n")
        bench.git("add", ".env")
        bench.write(".env", "TOKEN=edited\n")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        kept = town_paths.kept("shop", "sh-1", 3)
        assert (kept / "staged" / ".env").read_text() == "TOKEN=staged\n"
        assert (kept / "files" / ".env").read_text() == "TOKEN=edited\n"
        assert "TOKEN" not in bench.everything()

    def test_with_a_secret_that_change_between_two_tries_are_kept_in_every_version(
        self, bench: Bench, town_paths: TownPaths
    ) -> None:
        for content in ("one", "one", "two", "three"):
            bench.write("deep/.env", f"{content}\n")
            bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        kept = town_paths.kept("shop", "sh-1", 3) / "files" / "deep"
        assert {path.name: path.read_text() for path in kept.iterdir()} == {
            ".env": "three\n", ".env.~1~": "one\n", ".env.~2~": "two\n",
        }  # fmt: skip

    def test_that_nobody_may_read_are_moved_out_of_the_worktree(
        self, bench: Bench, town_paths: TownPaths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The tests may run as root, who may read everything.
        monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path).name != "locked.txt")
        bench.write("half.txt", "half\n")
        bench.write("locked.txt", "locked\n")
        (bench.path / "locked.txt").chmod(0)
        bench.park_and_release()
        kept = town_paths.kept("shop", "sh-1", 3) / "files" / "locked.txt"
        kept.chmod(0o600)
        assert kept.read_text() == "locked\n"

    def test_of_a_submodule_with_a_secret_stay_here_when_its_folder_is_emptied(
        self, bench: Bench, town_paths: TownPaths, tmp_path: Path
    ) -> None:
        lib = bench.submodule(tmp_path)
        (lib / ".env").write_text("TOKEN=deep\n")
        (lib / "new.py").write_text("new\n")
        bench.park_and_release()
        assert (town_paths.kept("shop", "sh-1", 3) / "files" / "lib" / ".env").read_text() == "TOKEN=deep\n"
        assert "TOKEN" not in bench.everything()

    def test_where_there_is_no_place_for_what_must_stay_here_the_worktree_stays(
        self, bench: Bench, town_paths: TownPaths
    ) -> None:
        bench.write(".env", "TOKEN=whatever\n")
        (town_paths.root / "kept").write_text("in the way")
        with pytest.raises(GtError, match="must stay on this host") as refused:
            bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        assert refused.value.code is ErrorCode.REFUSED
        with pytest.raises(GtError, match="not parked yet"):
            bench.worktrees.release(bench.rig, "toast", "sh-1")


class TestIgnoredFiles:
    def ignore(self, bench: Bench, *patterns: str) -> None:
        bench.write(".gitignore", "".join(f"{pattern}\n" for pattern in patterns))
        bench.git("add", ".gitignore")
        bench.git("commit", "--quiet", "-m", "Ignore")

    def test_are_kept_on_this_host_and_caches_are_named(self, bench: Bench, town_paths: TownPaths) -> None:
        self.ignore(bench, "*.local", "notes/", "node_modules/", "env/")
        bench.write("plan.local", "a plan\n")
        bench.write("notes/deep/one.md", "a note\n")
        bench.write("notes/__pycache__/x.pyc", "x")
        bench.write("node_modules/lib/index.js", "x")
        bench.write("env/pyvenv.cfg", "x")
        bench.park_and_release()
        kept = town_paths.kept("shop", "sh-1", 3)
        assert kept_in(kept) == ["files/notes/deep/one.md", "files/plan.local"]
        assert (kept / "files" / "plan.local").read_text() == "a plan\n"
        assert "plan.local: git ignores it" in bench.message()
        for cache in ("env/", "node_modules/", "notes/__pycache__/"):
            assert cache in bench.message().partition("Not kept:")[2]
        assert "a plan" not in bench.everything()

    def test_above_the_limit_are_named_with_their_size(self, bench: Bench, town_paths: TownPaths) -> None:
        self.ignore(bench, "*.local")
        for name, size in (("a", 10), ("b", 900), ("c", 50)):
            bench.write(f"{name}.local", "x" * size)
        bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None, ignored_max_bytes=100)
        assert kept_in(town_paths.kept("shop", "sh-1", 3)) == ["files/a.local", "files/c.local"]
        told = git(bench.remote, "log", "-1", "--format=%B", PARKED)
        assert "b.local: ignored, 900 bytes" in told.partition("Not kept:")[2]

    def test_of_work_that_has_landed_are_let_go(self, bench: Bench, town_paths: TownPaths) -> None:
        self.ignore(bench, "*.local")
        bench.write("plan.local", "a plan\n")
        head = bench.git("rev-parse", "HEAD")
        assert bench.worktrees.park(bench.rig, "toast", "sh-1", 3, head) is None
        assert not town_paths.kept("shop", "sh-1", 3).exists()

    def test_caches_alone_are_no_work(self, bench: Bench) -> None:
        bench.write("__pycache__/x.pyc", "x")
        git_dir = Path(bench.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "exclude").write_text("__pycache__\n")
        assert bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None) is None

    def test_the_next_attempt_on_this_host_is_told_where_they_are(self, bench: Bench, town_paths: TownPaths) -> None:
        self.ignore(bench, "*.local")
        bench.write("plan.local", "a plan\n")
        bench.park_and_release()
        made = bench.worktrees.prepare(bench.rig, "nux", "sh-1", "main", 4, 1)
        assert made.restored is not None
        story = made.restored.story(made.kept)
        assert str(town_paths.kept("shop", "sh-1", 3) / "files") in story
        assert "plan.local" in story
