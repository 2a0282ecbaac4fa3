"""Work in progress is saved beside the agent, who notices nothing; what must not leave the host stays and is listed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from agents import session_folder
from models.errors import GtError
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.checkpoint_bench import WIP, Bench
from tests.activities.workshop import Workshop, git

KEY = "AKIA" + "QWERTYUIOP234567"


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> Bench:
    return Bench(town_paths, rig, workshop)


class TestWhatIsSaved:
    def test_head_is_the_parent_and_the_rest_is_in_the_tree(self, bench: Bench) -> None:
        head = bench.commit("done.txt")
        bench.write("half.txt", "half\n")
        bench.write("till.py", "edited\n")
        (bench.path / "README.md").unlink()
        assert bench.save()
        assert git(bench.workshop.remote, "log", "-1", "--format=%P", WIP) == head
        assert bench.files() == ["done.txt", "half.txt", "till.py"]
        assert bench.show("till.py") == "edited"
        assert "Work in progress of sh-1, attempt 1" in bench.message()
        assert "shop/toast on h1" in bench.message()

    def test_an_edit_of_the_same_length_in_the_second_of_the_commit_is_saved(self, bench: Bench) -> None:
        """git tells such a file from an unchanged one by the age of its index alone."""
        bench.git("config", "core.trustctime", "false")
        index, then = Path(bench.git("rev-parse", "--absolute-git-dir")) / "index", time.time() - 10
        bench.write("part.py", "x = 1\n")
        os.utime(bench.path / "part.py", (then, then))
        bench.git("add", "part.py")
        bench.git("commit", "--quiet", "-m", "part")
        bench.write("part.py", "x = 2\n")
        for path in (bench.path / "part.py", index):
            os.utime(path, (then, then))
        assert bench.save()
        assert bench.show("part.py") == "x = 2"

    def test_the_agents_index_head_and_files_stay_as_they_are(self, bench: Bench) -> None:
        bench.commit("done.txt")
        bench.write("half.txt", "half\n")
        bench.write("till.py", "staged\n")
        bench.git("add", "till.py")
        bench.write("till.py", "edited after it\n")
        git_dir = Path(bench.git("rev-parse", "--absolute-git-dir"))
        before = (bench.git("status", "--porcelain"), (git_dir / "index").read_bytes(), (git_dir / "HEAD").read_bytes())
        reflog = (git_dir / "logs" / "HEAD").read_bytes()
        assert bench.save()
        assert before == (
            bench.git("status", "--porcelain"), (git_dir / "index").read_bytes(), (git_dir / "HEAD").read_bytes(),
        )  # fmt: skip
        assert (git_dir / "logs" / "HEAD").read_bytes() == reflog
        assert not list(git_dir.glob("checkpoint.index*"))

    def test_a_later_save_takes_the_place_of_an_earlier_one(self, bench: Bench) -> None:
        bench.write("half.txt", "one\n")
        first = bench.save()
        bench.write("half.txt", "two\n")
        second = bench.save()
        assert second != first
        assert bench.show("half.txt") == "two"
        bench.git("reset", "--quiet", "--hard")
        bench.git("clean", "-fdq")
        assert bench.save() not in {first, second}
        assert "half.txt" not in bench.files()

    def test_a_tree_that_has_not_changed_is_not_saved_again(self, bench: Bench) -> None:
        bench.write("half.txt", "one\n")
        first = bench.save()
        changed = bench.note.read_text()
        os.utime(bench.note, (0, 0))
        assert bench.save() == first
        assert bench.note.read_text() == changed
        assert bench.note.stat().st_mtime > 0

    def test_where_nothing_was_done_nothing_is_saved(self, bench: Bench) -> None:
        assert bench.save() is None
        assert bench.saver.save(bench.order, "toast") is None

    def test_work_that_was_taken_needs_no_save(self, bench: Bench) -> None:
        head = bench.commit("done.txt")
        bench.worktrees.publish(bench.rig, "toast", "sh-1")
        taken = bench.paths.session("shop", "toast", "sh-1", 1) / session_folder.TAKEN_HEAD
        session_folder.write_json(taken, {"head_sha": head})
        assert bench.save() is None

    def test_commits_alone_are_saved(self, bench: Bench) -> None:
        bench.commit("done.txt")
        assert bench.save()
        assert "done.txt" in bench.files()

    def test_staged_states_are_saved_beside_and_what_no_commit_can_hold_is_named(self, bench: Bench) -> None:
        bench.write("till.py", "stashed\n")
        bench.git("stash", "push", "--quiet")
        bench.write("till.py", "staged\n")
        bench.git("add", "till.py")
        bench.write("till.py", "edited\n")
        git(bench.path, "init", "--quiet", "inner")
        bench.write("inner/deep.txt", "deep within\n")
        assert bench.save()
        for content in ("staged", "edited"):
            assert f"\n{content}\n" in bench.whole_remote()
        for told in ("it has a stash", "inner is a repository of its own"):
            assert told in bench.message()

    def test_a_rebase_half_way_is_saved_as_it_stands(self, bench: Bench) -> None:
        bench.commit("till.py", "mine\n")
        bench.workshop.advance_main({"till.py": "theirs\n"})
        bench.git("fetch", "--quiet", "origin")
        with pytest.raises(AssertionError):
            bench.git("rebase", "origin/main")
        assert bench.save()
        assert "<<<<<<<" in bench.show("till.py")
        assert "it has a rebase that is not finished" in bench.message()

    def test_with_the_remote_switched_off_the_save_is_on_this_host(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        assert bench.save(remote=False) is None
        assert git(bench.paths.clone("shop"), "show", f"{WIP}:half.txt") == "half"
        assert bench.save(remote=True)


class TestWhatStaysOnTheHost:
    def test_large_files_and_secrets(self, bench: Bench) -> None:
        bench.commit(".gitignore", "*.log\n")
        bench.write("noise.log", "noise\n")
        (bench.path / "deep" / "__pycache__").mkdir(parents=True)
        (bench.path / "deep" / "__pycache__" / "x.log").write_text("made again")
        bench.write("large.bin", os.urandom(1_000_001))
        bench.write("settings.py", f"key = '{KEY}'\n")
        bench.write("half.txt", "half\n")
        assert bench.save()
        assert bench.files() == [".gitignore", "README.md", "half.txt", "till.py"]
        assert bench.stayed() == {
            "large.bin": "1000001 bytes, above the limit of 1000000",
            "settings.py": "it seems to hold an AWS access key",
        }
        for name in bench.stayed():
            assert f"  {name}: " in bench.message()
        assert KEY not in bench.whole_remote()

    def test_a_large_file_is_not_even_copied_into_the_clone(self, bench: Bench) -> None:
        bench.write("large.bin", os.urandom(1_000_001))
        bench.write("half.txt", "half\n")
        bench.save()
        sizes = git(bench.paths.clone("shop"), "cat-file", "--batch-all-objects", "--batch-check=%(objectsize)")
        assert max(int(size) for size in sizes.split()) < 1_000_000

    @pytest.mark.parametrize("mine", ["mine\n" * 10, None], ids=["edited", "deleted"])
    def test_a_large_file_with_a_conflict_is_as_it_was_before_and_the_others_are_saved(
        self, bench: Bench, mine: str | None
    ) -> None:
        bench.write("big.bin", "base\n" * 10)
        bench.write("small.txt", "base\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "Both")
        bench.git("branch", "theirs")
        for name, content in (("big.bin", mine), ("small.txt", "mine\n")):
            bench.write(name, content) if content else (bench.path / name).unlink()
        bench.git("commit", "--quiet", "-am", "Mine")
        bench.git("checkout", "--quiet", "theirs")
        bench.write("big.bin", "theirs\n" * 10)
        bench.write("small.txt", "theirs\n")
        bench.git("commit", "--quiet", "-am", "Theirs")
        bench.git("checkout", "--quiet", "polecat/sh-1")
        with pytest.raises(AssertionError):
            bench.git("merge", "theirs")
        bench.write("big.bin", b"x" * 5_000)
        assert bench.save(max_bytes=1_000)
        assert "<<<<<<<" in bench.show("small.txt")
        assert ("big.bin" in bench.files()) == (mine is not None)
        if mine is not None:
            assert bench.show("big.bin") == mine.strip()
        assert bench.stayed() == {
            "big.bin": "5000 bytes, above the limit of 1000", "the worktree": "it has a merge that is not finished",
        }  # fmt: skip
        assert bench.git("ls-files", "--unmerged", "--format=%(path)").split() == [
            *["big.bin"] * (3 if mine else 2), *["small.txt"] * 3,
        ]  # fmt: skip

    def test_a_secret_in_a_commit_keeps_the_commits_here_and_saves_the_other_files(self, bench: Bench) -> None:
        base = bench.git("rev-parse", "HEAD")
        bench.commit("good.txt", "good\n")
        bench.commit("settings.py", f"key = '{KEY}'\n")
        bench.commit("settings.py", "key = os.environ['KEY']\n")
        bench.write("half.txt", "half\n")
        assert bench.save()
        assert git(bench.workshop.remote, "log", "-1", "--format=%P", WIP) == base
        assert {"good.txt", "half.txt", "settings.py"} <= set(bench.files())
        assert KEY not in bench.whole_remote()
        assert bench.stayed() == {f"commits since {base[:12]}": "one of them has settings.py"}

    def test_a_secret_that_is_only_staged_or_stashed(self, bench: Bench) -> None:
        bench.write("till.py", f"key = '{KEY}'\n")
        bench.git("stash", "push", "--quiet")
        bench.write("README.md", f"key = '{KEY}'\n")
        bench.git("add", "README.md")
        bench.write("README.md", "harmless\n")
        assert bench.save()
        assert bench.show("README.md") == "harmless"
        assert KEY not in bench.whole_remote()

    def test_names_are_listed_on_one_line_whatever_is_in_them(self, bench: Bench) -> None:
        bench.write("new\nline\x1b[31m/.env", "X=1\n")
        bench.write("half.txt", "half\n")
        assert bench.save()
        assert list(bench.stayed()) == [r"'new\nline\x1b[31m/.env'"]
        assert r"'new\nline\x1b[31m/.env': its name" in bench.message()


class TestWhoseWorkItIs:
    def test_an_attempt_that_a_newer_one_took_over_is_not_saved(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        session_folder.write_json(bench.paths.session("shop", "nux", "sh-1", 2) / session_folder.SESSION, {})
        assert bench.save() is None

    def test_a_worktree_that_somebody_changes_just_now_waits(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        with bench.worktrees._changing(bench.rig, "toast", "sh-1"):
            assert bench.saver.save(bench.order, "toast") is None
        assert bench.save()

    def test_a_later_attempt_in_the_same_worktree_has_a_save_of_its_own(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        first = bench.save()
        bench.begin(2)
        bench.write("more.txt", "more\n")
        bench.save()
        assert bench.workshop.at_remote(WIP) == first
        assert "more.txt" in bench.files("refs/gastown/wip/sh-1/2")

    def test_parking_takes_the_place_of_the_saves(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        bench.save()
        bench.begin(2)
        bench.save()
        assert bench.worktrees.park(bench.rig, "toast", "sh-1", 2, None)
        bench.worktrees.release(bench.rig, "toast", "sh-1")
        refs = git(bench.workshop.remote, "for-each-ref", "--format=%(refname)", "refs/gastown").split()
        assert refs == ["refs/gastown/parked/sh-1/2"]
        assert bench.saver.save(bench.order, "toast") is None

    def test_once_merged_the_saves_go_and_nothing_is_parked(self, bench: Bench) -> None:
        head = bench.commit("done.txt")
        bench.save()
        git(bench.path, "push", "--quiet", str(bench.rig.url), "HEAD:refs/heads/main")
        assert bench.worktrees.park(bench.rig, "toast", "sh-1", 1, head) is None
        bench.worktrees.release(bench.rig, "toast", "sh-1")
        assert git(bench.workshop.remote, "for-each-ref", "refs/gastown") == ""
        assert git(bench.paths.clone("shop"), "for-each-ref", "refs/gastown/wip") == ""


class TestTrouble:
    def test_a_remote_that_is_away_gets_the_save_once_it_is_back(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        remote = bench.workshop.remote
        remote.rename(remote.with_name("away"))
        with pytest.raises(GtError):
            bench.saver.save(bench.order, "toast")
        assert git(bench.paths.clone("shop"), "show", f"{WIP}:half.txt") == "half"
        remote.with_name("away").rename(remote)
        assert bench.save() == git(bench.paths.clone("shop"), "rev-parse", WIP)

    def test_a_note_that_the_agent_has_overwritten_counts_as_none(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        for garbage in ("", "[]", '{"sha": 5}', "\x00"):
            bench.note.write_text(garbage)
            assert bench.save()

    def test_files_that_come_and_go_while_it_is_saved(self, bench: Bench) -> None:
        stop = threading.Event()

        def busy() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                bench.write(f"busy/{number % 7}.txt", f"{number}\n" * 500)
                (bench.path / "busy" / f"{(number + 3) % 7}.txt").unlink(missing_ok=True)

        agent = threading.Thread(target=busy)
        bench.write("half.txt", "half\n")
        agent.start()
        try:
            for _ in range(10):
                assert bench.save()
                assert bench.show("half.txt") == "half"
        finally:
            stop.set()
            agent.join()
