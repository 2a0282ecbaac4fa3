"""Edits that git was told to overlook are work too: parked, saved, and gone from the next bead's worktree."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities import checkpoint_bench
from tests.activities.parking_bench import Bench
from tests.activities.workshop import Workshop, git


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, remote: Path, tmp_path: Path) -> Bench:
    return Bench(town_paths, rig, remote, tmp_path / "stranger")


@pytest.fixture
def saves(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> checkpoint_bench.Bench:
    return checkpoint_bench.Bench(town_paths, rig, workshop)


def worktree_of_the_next_bead(bench: Bench) -> Path:
    return bench.worktrees.prepare(bench.rig, "toast", "sh-2", "main").path


class TestFlags:
    @pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
    def test_an_edit_behind_one_is_parked_and_a_file_that_is_not_there_is_not_deleted(
        self, bench: Bench, flag: str
    ) -> None:
        bench.git("update-index", flag, "till.py", "README.md")
        bench.write("till.py", "edited behind the flag\n")
        (bench.path / "README.md").unlink()
        bench.park_and_release()
        assert bench.file("till.py") == "edited behind the flag"
        assert bench.file("README.md") == "shop"

    @pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
    def test_the_next_bead_finds_none(self, bench: Bench, flag: str) -> None:
        bench.git("update-index", flag, "till.py", "README.md")
        bench.write("till.py", "edited behind the flag\n")
        (bench.path / "README.md").unlink()
        bench.park_and_release()
        path = worktree_of_the_next_bead(bench)
        assert (path / "README.md").read_text() == "shop\n"
        assert (path / "till.py").read_text().startswith("one\n")
        assert git(path, "ls-files", "-v").splitlines() == ["H README.md", "H till.py"]

    def test_edits_behind_one_are_saved_each_and_the_agents_flag_stays(self, saves: checkpoint_bench.Bench) -> None:
        saves.git("update-index", "--skip-worktree", "till.py")
        for content in ("one edit", "another edit"):
            saves.write("till.py", content)
            assert saves.save()
            assert saves.show("till.py") == content
        assert saves.git("ls-files", "-v", "till.py") == "S till.py"

    def test_a_file_with_one_that_has_not_changed_is_no_work(self, saves: checkpoint_bench.Bench) -> None:
        saves.git("update-index", "--skip-worktree", "till.py")
        assert saves.save() is None


@pytest.mark.parametrize("form", ["patterns", "sparse index", "by hand"])
class TestASparseCheckout:
    @pytest.fixture(autouse=True)
    def _sparse(self, bench: Bench, form: str) -> None:
        bench.write("folder/far/away.txt", "far away\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "A folder")
        git(bench.path, "push", "--quiet", str(bench.rig.url), "HEAD:refs/heads/main")
        bench.git("config", "sparse.expectFilesOutsideOfPatterns", "true")
        if form == "patterns":
            bench.git("sparse-checkout", "set", "--no-cone", "README.md")
        elif form == "sparse index":
            bench.git("sparse-checkout", "set", "--cone", "--sparse-index")
        else:
            bench.git("config", "core.sparseCheckout", "true")
            info = Path(bench.git("rev-parse", "--absolute-git-dir")) / "info"
            info.mkdir(exist_ok=True)
            (info / "sparse-checkout").write_text("README.md\n")
            bench.git("read-tree", "-m", "-u", "HEAD")
        assert not (bench.path / "folder").exists()

    def test_what_it_leaves_out_is_not_deleted(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert bench.file("folder/far/away.txt") == "far away"

    def test_a_file_that_was_written_there_all_the_same_is_parked(self, bench: Bench) -> None:
        bench.write("folder/far/away.txt", "written all the same\n")
        bench.park_and_release()
        assert bench.file("folder/far/away.txt") == "written all the same"

    def test_the_next_bead_has_every_file(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        path = worktree_of_the_next_bead(bench)
        assert (path / "folder" / "far" / "away.txt").read_text() == "far away\n"
        assert git(path, "status", "--porcelain") == ""


class TestTheClonesConfiguration:
    def test_a_mode_where_modes_are_not_to_be_trusted(self, bench: Bench) -> None:
        bench.git("config", "core.fileMode", "false")
        (bench.path / "till.py").chmod(0o755)
        bench.park_and_release()
        assert git(bench._stranger, "ls-tree", "parked", "till.py").startswith("100755")

    def test_an_edit_where_each_file_is_taken_for_unchanged_once_it_is_added(self, bench: Bench) -> None:
        bench.git("config", "core.ignoreStat", "true")
        bench.write("half.txt", "half\n")
        bench.git("add", ".")
        bench.write("half.txt", "edited again\n")
        bench.park_and_release()
        assert bench.file("half.txt") == "edited again"
        assert git(worktree_of_the_next_bead(bench), "ls-files", "-v").splitlines() == ["H README.md", "H till.py"]

    def test_names_that_differ_by_case_where_case_is_not_to_count(self, bench: Bench) -> None:
        bench.git("config", "core.ignoreCase", "true")
        bench.write("Till.py", "another one\n")
        bench.park_and_release()
        assert bench.file("Till.py") == "another one"
        assert bench.file("till.py").startswith("one")
