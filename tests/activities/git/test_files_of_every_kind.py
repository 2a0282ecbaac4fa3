"""Files of every kind and name are on the remote once parked, and none holds parking up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.parking_bench import Bench
from tests.activities.workshop import Workshop, git


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, remote: Path, tmp_path: Path) -> Bench:
    return Bench(town_paths, rig, remote, tmp_path / "stranger")


class TestFiles:
    def test_in_a_folder_that_stands_where_a_conflict_was(self, bench: Bench, workshop: Workshop) -> None:
        bench.write("till.py", "mine\n")
        bench.git("commit", "--quiet", "-am", "Mine")
        workshop.advance_main({"till.py": "theirs\n"})
        bench.git("fetch", "--quiet", "origin")
        with pytest.raises(AssertionError):
            bench.git("merge", "origin/main")
        (bench.path / "till.py").unlink()
        bench.write("till.py/inside.txt", "inside\n")
        bench.park_and_release()
        assert (bench.salvaged() / "till.py" / "inside.txt").read_text() == "inside\n"

    def test_in_a_repository_that_stands_where_a_file_was(self, bench: Bench) -> None:
        (bench.path / "till.py").unlink()
        git(bench.path, "init", "--quiet", "till.py")
        bench.write("till.py/inside.txt", "inside\n")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert bench.file("half.txt") == "half"
        assert (bench.salvaged() / "till.py" / "inside.txt").read_text() == "inside\n"

    def test_of_any_name(self, bench: Bench) -> None:
        names = [
            "with space", "new\nline", "tab\there", "quote'\"", "-rf", "$(touch pwned)", ";ls", "*", "?", "[a]",
            ":(exclude)x", "ünï", "\u202ertl", "a" * 200, "dir/-x/\\back", ".gitignored-not", "#hash", "!bang",
        ]  # fmt: skip
        for name in names:
            bench.write(name, f"hostile {name!a}\n")
        bench.park_and_release()
        for name in names:
            assert bench.file(name) == f"hostile {name!a}"
        assert not list(bench.path.glob("**/pwned"))

    def test_whose_name_is_no_text(self, bench: Bench) -> None:
        (bench.path / os.fsdecode(b"\xff\xfe")).write_text("no text\n")
        bench.park_and_release()
        assert "no text" in bench.everything()

    def test_a_pipe_where_there_was_a_file_holds_nothing_up(self, bench: Bench) -> None:
        (bench.path / "till.py").unlink()
        os.mkfifo(bench.path / "till.py")
        os.mkfifo(bench.path / "new")
        bench.write("half.txt", "half\n")
        reader = os.open(bench.path / "till.py", os.O_RDONLY | os.O_NONBLOCK)
        try:
            bench.park_and_release()
        finally:
            os.close(reader)
        assert bench.file("half.txt") == "half"
        assert "till.py is a special file" in bench.message()

    def test_that_are_huge(self, bench: Bench) -> None:
        huge = bytes(70_000_000)
        bench.write("huge.bin", huge)
        bench.park_and_release()
        assert git(bench._stranger, "cat-file", "-s", "parked:huge.bin") == str(len(huge))

    def test_thousands_of_them(self, bench: Bench) -> None:
        for number in range(3_000):
            bench.write(f"many/{number}.txt", f"{number}\n")
        bench.park_and_release()
        assert len(git(bench._stranger, "ls-tree", "--name-only", "parked:many").splitlines()) == 3_000
