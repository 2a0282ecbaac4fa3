"""A job that moves to another polecat or host goes on from what was saved of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.git.worktree.checkpoints import CheckpointSaver
from activities.git.worktree.restoring import AttemptUsed
from activities.git.worktree.worktrees import PreparedWorktree, Worktrees
from agents import session_folder
from models.job.checkpoints import CheckpointOrder
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git

BRANCH = "refs/heads/polecat/sh-1"


class Host:
    """A machine with clones of its own."""

    def __init__(self, root: Path, rig: Rig) -> None:
        self.paths = TownPaths(root)
        self.rig = rig
        self.worktrees = Worktrees(self.paths)
        self.saver = CheckpointSaver(self.paths, root.name)

    def prepare(self, attempt: int, polecat: str = "toast", bead: str = "sh-1", first: int = 1) -> PreparedWorktree:
        made = self.worktrees.prepare(self.rig, polecat, bead, "main", attempt, first)
        session_folder.write_json(
            self.paths.session("shop", polecat, bead, attempt) / session_folder.SESSION, {"attempt": attempt}
        )
        return made

    def save(self, polecat: str = "toast", *, remote: bool = True) -> None:
        order = CheckpointOrder(rig=self.rig, interval_s=600, max_bytes=1_000_000, remote=remote)
        assert self.saver.save(order, polecat)

    def park(self, attempt: int, polecat: str = "toast", bead: str = "sh-1", landed: str | None = None) -> str | None:
        parked = self.worktrees.park(self.rig, polecat, bead, attempt, landed)
        self.worktrees.release(self.rig, polecat, bead)
        return parked


@pytest.fixture
def first(tmp_path: Path, rig: Rig) -> Host:
    return Host(tmp_path / "h1", rig)


@pytest.fixture
def second(tmp_path: Path, rig: Rig) -> Host:
    return Host(tmp_path / "h2", rig)


def commit(path: Path, name: str, content: str = "x\n") -> str:
    (path / name).write_text(content)
    git(path, "add", "--", name)
    git(path, "commit", "--quiet", "-m", f"Add {name}")
    return git(path, "rev-parse", "HEAD")


def half_done(path: Path) -> str:
    """One commit, and every kind of uncommitted change after it."""
    head = commit(path, "done.txt")
    (path / "half.txt").write_text("half\n")
    (path / "till.py").write_text("edited\n")
    git(path, "add", "till.py")
    (path / "README.md").unlink()
    return head


AS_IT_WAS = [" D README.md", "M  till.py", "?? half.txt"]


class TestAnotherHost:
    def test_head_is_the_saved_parent_and_what_was_staged_is_staged_again(self, first: Host, second: Host) -> None:
        head = half_done(first.prepare(1).path)
        first.save()
        made = second.prepare(2)
        assert git(made.path, "rev-parse", "HEAD") == head
        assert git(made.path, "symbolic-ref", "HEAD") == BRANCH
        assert git(made.path, "status", "--porcelain").splitlines() == AS_IT_WAS
        assert (made.path / "till.py").read_text() == "edited\n"
        assert made.restored is not None
        assert made.restored.attempt == 1
        story = made.restored.story()
        assert "attempt 1" in story
        assert head[:12] in story

    def test_of_a_file_that_was_staged_and_edited_again_both_come_back(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        (path / "till.py").write_text("staged\n")
        (path / "new.txt").write_text("staged too\n")
        git(path, "add", "till.py", "new.txt")
        git(path, "rm", "--cached", "--quiet", "README.md")
        (path / "till.py").write_text("edited after it\n")
        (path / "new.txt").unlink()
        before = git(path, "status", "--porcelain")
        first.save()
        made = second.prepare(2)
        assert git(made.path, "status", "--porcelain") == before
        assert git(made.path, "show", ":till.py") == "staged"
        assert (made.path / "till.py").read_text() == "edited after it\n"
        assert made.restored is not None
        assert "git show" not in made.restored.story(), "nothing is left to be looked up"

    def test_what_was_staged_before_the_first_commit_is_told_and_not_staged(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        git(path, "checkout", "--quiet", "--orphan", "alone")
        (path / "half.txt").write_text("half\n")
        first.save()
        made = second.prepare(2)
        assert git(made.path, "diff", "--cached", "--name-only") == ""
        assert made.restored is not None
        assert " staged" in made.restored.story()

    def test_a_rebase_that_was_half_done_is_told_and_can_be_begun_again(
        self, first: Host, second: Host, workshop: Workshop
    ) -> None:
        path = first.prepare(1).path
        commit(path, "till.py", "mine\n")
        mine = commit(path, "later.txt")
        onto = workshop.advance_main({"till.py": "theirs\n"})
        git(path, "fetch", "--quiet", "origin")
        with pytest.raises(AssertionError):
            git(path, "rebase", "origin/main")
        first.save()
        made = second.prepare(2)
        assert made.head_sha == onto
        assert "<<<<<<<" in (made.path / "till.py").read_text()
        assert made.restored is not None
        story = made.restored.story()
        assert "it has a rebase that is not finished" in story
        git(made.path, "stash", "push", "--quiet", "--include-untracked")
        git(made.path, "reset", "--quiet", "--hard", mine)
        with pytest.raises(AssertionError, match=r"till\.py"):
            git(made.path, "rebase", onto)

    def test_what_stayed_behind_is_told(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        (path / "half.txt").write_text("half\n")
        (path / ".env").write_text("TOKEN=x\n")
        (path / "till.py").write_text("stashed\n")
        git(path, "stash", "push", "--quiet")
        first.save()
        restored = second.prepare(2).restored
        assert restored is not None
        assert ".env" in restored.story()
        assert "it has a stash" in restored.story()

    def test_killed_between_the_checkout_and_its_note_it_is_restored_again(self, first: Host, second: Host) -> None:
        half_done(first.prepare(1).path)
        first.save()
        path = second.prepare(2).path
        (second.paths.worktree_side("shop", "toast") / "owner.json").unlink()
        (path / "of a killed call.txt").write_text("x")
        assert git(second.prepare(2).path, "status", "--porcelain").splitlines() == AS_IT_WAS

    def test_a_save_that_was_restored_goes_when_the_work_it_became_is_parked(
        self, first: Host, second: Host, workshop: Workshop
    ) -> None:
        half_done(first.prepare(1).path)
        first.save()
        second.prepare(2)
        second.save()
        assert second.park(2) == "refs/gastown/parked/sh-1/2"
        assert git(workshop.remote, "for-each-ref", "--format=%(refname)", "refs/gastown").split() == [
            "refs/gastown/parked/sh-1/2"
        ]

    def test_a_save_that_nobody_went_on_from_is_parked_along(
        self, first: Host, second: Host, workshop: Workshop
    ) -> None:
        (first.prepare(1).path / "half.txt").write_text("half\n")
        first.save()
        saved = str(workshop.at_remote("refs/gastown/wip/sh-1/1"))
        assert second.park(1) == "refs/gastown/parked/sh-1/1"
        assert workshop.at_remote("refs/gastown/parked/sh-1/1") == saved
        assert workshop.at_remote("refs/gastown/wip/sh-1/1") is None

    def test_a_host_that_healed_keeps_nothing_that_is_older_than_what_was_saved_since(
        self, first: Host, second: Host, workshop: Workshop
    ) -> None:
        path = first.prepare(1).path
        (path / "half.txt").write_text("half\n")
        first.save()
        (path / "late.txt").write_text("never saved\n")
        (second.prepare(2).path / "more.txt").write_text("more\n")
        second.save()
        made = first.prepare(3)
        assert not made.resumed
        assert (made.path / "more.txt").exists()
        assert not (made.path / "late.txt").exists()
        assert git(workshop.remote, "show", "refs/gastown/parked/sh-1/1:late.txt") == "never saved"

    def test_before_the_first_commit_the_files_come_over_the_target(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        git(path, "checkout", "--quiet", "--orphan", "alone")
        (path / "half.txt").write_text("half\n")
        first.save()
        assert (second.prepare(2).path / "half.txt").exists()


class TestAnotherPolecat:
    def test_a_reassigned_job_goes_on_from_what_its_last_polecat_had_parked(self, first: Host) -> None:
        head = half_done(first.prepare(1).path)
        first.park(1)
        made = first.prepare(2, "nux")
        assert git(made.path, "rev-parse", "HEAD") == head
        assert git(made.path, "status", "--porcelain").splitlines() == AS_IT_WAS

    def test_commits_alone_are_gone_on_from_as_they_are(self, first: Host) -> None:
        head = commit(first.prepare(1).path, "done.txt")
        first.park(1)
        made = first.prepare(2, "nux")
        assert (made.head_sha, made.restored) == (head, None)

    def test_what_an_earlier_job_of_the_bead_has_parked_is_left_alone(self, first: Host) -> None:
        (first.prepare(1).path / "half.txt").write_text("half\n")
        first.park(1)
        made = first.prepare(2, "nux", first=2)
        assert made.restored is None
        assert not (made.path / "half.txt").exists()

    def test_of_one_attempt_what_was_parked_is_later_than_what_was_saved(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        (path / "half.txt").write_text("saved\n")
        first.save()
        wip = git(first.paths.clone("shop"), "rev-parse", "refs/gastown/wip/sh-1/1")
        (path / "half.txt").write_text("parked\n")
        first.park(1)
        git(first.paths.clone("shop"), "push", "--quiet", first.rig.url, f"{wip}:refs/gastown/wip/sh-1/1")
        assert (second.prepare(2).path / "half.txt").read_text() == "parked\n"


class TestWhichIsNewer:
    def test_work_that_was_handed_in_after_the_save(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        (path / "half.txt").write_text("half\n")
        first.save()
        head = commit(path, "half.txt", "whole\n")
        first.worktrees.publish(first.rig, "toast", "sh-1")
        made = second.prepare(2)
        assert (made.head_sha, made.restored) == (head, None)
        assert (made.path / "half.txt").read_text() == "whole\n"

    def test_work_that_was_saved_after_it_was_handed_in(self, first: Host, second: Host) -> None:
        path = first.prepare(1).path
        head = commit(path, "done.txt")
        first.worktrees.publish(first.rig, "toast", "sh-1")
        (path / "repair.txt").write_text("repair\n")
        first.save()
        made = second.prepare(2)
        assert made.head_sha == head
        assert git(made.path, "status", "--porcelain") == "?? repair.txt"

    def test_of_two_that_parted_the_later_one_and_the_other_is_kept(
        self, first: Host, second: Host, workshop: Workshop
    ) -> None:
        published = workshop.change("sh-1", {"other.txt": "x"}).head_sha
        path = first.prepare(1).path
        git(path, "reset", "--quiet", "--hard", "origin/main")
        commit(path, "mine.txt")
        (path / "half.txt").write_text("half\n")
        first.save()
        made = second.prepare(2)
        assert (made.path / "half.txt").exists()
        assert (made.path / "mine.txt").exists()
        clone = second.paths.clone("shop")
        assert git(clone, "rev-parse", f"refs/gastown/kept/sh-1/{published}") == published

    def test_a_save_on_this_host_alone_counts_too(self, first: Host) -> None:
        half_done(first.prepare(1).path)
        first.save(remote=False)
        made = first.prepare(2, "nux")
        assert git(made.path, "status", "--porcelain").splitlines() == AS_IT_WAS

    def test_the_same_worktree_goes_on_with_its_own_files(self, first: Host) -> None:
        path = first.prepare(1).path
        (path / "half.txt").write_text("half\n")
        first.save()
        (path / "half.txt").write_text("further\n")
        made = first.prepare(2)
        assert (made.resumed, made.restored) == (True, None)
        assert (path / "half.txt").read_text() == "further\n"


class TestNumbers:
    @pytest.mark.parametrize("highest", [1, 7])
    def test_a_number_that_saved_work_has_is_not_used_again(self, first: Host, second: Host, highest: int) -> None:
        (first.prepare(highest).path / "half.txt").write_text("half\n")
        first.save()
        with pytest.raises(AttemptUsed) as used:
            second.prepare(1)
        assert used.value.highest == highest
        assert (second.prepare(highest + 1).path / "half.txt").exists()

    def test_a_number_under_which_work_is_parked_is_not_used_again(self, first: Host, second: Host) -> None:
        (first.prepare(4).path / "half.txt").write_text("half\n")
        first.park(4)
        with pytest.raises(AttemptUsed) as used:
            second.prepare(4)
        assert used.value.highest == 4
