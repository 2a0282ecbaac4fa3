"""Whatever an agent leaves in its worktree, in the index or half way through a command is on the remote once parked.

Each test reads what was parked from a clone that has nothing but the parked ref.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.parking_bench import PARKED, Bench
from tests.activities.workshop import Workshop, git


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, remote: Path, tmp_path: Path) -> Bench:
    return Bench(town_paths, rig, remote, tmp_path / "stranger")


class TestTheIndex:
    def test_what_is_only_staged(self, bench: Bench) -> None:
        bench.write("new.txt", "staged and then deleted\n")
        bench.git("add", "new.txt")
        (bench.path / "new.txt").unlink()
        bench.park_and_release()
        assert "staged and then deleted" in bench.everything()

    def test_what_was_staged_and_then_edited_again(self, bench: Bench) -> None:
        bench.write("till.py", "as it was staged\n")
        bench.git("add", "till.py")
        bench.write("till.py", "as it stands now\n")
        bench.park_and_release()
        assert bench.file("till.py") == "as it stands now"
        assert "as it was staged" in bench.everything()

    def test_a_staged_deletion_of_a_file_that_still_stands_there(self, bench: Bench) -> None:
        bench.git("rm", "--cached", "--quiet", "till.py")
        bench.write("till.py", "not tracked any more\n")
        bench.park_and_release()
        assert bench.file("till.py") == "not tracked any more"

    def test_a_file_that_was_renamed_a_mode_a_link_and_a_deletion(self, bench: Bench) -> None:
        bench.git("mv", "till.py", "till2.py")
        bench.write("run.sh", "true\n")
        (bench.path / "run.sh").chmod(0o755)
        (bench.path / "link").symlink_to("till2.py")
        (bench.path / "README.md").unlink()
        bench.park_and_release()
        listed = git(bench._stranger, "ls-tree", "-r", "--format=%(objectmode) %(path)", "parked").splitlines()
        assert listed == ["120000 link", "100755 run.sh", "100644 till2.py"]

    def test_a_folder_where_there_was_a_file_and_the_other_way_round(self, bench: Bench) -> None:
        bench.write("folder/one.txt", "one\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "A folder")
        (bench.path / "till.py").unlink()
        bench.write("till.py/inside.txt", "inside\n")
        (bench.path / "folder" / "one.txt").unlink()
        (bench.path / "folder").rmdir()
        bench.write("folder", "a file\n")
        bench.park_and_release()
        assert bench.file("till.py/inside.txt") == "inside"
        assert bench.file("folder") == "a file"


class TestCommits:
    def test_on_a_detached_head_and_on_the_branch_it_left(self, bench: Bench) -> None:
        bench.write("branch.txt", "on the branch\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "On the branch")
        tip = bench.git("rev-parse", "HEAD")
        bench.git("checkout", "--quiet", "--detach", "HEAD^")
        bench.write("detached.txt", "detached\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "Detached")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert bench.file("half.txt") == "half"
        assert bench.file("detached.txt") == "detached"
        assert bench.holds(tip)

    def test_on_a_branch_of_the_agents_own(self, bench: Bench) -> None:
        bench.git("checkout", "--quiet", "-b", "idea")
        bench.write("idea.txt", "idea\n")
        bench.git("add", ".")
        bench.git("commit", "--quiet", "-m", "Idea")
        bench.park_and_release()
        assert bench.file("idea.txt") == "idea"

    def test_before_the_first_commit_of_an_unborn_branch(self, bench: Bench) -> None:
        bench.git("checkout", "--quiet", "--orphan", "alone")
        bench.git("rm", "--cached", "-r", "--quiet", ".")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert bench.file("half.txt") == "half"


class TestWhatNoCommitCanHold:
    """The whole worktree is in the salvage folder, and goes on there."""

    def conflict(self, bench: Bench, workshop: Workshop) -> str:
        bench.write("till.py", "mine\n")
        bench.git("commit", "--quiet", "-am", "Mine")
        mine = bench.git("rev-parse", "HEAD")
        workshop.advance_main({"till.py": "theirs\n"})
        bench.git("fetch", "--quiet", "origin")
        return mine

    def test_a_rebase_with_changes_set_aside(self, bench: Bench, workshop: Workshop) -> None:
        mine = self.conflict(bench, workshop)
        bench.write("README.md", "set aside by --autostash\n")
        with pytest.raises(AssertionError):
            bench.git("rebase", "--autostash", "origin/main")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert bench.file("half.txt") == "half"
        assert "<<<<<<<" in bench.file("till.py")
        assert bench.holds(mine)
        assert "it has a rebase that is not finished" in bench.message()
        git(bench.salvaged(), "rebase", "--abort")
        assert git(bench.salvaged(), "rev-parse", "HEAD") == mine
        assert (bench.salvaged() / "README.md").read_text() == "set aside by --autostash\n"

    @pytest.mark.parametrize("command", ["merge", "cherry-pick", "revert"])
    def test_a_command_that_met_a_conflict(self, bench: Bench, workshop: Workshop, command: str) -> None:
        self.conflict(bench, workshop)
        if command == "revert":
            bench.write("till.py", "more\n")
            bench.git("commit", "--quiet", "-am", "More")
        with pytest.raises(AssertionError):
            bench.git(command, "HEAD^" if command == "revert" else "origin/main")
        bench.park_and_release()
        assert f"it has a {command} that is not finished" in bench.message()
        git(bench.salvaged(), command, "--abort")

    def test_a_stash(self, bench: Bench) -> None:
        bench.write("till.py", "stashed\n")
        bench.write("untracked.txt", "stashed too\n")
        bench.git("stash", "push", "--quiet", "--include-untracked", "-m", "later")
        bench.park_and_release()
        assert "it has a stash" in bench.message()
        assert "later" in git(bench.salvaged(), "stash", "list")

    def test_a_stash_of_another_polecat_stays_its_own(self, bench: Bench) -> None:
        other = bench.worktrees.prepare(bench.rig, "nux", "sh-2", "main").path
        (other / "till.py").write_text("of sh-2\n")
        git(other, "stash", "push", "--quiet")
        assert bench.git("stash", "list") == ""
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert "of sh-2" not in bench.everything()
        assert "of sh-2" in git(other, "stash", "show", "-p")

    def test_a_lock_of_a_command_that_was_killed(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        Path(bench.git("rev-parse", "--absolute-git-dir"), "index.lock").touch()
        bench.park_and_release()
        assert bench.file("half.txt") == "half"

    def test_a_git_directory_that_is_gone(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        (bench.path / ".git" / "HEAD").unlink()
        bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        bench.worktrees.release(bench.rig, "toast", "sh-1")
        assert (bench.salvaged() / "half.txt").read_text() == "half\n"


class TestRepositoriesWithin:
    @pytest.mark.parametrize("what", ["an edit", "a commit"])
    def test_work_in_a_submodule(self, bench: Bench, tmp_path: Path, what: str) -> None:
        lib = bench.submodule(tmp_path)
        (lib / "new.py").write_text("new within\n")
        if what == "a commit":
            git(lib, "add", ".")
            git(lib, "commit", "--quiet", "-m", "Within")
        bench.park_and_release()
        assert (bench.salvaged() / "lib" / "new.py").read_text() == "new within\n"

    def test_a_submodule_that_is_as_the_target_has_it_needs_no_salvage(
        self, bench: Bench, tmp_path: Path, town_paths: TownPaths
    ) -> None:
        bench.submodule(tmp_path)
        git(bench.path, "push", "--quiet", str(bench.remote), "HEAD:refs/heads/main")
        bench.write("half.txt", "half\n")
        bench.park_and_release()
        assert not town_paths.salvage.exists()

    def test_the_next_bead_finds_nothing_of_it(self, bench: Bench, tmp_path: Path) -> None:
        lib = bench.submodule(tmp_path)
        git(bench.path, "push", "--quiet", str(bench.remote), "HEAD:refs/heads/main")
        (lib / "lib.py").write_text("edited within\n")
        bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        bench.worktrees.release(bench.rig, "toast", "sh-1")
        made = bench.worktrees.prepare(bench.rig, "toast", "sh-2", "main")
        assert (made.path / "lib" / "lib.py").read_text() == "lib\n"
        assert git(made.path, "status", "--porcelain") == ""

    @pytest.mark.parametrize("how", ["never added", "added", "committed", "added and then ignored"])
    def test_a_repository_that_an_agent_made(self, bench: Bench, how: str) -> None:
        inner = bench.path / "inner"
        git(bench.path, "init", "--quiet", "-b", "main", str(inner))
        git(inner, "commit", "--quiet", "--allow-empty", "-m", "Inner")
        git(inner, "checkout", "--quiet", "-b", "idea")
        git(inner, "commit", "--quiet", "--allow-empty", "-m", "Idea")
        git(inner, "checkout", "--quiet", "main")
        if how != "never added":
            bench.git("add", "inner")
        if how == "committed":
            bench.git("commit", "--quiet", "-m", "With a repository inside")
        if how == "added and then ignored":
            bench.write(".gitignore", "/inner\n")
        bench.write("half.txt", "half\n")
        bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        parked = git(bench.remote, "rev-parse", PARKED)
        bench.park_and_release()
        assert git(bench.salvaged() / "inner", "log", "-1", "--format=%s", "idea") == "Idea"
        assert git(bench.remote, "rev-parse", PARKED) == parked, "parked again it is the same"


class TestTheRemoteIsAway:
    def test_the_work_is_on_this_host_under_the_same_ref_until_it_is_back(
        self, bench: Bench, town_paths: TownPaths
    ) -> None:
        bench.write("half.txt", "half\n")
        away = bench.remote.with_name("away")
        bench.remote.rename(away)
        for _ in range(2):
            with pytest.raises(GtError):
                bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        here = git(town_paths.clone("shop"), "rev-parse", PARKED)
        assert git(town_paths.clone("shop"), "show", f"{PARKED}:half.txt") == "half"
        with pytest.raises(GtError, match="not parked yet"):
            bench.worktrees.release(bench.rig, "toast", "sh-1")
        away.rename(bench.remote)
        bench.park_and_release()
        assert git(bench._stranger, "rev-parse", "parked") == here


class TestTheRemoteRefuses:
    def refuse(self, bench: Bench) -> None:
        hook = bench.remote / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'file is too large' >&2\nexit 1\n")
        hook.chmod(0o755)

    def test_the_worktree_stays_and_the_work_is_on_this_host(self, bench: Bench, town_paths: TownPaths) -> None:
        bench.write("huge.bin", "huge\n")
        self.refuse(bench)
        with pytest.raises(GtError) as refused:
            bench.worktrees.park(bench.rig, "toast", "sh-1", 3, None)
        assert refused.value.code is ErrorCode.REMOTE_REFUSED
        assert (bench.path / "huge.bin").exists()
        assert git(town_paths.clone("shop"), "show", f"{PARKED}:huge.bin") == "huge"

    def test_another_bead_can_have_the_worktree_all_the_same(self, bench: Bench, town_paths: TownPaths) -> None:
        bench.write("huge.bin", "huge\n")
        self.refuse(bench)
        made = bench.worktrees.prepare(bench.rig, "toast", "sh-2", "main")
        assert not (made.path / "huge.bin").exists()
        assert git(town_paths.clone("shop"), "show", "refs/gastown/parked/sh-1/0:huge.bin") == "huge"

    def test_a_remote_that_is_away_keeps_another_bead_waiting(self, bench: Bench) -> None:
        bench.write("half.txt", "half\n")
        bench.remote.rename(bench.remote.with_name("away"))
        with pytest.raises(GtError):
            bench.worktrees.prepare(bench.rig, "toast", "sh-2", "main")
        assert (bench.path / "half.txt").exists()
