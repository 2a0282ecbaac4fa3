"""The end of a bead's worktree: what is not landed is parked, then the worktree is freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.git.merging.landing import LandingActivities
from activities.git.worktree.worktrees import Worktrees
from models.errors import ErrorCode, GtError
from models.ledger.records import Rig
from models.refinery.messages import BuildChain, FindLanded, LandChain
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

PARKED = "refs/gastown/parked/sh-1/3"


@pytest.fixture
def worktrees(town_paths: TownPaths) -> Worktrees:
    return Worktrees(town_paths)


@pytest.fixture
def worktree(worktrees: Worktrees, rig: Rig) -> Path:
    return worktrees.prepare(rig, "toast", "sh-1", "main").path


def commit(path: Path, name: str, content: str = "x\n") -> str:
    (path / name).write_text(content)
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


def park(worktrees: Worktrees, rig: Rig, landed_sha: str | None = None) -> str | None:
    return worktrees.park(rig, "toast", "sh-1", 3, landed_sha)


def files(workshop: Workshop, ref: str) -> list[str]:
    return git(workshop.remote, "ls-tree", "-r", "--name-only", ref).splitlines()


class TestPark:
    def test_nothing_is_parked_where_nothing_was_done(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        assert park(worktrees, rig) is None
        assert workshop.at_remote(PARKED) is None

    def test_commits_are_parked_as_they_are(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        head = commit(worktree, "done.txt")
        assert park(worktrees, rig) == PARKED
        assert workshop.at_remote(PARKED) == head

    def test_uncommitted_and_untracked_files_are_parked_and_ignored_ones_are_not(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        commit(worktree, ".gitignore", "*.log\n")
        (worktree / "till.py").write_text("edited")
        (worktree / "dir").mkdir()
        (worktree / "dir" / "ünï\ncode").write_text("x")
        (worktree / "noise.log").write_text("x")
        before = git(worktree, "status", "--porcelain")
        assert park(worktrees, rig) == PARKED
        assert git(workshop.remote, "show", f"{PARKED}:till.py") == "edited"
        listed = git(workshop.remote, "ls-tree", "-r", "-z", "--name-only", PARKED).split("\0")
        assert "dir/ünï\ncode" in listed
        assert "noise.log" not in listed
        assert git(worktree, "status", "--porcelain") == before

    def test_parking_again_changes_nothing(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        (worktree / "half.txt").write_text("half")
        park(worktrees, rig)
        first = workshop.at_remote(PARKED)
        assert park(worktrees, rig) == PARKED
        assert workshop.at_remote(PARKED) == first

    def test_what_was_parked_under_the_same_attempt_before_stays_reachable(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        (worktree / "half.txt").write_text("first")
        park(worktrees, rig)
        first = workshop.at_remote(PARKED)
        (worktree / "half.txt").write_text("second")
        park(worktrees, rig)
        assert git(workshop.remote, "show", f"{PARKED}:half.txt") == "second"
        assert git(workshop.remote, "merge-base", "--is-ancestor", str(first), PARKED) == ""

    def test_landed_work_is_not_parked(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop, town_paths: TownPaths
    ) -> None:
        landed = self.land(worktrees, rig, worktree, workshop, town_paths)
        assert park(worktrees, rig, landed) is None
        assert park(worktrees, rig, None) is None

    def test_work_after_the_landed_commit_is_parked(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop, town_paths: TownPaths
    ) -> None:
        landed = self.land(worktrees, rig, worktree, workshop, town_paths)
        (worktree / "late.txt").write_text("late")
        assert park(worktrees, rig, landed) == PARKED
        assert "late.txt" in files(workshop, PARKED)

    def land(self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop, town_paths: TownPaths) -> str:
        head = commit(worktree, "done.txt")
        worktrees.publish(rig, "toast", "sh-1")
        workshop.start("sh-1", "origin/polecat/sh-1")
        request = workshop.submit("sh-1")
        assert request.head_sha == head
        landing = LandingActivities(town_paths)
        chain = landing.build_chain(BuildChain(rig=rig, target="main", changes=(request,)))
        landing.land_chain(LandChain(rig=rig, target="main", base_sha=chain.base_sha, links=chain.links))
        return chain.links[0].sha

    def test_a_rebase_halfway_is_parked_with_the_branch_it_came_from(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        commit(worktree, "first.txt")
        tip = commit(worktree, "till.py", "mine\n")
        workshop.advance_main({"till.py": "theirs\n"})
        git(worktree, "fetch", "--quiet", "origin")
        with pytest.raises(AssertionError):
            git(worktree, "rebase", "origin/main")
        assert park(worktrees, rig) == PARKED
        assert "<<<<<<<" in git(workshop.remote, "show", f"{PARKED}:till.py")
        assert git(workshop.remote, "merge-base", "--is-ancestor", tip, PARKED) == ""

    def test_work_on_a_branch_without_commits_is_parked(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        git(worktree, "checkout", "--quiet", "--orphan", "alone")
        (worktree / "half.txt").write_text("half")
        assert park(worktrees, rig) == PARKED
        assert "half.txt" in files(workshop, PARKED)
        worktrees.release(rig, "toast", "sh-1")

    def test_a_damaged_index_does_not_stop_it(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        (worktree / "half.txt").write_text("half")
        (Path(git(worktree, "rev-parse", "--absolute-git-dir")) / "index").write_bytes(b"damaged")
        assert park(worktrees, rig) == PARKED
        assert files(workshop, PARKED) == ["README.md", "half.txt", "till.py"]
        worktrees.release(rig, "toast", "sh-1")
        assert worktrees.prepare(rig, "toast", "sh-2", "main").head_sha

    def test_a_worktree_that_has_another_bead_by_now_is_left_alone(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        park(worktrees, rig)
        worktrees.release(rig, "toast", "sh-1")
        worktrees.prepare(rig, "toast", "sh-2", "main")
        (worktree / "of_sh_2.txt").write_text("x")
        assert park(worktrees, rig) is None
        worktrees.release(rig, "toast", "sh-1")
        assert (worktree / "of_sh_2.txt").exists()
        assert git(worktree, "symbolic-ref", "HEAD") == "refs/heads/polecat/sh-2"

    def test_a_retry_after_the_release_still_names_the_ref(
        self, worktrees: Worktrees, rig: Rig, worktree: Path
    ) -> None:
        (worktree / "half.txt").write_text("half")
        assert park(worktrees, rig) == PARKED
        worktrees.release(rig, "toast", "sh-1")
        assert park(worktrees, rig) == PARKED

    def test_a_polecat_without_a_worktree_has_nothing_to_park_or_release(self, worktrees: Worktrees, rig: Rig) -> None:
        assert worktrees.park(rig, "nux", "sh-7", 1, None) is None
        worktrees.release(rig, "nux", "sh-7")

    def test_a_remote_that_is_away_is_tried_again(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, remote: Path
    ) -> None:
        (worktree / "half.txt").write_text("half")
        remote.rename(remote.with_name("away"))
        with pytest.raises(GtError) as caught:
            park(worktrees, rig)
        assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE
        remote.with_name("away").rename(remote)
        assert park(worktrees, rig) == PARKED


class TestRelease:
    def test_the_repository_and_the_branch_are_gone_and_the_next_bead_finds_no_file_of_this_one(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop, town_paths: TownPaths
    ) -> None:
        commit(worktree, ".gitignore", "*.log\n")
        (worktree / "half.txt").write_text("half")
        (worktree / "noise.log").write_text("x")
        park(worktrees, rig)
        worktrees.release(rig, "toast", "sh-1")
        assert not (worktree / ".git").exists()
        assert git(town_paths.clone("shop"), "for-each-ref", "refs/gastown/work") == ""
        worktrees.release(rig, "toast", "sh-1")
        worktrees.prepare(rig, "toast", "sh-2", "main")
        assert sorted(entry.name for entry in worktree.iterdir()) == [".git", "README.md", "till.py"]

    def test_work_that_was_never_parked_is_not_cleaned_away(
        self, worktrees: Worktrees, rig: Rig, worktree: Path
    ) -> None:
        (worktree / "half.txt").write_text("half")
        with pytest.raises(GtError, match="not parked yet") as caught:
            worktrees.release(rig, "toast", "sh-1")
        assert caught.value.retryable
        assert (worktree / "half.txt").exists()

    def test_commits_made_after_parking_are_not_cleaned_away(
        self, worktrees: Worktrees, rig: Rig, worktree: Path
    ) -> None:
        park(worktrees, rig)
        commit(worktree, "late.txt")
        with pytest.raises(GtError, match="not parked yet"):
            worktrees.release(rig, "toast", "sh-1")
        assert park(worktrees, rig) == PARKED
        worktrees.release(rig, "toast", "sh-1")

    def test_work_for_a_target_that_has_gone_is_parked_whole_and_makes_room(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop
    ) -> None:
        workshop.git("push", "--quiet", "origin", "origin/main:refs/heads/next")
        worktree = worktrees.prepare(rig, "toast", "sh-1", "next").path
        done = commit(worktree, "half.txt")
        workshop.git("push", "--quiet", "origin", "origin/main:refs/heads/other", ":refs/heads/next")
        worktrees.prepare(rig, "toast", "sh-2", "other")
        assert workshop.at_remote("refs/gastown/parked/sh-1/0") == done

    @pytest.mark.parametrize(("gone", "new"), [("next", "next/ui"), ("next/ui", "next")])
    def test_a_target_that_has_gone_is_in_no_other_ones_way(
        self, worktrees: Worktrees, rig: Rig, workshop: Workshop, town_paths: TownPaths, gone: str, new: str
    ) -> None:
        workshop.git("push", "--quiet", "origin", f"origin/main:refs/heads/{gone}")
        done = commit(worktrees.prepare(rig, "toast", "sh-1", gone).path, "half.txt")
        LandingActivities(town_paths).find_landed(FindLanded(rig=rig.landing_on(gone), bead="sh-1"))
        git(workshop.remote, "branch", "-D", gone)
        tip = workshop.advance_main({"later.txt": "x"})
        workshop.git("push", "--quiet", "origin", f"{tip}:refs/heads/{new}")
        assert worktrees.prepare(rig, "nux", "sh-2", new).head_sha == tip
        assert LandingActivities(town_paths).find_landed(FindLanded(rig=rig.landing_on(new), bead="sh-2")).sha is None
        assert worktrees.prepare(rig, "toast", "sh-3", "main").head_sha == tip, "its worktree makes room all the same"
        assert workshop.at_remote("refs/gastown/parked/sh-1/0") == done

    def test_a_bead_slung_again_after_its_release_starts_afresh(
        self, worktrees: Worktrees, rig: Rig, worktree: Path, workshop: Workshop
    ) -> None:
        (worktree / "half.txt").write_text("half")
        park(worktrees, rig)
        worktrees.release(rig, "toast", "sh-1")
        made = worktrees.prepare(rig, "toast", "sh-1", "main")
        assert (made.resumed, made.head_sha) == (False, workshop.at_remote("refs/heads/main"))
        assert not (worktree / "half.txt").exists()
