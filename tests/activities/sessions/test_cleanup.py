"""Cleaning up after polecats: evidence, then the work is safe, and only then is anything ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.crash_points import NUDGE_POINTS
from activities.host_checks import HostCheckActivities
from activities.sessions import process_tree
from activities.sessions.nudging import NudgeActivities
from models.errors import ErrorCode, GtError
from models.supervision.host_requests import Nudge
from models.upkeep.cleanup import AttemptRef, InspectPolecats
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.workshop import Workshop, git
from tests.pace import DEADLINE_S

PARKED = "refs/gastown/parked/sh-1/1"


def worktree(desk: Desk, polecat: str = "toast") -> Path:
    return desk.paths.worktree("shop", polecat)


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
        assert not worktree(desk).exists()

    def test_what_must_not_leave_the_host_is_kept_and_told_again_when_asked_again(self, desk: Desk) -> None:
        desk.start("echo TOKEN=x > .env; echo set; exec sleep 600")
        desk.shown("set")
        kept = desk.paths.salvaged("shop", "toast", "sh-1", 1)
        assert desk.clean_up().kept_folder == str(kept)
        assert (kept / ".env").read_text() == "TOKEN=x\n"
        assert desk.clean_up().kept_folder == str(kept)

    def test_what_the_agent_destroys_as_it_ends_was_parked_before(self, desk: Desk, workshop: Workshop) -> None:
        desk.start("echo half > half.txt; trap 'rm half.txt; exit' TERM; echo set; while :; do sleep 0.1; done")
        desk.shown("set")
        assert desk.clean_up().parked_ref == PARKED
        assert "half.txt" in git(workshop.remote, "log", "--format=", "--name-only", "-m", PARKED)

    def test_what_the_agent_writes_as_it_ends_is_parked_too(
        self, desk: Desk, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process_tree, "TERM_GRACE_S", DEADLINE_S)
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
        assert not worktree(desk).exists()

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


class TestLooking:
    def test_it_tells_of_sessions_open_attempts_and_worktrees(self, desk: Desk) -> None:
        desk.start()
        desk.start(bead="sh-2", polecat="nux", attempt=3)
        desk.end(3, "sh-2", "nux")
        looked = desk.cleanup.inspect_polecats(InspectPolecats(rig="shop", host="h1")).polecats
        toast, nux = sorted(looked, key=lambda one: one.polecat, reverse=True)
        mine = AttemptRef(bead="sh-1", attempt=1)
        assert (toast.session, toast.session_lives, toast.attempts, toast.worktree) == (mine, True, (mine,), mine)
        assert (nux.session, nux.attempts, nux.worktree) == (None, (), AttemptRef(bead="sh-2", attempt=3))

    def test_a_clean_polecat_and_other_rigs_are_not_told_of(self, desk: Desk) -> None:
        desk.start()
        desk.clean_up()
        for name in ("market--toast", "alien", "shop--nux"):
            desk.tmux.new_session(name, Path("/tmp"), desk.environment, ["sh", "-c", IDLE], bead="", attempt=0)
        (nux,) = desk.cleanup.inspect_polecats(InspectPolecats(rig="shop", host="h1")).polecats
        assert (nux.polecat, nux.session) == ("nux", AttemptRef(bead="", attempt=0))

    async def test_a_host_tells_of_which_rigs_there_are_sessions_or_attempts_that_nobody_ended(
        self, desk: Desk
    ) -> None:
        desk.paths.root.mkdir(parents=True, exist_ok=True)

        async def rigs() -> tuple[str, ...]:
            signs = await ActivityEnvironment().run(HostCheckActivities("h1", desk.paths, desk.tmux).look_at_host)
            return signs.rigs

        desk.tmux.new_session("alien", Path("/tmp"), desk.environment, ["sh", "-c", IDLE], bead="", attempt=0)
        assert await rigs() == ()
        desk.start()
        assert await rigs() == ("shop",)
        desk.tmux.kill_session("shop--toast")
        assert await rigs() == ("shop",), "its attempt is open"
        desk.end()
        assert await rigs() == ()
        desk.tmux.new_session("market--nux", Path("/tmp"), desk.environment, ["sh", "-c", IDLE], bead="ma-1", attempt=2)
        assert await rigs() == ("market",), "of an attempt that is over, or was never here"


class TestNudging:
    def test_the_agent_reads_the_text_as_if_it_were_typed(self, desk: Desk) -> None:
        desk.start('echo ready; read line; echo "heard: $line"; exec sleep 600')
        desk.shown("ready")
        NudgeActivities(desk.tmux).nudge(Nudge(rig="shop", polecat="toast", text="go on; $(touch pwned) `id` \x1b[31m"))
        shown = desk.shown("heard: go on; $(touch pwned) `id`")
        assert "uid=" not in shown
        assert not (worktree(desk) / "pwned").exists()

    @pytest.mark.parametrize("point", NUDGE_POINTS)
    def test_a_sender_killed_before_it_could_say_so_types_nothing_twice(self, desk: Desk, point: str) -> None:
        desk.start('echo ready; while read line; do echo "heard: $line"; done')
        desk.shown("ready")
        nudge = Nudge(rig="shop", polecat="toast", text="go on", letter="errand/1")
        desk.killed_at(point, "nudge", nudge)
        for request in (nudge, nudge, nudge.model_copy(update={"letter": "errand/2", "text": "and on"})):
            NudgeActivities(desk.tmux).nudge(request)
        shown = desk.shown("heard: and on")
        assert [line for line in shown.splitlines() if line.startswith("heard:")] == ["heard: go on", "heard: and on"]

    def test_without_a_living_session_it_is_refused(self, desk: Desk) -> None:
        desk.start("exit 3")
        eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
        for polecat in ("toast", "nux"):
            with pytest.raises(GtError) as refused:
                NudgeActivities(desk.tmux).nudge(Nudge(rig="shop", polecat=polecat, text="go on"))
            assert refused.value.code is ErrorCode.REFUSED

    def test_nothing_and_too_much_are_no_nudge(self, desk: Desk) -> None:
        for text in ("", " \n", "\x1b", "x" * 10_001):
            with pytest.raises(GtError) as refused:
                NudgeActivities(desk.tmux).nudge(Nudge(rig="shop", polecat="toast", text=text))
            assert refused.value.code is ErrorCode.INVALID_VALUE
