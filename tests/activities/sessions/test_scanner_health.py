"""Silence, standstill and recovery, seen with real tmux; the scanner's clock is the test's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from agents import session_folder
from models.job.health import HealthKind, Thresholds
from models.job.messages import ObservationKind
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.sessions.lookout import LIMITS, Lookout
from tests.activities.sessions.test_scanner_death import BEATS
from tests.activities.workshop import git

SPINS = "while :; do for c in '|' / - '\\\\'; do printf '\\r%s thinking' \"$c\"; sleep 0.05; done; done"


@pytest.fixture
def lookout(desk: Desk) -> Lookout:
    return Lookout(desk)


def beat(desk: Desk) -> None:
    """A beat, as `gt heartbeat` leaves it."""
    path = desk.folder() / session_folder.HEARTBEAT
    path.touch()
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def beating(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    beat(desk)
    lookout.look()


# --- heartbeats -------------------------------------------------------------------------------------------------


@pytest.mark.document("3: 检查心跳")
def test_a_stopped_agent_is_stale_then_unresponsive_and_each_is_said_once(desk: Desk, lookout: Lookout) -> None:
    desk.start(f"({BEATS}); true")
    eventually((desk.folder() / session_folder.HEARTBEAT).exists)
    lookout.watch(5)
    assert lookout.verdict() is HealthKind.HEALTHY
    # tmux continues the first process of a pane by itself; an agent is often below it.
    agent = psutil.Process(eventually(desk.pane).pane_pid).children()[0]
    agent.send_signal(signal.SIGSTOP)
    eventually(lambda: agent.status() == psutil.STATUS_STOPPED)
    beat(desk)  # its last, in this very look
    lookout.look()
    reports = lookout.watch(60)
    kinds = [report.health["sh-1"].diagnosis.kind for report in reports]
    stale, lost = kinds.index(HealthKind.STALE), kinds.index(HealthKind.UNRESPONSIVE)
    assert set(kinds[:stale]) == {HealthKind.HEALTHY}
    assert set(kinds[stale:lost]) == {HealthKind.STALE}
    assert set(kinds[lost:]) == {HealthKind.UNRESPONSIVE}
    assert 29 <= stale <= 32
    assert 9 <= lost - stale <= 12, "the grace"
    said = {one.kind: one for report in reports for one in report.observations}
    assert set(said) == {ObservationKind.STALE, ObservationKind.UNRESPONSIVE}
    assert all(report.observations == (said[ObservationKind.UNRESPONSIVE],) for report in reports[lost:])
    assert "no heartbeat for" in said[ObservationKind.STALE].detail


def test_an_agent_that_beats_again_within_the_grace_has_recovered(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(32)
    stale = lookout.only()
    assert stale.kind is ObservationKind.STALE
    beat(desk)
    lookout.look()
    assert lookout.verdict() is HealthKind.RECOVERED
    recovered = lookout.only()
    assert (recovered.kind, recovered.episode) == (ObservationKind.RECOVERED, stale.episode)
    lookout.look()
    assert lookout.verdict() is HealthKind.HEALTHY
    assert lookout.only() == recovered, "it stands until it was passed on"
    lookout.look(known=lookout.keys())
    assert lookout.said() == []


def test_a_verdict_that_comes_again_is_told_again(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(32)
    first = lookout.keys()
    beat(desk)
    lookout.look()
    lookout.look(known=lookout.keys())
    beat(desk)
    lookout.watch(32)
    assert lookout.only().kind is ObservationKind.STALE
    assert not set(lookout.keys()) & set(first)


def test_an_agent_that_never_beat_is_not_held_to_a_heartbeat(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.watch(90)
    assert (lookout.said(), lookout.health().sighting.heartbeat_age_s) == ([], None)


def test_an_agent_that_declares_a_heartbeat_and_never_beats_is_stale(desk: Desk, lookout: Lookout) -> None:
    desk.start(f"GT_HEARTBEAT=1 sh -c '{IDLE}'")
    lookout.watch(32)
    assert lookout.only().kind is ObservationKind.STALE


def test_the_limits_are_those_of_the_last_order(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(10)
    strict = LIMITS.model_copy(update={"polecat_timeout_s": 5.0})
    lookout.look(thresholds=strict)
    assert lookout.only().kind is ObservationKind.STALE
    assert lookout.last.thresholds == strict


@pytest.mark.document("2: 会话超时")
def test_a_session_that_lasts_too_long_is_unresponsive(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.orders["thresholds"] = Thresholds(
        polecat_timeout_s=30, grace_s=10, stuck_timeout_s=100, session_timeout_s=20
    )
    lookout.watch(25)
    assert lookout.health().diagnosis.rule == "session_timeout"
    assert lookout.only().kind is ObservationKind.UNRESPONSIVE


# --- progress ---------------------------------------------------------------------------------------------------


@pytest.mark.document("3: 检查工作进度")
def test_a_spinner_is_no_progress(desk: Desk, lookout: Lookout) -> None:
    desk.start(SPINS)
    desk.shown("thinking")
    lookout.look()
    lookout.watch(90)
    # tmux tells the time of output in whole seconds, and ninety looks may take less than one.
    before = eventually(desk.pane).activity_at
    eventually(lambda: eventually(desk.pane).activity_at > before)
    while not lookout.said() and lookout.now < 1200:
        lookout.look()
    seen = lookout.only()
    assert seen.kind is ObservationKind.STUCK
    assert seen.detail.startswith("no progress for 10")
    assert "it still writes to its pane" in seen.detail
    assert "thinking" in seen.detail.splitlines()[-1]
    assert lookout.health().diagnosis.rule == "no_progress"


def test_an_agent_at_a_prompt_waits_for_input(desk: Desk, lookout: Lookout) -> None:
    desk.start("printf 'Remove the build folder? [y/N] '; read answer; exec sleep 600")
    desk.shown("[y/N]")
    lookout.watch(25)
    assert lookout.health().sighting.tail == "", "it is read only where it matters"
    lookout.watch(15)
    assert (lookout.verdict(), lookout.health().diagnosis.rule) == (HealthKind.WAITING_FOR_INPUT, "prompt_yes_no")
    seen = lookout.only()
    assert (seen.kind, seen.detail.splitlines()[-1]) == (ObservationKind.STUCK, "Remove the build folder? [y/N]")


def test_an_agent_that_goes_on_after_a_standstill_has_recovered(desk: Desk, lookout: Lookout) -> None:
    worktree = Path(desk.start(IDLE).worktree)
    lookout.watch(105)
    stuck = lookout.only()
    (worktree / "new.py").write_text("1\n")
    lookout.look()
    assert (lookout.only().kind, lookout.only().episode) == (ObservationKind.RECOVERED, stuck.episode)


def test_edits_deep_in_the_tree_are_progress(desk: Desk, lookout: Lookout) -> None:
    worktree = Path(desk.start(IDLE).worktree)
    deep = worktree / "src" / "till" / "parts"
    deep.mkdir(parents=True)
    (deep / "drawer.py").write_text("0\n")
    git(worktree, "add", "--all")
    git(worktree, "commit", "--quiet", "-m", "Parts")
    lookout.watch(20)
    for number in range(4):
        (deep / "drawer.py").write_text(f"{'x' * number}\n")
        assert all(not report.observations for report in lookout.watch(80)), "320 s, each 80 s one edit"
    lookout.watch(115)
    assert lookout.only().kind is ObservationKind.STUCK


# --- nobody is accused of what nobody watched -------------------------------------------------------------------


def test_time_that_nobody_watched_does_not_count(desk: Desk, lookout: Lookout) -> None:
    """The worker was frozen, or the laptop slept, for longer than every limit."""
    beating(desk, lookout)
    lookout.watch(20)
    for _ in range(5):
        lookout.after(1000)
        assert lookout.said() == []
    assert (lookout.health().sighting.heartbeat_age_s or 0.0) <= 26


def test_a_fresh_scanner_that_is_told_nothing_accuses_nobody(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(25)
    lookout.relieve()
    lookout.watch(25)
    assert lookout.said() == []


def test_a_fresh_scanner_goes_on_counting_from_the_last_report(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(25)
    lookout.relieve()
    lookout.after(500, carried=lookout.last.health)
    assert lookout.said() == []
    assert lookout.health().sighting.heartbeat_age_s == pytest.approx(25, abs=1)
    assert lookout.health().sighting.progress_age_s == pytest.approx(25, abs=1)
    lookout.watch(7)
    assert lookout.only().kind is ObservationKind.STALE


def test_an_accusation_outlives_the_scanner_under_the_same_key(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(32)
    stale = lookout.keys()
    lookout.relieve()
    lookout.look(carried=lookout.last.health)
    assert lookout.keys() == stale
    lookout.watch(8)
    assert lookout.only().kind is ObservationKind.STALE, "its grace goes on too"
    lookout.watch(4)
    assert lookout.only().kind is ObservationKind.UNRESPONSIVE


def test_a_recovery_while_no_scanner_ran_is_told(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(32)
    stale = lookout.only()
    lookout.relieve()
    beat(desk)
    lookout.look(carried=lookout.last.health)
    assert (lookout.only().kind, lookout.only().episode) == (ObservationKind.RECOVERED, stale.episode)


def test_edits_while_no_scanner_ran_are_progress(desk: Desk, lookout: Lookout) -> None:
    worktree = Path(desk.start(IDLE).worktree)
    lookout.watch(90)
    lookout.relieve()
    (worktree / "till.py").write_text("edited\n")
    os.utime(worktree, ns=(0, worktree.stat().st_mtime_ns))
    lookout.look(carried=lookout.last.health)
    lookout.watch(20)
    assert lookout.said() == []


def test_a_report_of_an_older_attempt_says_nothing_of_this_one(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(32)
    carried = lookout.last.health
    desk.start(IDLE, attempt=2)
    lookout.relieve()
    lookout.look(carried=carried)
    assert lookout.verdict() is HealthKind.HEALTHY


def test_a_clock_that_is_set_forward_accuses_nobody(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating(desk, lookout)
    lookout.watch(5)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    path = desk.folder() / session_folder.HEARTBEAT
    os.utime(path, (now() + 3600, now() + 3600))
    lookout.watch(10)
    os.utime(path, (now() - 3600, now() - 3600))
    lookout.watch(20)
    assert (lookout.said(), lookout.verdict()) == ([], HealthKind.HEALTHY)


def test_a_rig_that_nobody_asked_about_for_long_starts_afresh(desk: Desk, lookout: Lookout) -> None:
    beating(desk, lookout)
    lookout.watch(25)
    lookout.orders["rig"] = "bank"
    lookout.watch(90)
    lookout.orders["rig"] = "shop"
    lookout.watch(10)
    assert lookout.said() == []


# --- what is over -----------------------------------------------------------------------------------------------


def test_an_attempt_that_a_newer_one_has_overtaken_is_a_zombie_and_its_job_hears_nothing_of_it(
    desk: Desk, lookout: Lookout
) -> None:
    desk.start("true; gt escalate 'still here'; exec sleep 600")
    eventually(lambda: list((desk.folder() / session_folder.HELP).iterdir()))
    desk.start(IDLE, attempt=2, polecat="nux")
    lookout.watch(8)
    assert lookout.said() == []
    (zombie,) = lookout.last.zombies
    assert (zombie.polecat, zombie.bead, zombie.attempt, zombie.session_lives) == ("toast", "sh-1", 1, True)
    assert zombie.age_s >= 5
    assert (lookout.health().polecat, lookout.verdict()) == ("nux", HealthKind.HEALTHY), "of the newest attempt"


def test_an_attempt_that_the_witness_knows_to_be_over_is_a_zombie(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    desk.start(IDLE, bead="sh-2", polecat="nux", attempt=3)
    lookout.orders["superseded"] = {"sh-1": 1, "sh-2": 2}
    lookout.watch(8)
    assert [zombie.bead for zombie in lookout.last.zombies] == ["sh-1"]
    assert lookout.verdict() is HealthKind.ZOMBIE
    assert lookout.verdict("sh-2") is HealthKind.HEALTHY


def test_a_dead_session_of_an_attempt_that_is_over_is_a_zombie_too(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    desk.tmux.kill_session("shop--toast")
    lookout.orders["superseded"] = {"sh-1": 1}
    lookout.watch(8)
    assert [zombie.session_lives for zombie in lookout.last.zombies] == [False]
    assert lookout.said() == []


def test_a_session_whose_attempt_was_ended_and_that_still_runs_is_a_zombie(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    (desk.folder() / session_folder.ENDED).write_text("by a test\n")
    lookout.watch(3)
    assert not lookout.last.zombies, "an end takes a moment"
    lookout.watch(5)
    (zombie,) = lookout.last.zombies
    assert (zombie.bead, zombie.reason, zombie.session_lives) == ("sh-1", "its attempt was ended", True)
    desk.tmux.kill_session("shop--toast")
    lookout.look()
    assert lookout.last.zombies == ()


def test_a_session_that_was_not_started_for_a_job_is_nobodys_business(desk: Desk, lookout: Lookout) -> None:
    desk.tmux.new_session("shop--own", desk.paths.root.parent, desk.environment, ["sleep", "600"], bead="", attempt=0)
    lookout.watch(10)
    assert lookout.last.zombies == ()
