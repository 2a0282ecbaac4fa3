"""Cleaning up after polecats: evidence, then the work is safe, and only then is anything ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ErrorCode, GtError
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.workshop import Workshop, git

PARKED = "refs/gastown/parked/sh-1/1"


def worktree(desk: Desk, polecat: str = "toast") -> Path:
    return desk.paths.worktree("shop", polecat)


def free(desk: Desk, polecat: str = "toast") -> bool:
    return git(worktree(desk, polecat), "status", "--porcelain", "--branch").splitlines() == ["## HEAD (no branch)"]


class TestALivingSession:
    def test_its_work_is_on_the_remote_and_its_last_words_are_kept(self, desk: Desk, workshop: Workshop) -> None:
        desk.start("echo half > half.txt; echo edited >> till.py; echo last words; exec sleep 600")
        desk.shown("last words")
        done = desk.clean_up()
        assert (done.parked_ref, done.session_ended, done.worktree_freed, done.kept_reason) == (PARKED, True, True, "")
        assert git(workshop.remote, "show", f"{PARKED}:half.txt") == "half"
        assert done.evidence_path == str(desk.paths.evidence / "sh-1" / "1")
        evidence = desk.evidence()
        assert "last words" in evidence["pane.txt"]
        assert "?? half.txt" in evidence["git-status.txt"]
        assert "till.py" in evidence["diff-stat.txt"]
        assert "1 insertion" in evidence["diff-stat.txt"]
        assert desk.pane() is None
        assert free(desk)

    def test_what_the_agent_destroys_as_it_ends_was_parked_before(self, desk: Desk, workshop: Workshop) -> None:
        desk.start("echo half > half.txt; trap 'rm half.txt; exit' TERM; echo set; while :; do sleep 0.1; done")
        desk.shown("set")
        assert desk.clean_up().parked_ref == PARKED
        assert "half.txt" in git(workshop.remote, "log", "--format=", "--name-only", "-m", PARKED)

    def test_what_the_agent_writes_as_it_ends_is_parked_too(self, desk: Desk, workshop: Workshop) -> None:
        desk.start("trap 'echo late > late.txt; exit' TERM; echo set; while :; do sleep 0.1; done")
        desk.shown("set")
        assert desk.clean_up().parked_ref == PARKED
        assert git(workshop.remote, "show", f"{PARKED}:late.txt") == "late"

    def test_asked_again_it_answers_the_same_and_changes_nothing(self, desk: Desk, workshop: Workshop) -> None:
        desk.start("echo half > half.txt; echo set; exec sleep 600")
        desk.shown("set")
        desk.clean_up()
        before = workshop.at_remote(PARKED)
        again = desk.clean_up()
        assert (again.parked_ref, again.session_ended, again.worktree_freed) == (PARKED, False, True)
        assert workshop.at_remote(PARKED) == before


class TestWhatIsNotItsOwn:
    def test_a_newer_attempt_keeps_session_and_worktree(self, desk: Desk) -> None:
        desk.start(attempt=1)
        desk.start("echo half > half.txt; echo set; exec sleep 600", attempt=2)
        desk.shown("set")
        done = desk.clean_up(attempt=1)
        assert (done.session_ended, done.worktree_freed) == (False, False)
        assert "attempt 2" in done.kept_reason
        pane = desk.pane()
        assert pane is not None
        assert pane.alive
        assert (worktree(desk) / "half.txt").exists()

    def test_another_beads_session_and_worktree_are_left_alone(self, desk: Desk) -> None:
        desk.start(attempt=1)
        desk.start("echo other > other.txt; echo set; exec sleep 600", bead="sh-2")
        desk.shown("set")
        done = desk.clean_up(bead="sh-1", attempt=1)
        assert (done.session_ended, done.worktree_freed) == (False, True)
        pane = desk.pane()
        assert pane is not None
        assert pane.alive
        assert (worktree(desk) / "other.txt").exists()

    def test_by_force_everything_of_the_polecat_goes_and_all_of_it_is_saved(
        self, desk: Desk, workshop: Workshop
    ) -> None:
        desk.start(attempt=1)
        desk.start("echo other > other.txt; echo set; exec sleep 600", bead="sh-2", attempt=4)
        desk.shown("set")
        done = desk.clean_up(bead="", attempt=0, force=True)
        assert done.parked_ref == "refs/gastown/parked/sh-2/4"
        assert git(workshop.remote, "show", f"{done.parked_ref}:other.txt") == "other"
        assert desk.pane() is None
        assert free(desk)

    def test_by_force_a_session_that_nobody_knows_goes_too_and_its_text_is_kept(self, desk: Desk) -> None:
        desk.tmux.new_session(
            "shop--toast", desk.paths.root.parent, desk.environment, ["sh", "-c", f"echo who am I; {IDLE}"],
            bead="", attempt=0,
        )  # fmt: skip
        desk.shown("who am I")
        assert desk.clean_up(bead="", attempt=0, force=True).session_ended
        assert desk.pane() is None
        kept = list((desk.paths.evidence / "shop--toast").iterdir())
        assert "who am I" in kept[0].read_text()

    def test_without_a_bead_and_without_force_nothing_is_guessed(self, desk: Desk) -> None:
        with pytest.raises(GtError) as caught:
            desk.clean_up(bead="", attempt=0)
        assert caught.value.code is ErrorCode.INVALID_VALUE

    def test_a_polecat_that_has_nothing_is_clean_already(self, desk: Desk) -> None:
        done = desk.clean_up(polecat="nux")
        assert (done.evidence_path, done.parked_ref, done.session_ended, done.worktree_freed) == (
            None, None, False, True,
        )  # fmt: skip


class TestTheRemoteIsAway:
    def test_the_session_ends_the_worktree_stays_and_a_retry_finishes(
        self, desk: Desk, remote: Path, workshop: Workshop
    ) -> None:
        desk.start("echo half > half.txt; echo set; exec sleep 600")
        desk.shown("set")
        remote.rename(remote.with_name("away"))
        kept = desk.clean_up()
        assert (kept.session_ended, kept.worktree_freed, kept.parked_ref) == (True, False, None)
        assert "could not be parked" in kept.kept_reason
        assert (worktree(desk) / "half.txt").exists()
        eventually(lambda: desk.pane() is None)
        remote.with_name("away").rename(remote)
        done = desk.clean_up()
        assert (done.parked_ref, done.worktree_freed, done.kept_reason) == (PARKED, True, "")
        assert git(workshop.remote, "show", f"{PARKED}:half.txt") == "half"
