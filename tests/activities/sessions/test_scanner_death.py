"""Deaths, seen with real tmux: how the scanner tells them from starts, ends and finished work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

import psutil
import pytest

from activities.sessions import scanner
from activities.sessions.process_tree import prompt_reaping
from activities.sessions.scanner import SETTLE_S
from activities.sessions.tmux import PaneFacts
from agents import session_folder
from models.job.health import HealthKind
from models.job.messages import DoneStatus, Observation, ObservationKind
from tests.activities.sessions.desk import IDLE, WORKS, Desk, eventually
from tests.activities.sessions.lookout import Lookout
from tests.pace import DEADLINE_S

BEATS = 'while :; do touch "${GT_TASK_FILE%/*}/heartbeat"; sleep 0.1; done'


@pytest.fixture
def lookout(desk: Desk) -> Lookout:
    return Lookout(desk)


def death(lookout: Lookout, bead: str = "sh-1") -> Observation:
    """The death of `bead`'s agent, once a look shows it."""

    def told() -> Observation | None:
        lookout.look()
        return next((one for one in lookout.said() if one.bead == bead), None)

    seen: Observation = eventually(told)
    assert seen.kind is ObservationKind.DIED
    return seen


def end_server(desk: Desk) -> None:
    argv = ["tmux", "-L", desk.tmux.socket, "display-message", "-p", "#{pid}"]
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_an_agent_that_lives_is_healthy(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.look()
    assert lookout.said() == []
    assert lookout.last.living == ("sh-1",)
    assert lookout.verdict() is HealthKind.HEALTHY
    assert lookout.last.progress_age_s == {"sh-1": 0.0}
    assert lookout.last.heartbeat_age_s == {}, "it has never beaten"


def test_a_killed_agent_is_dead_at_the_next_look_however_fresh_its_heartbeat_is(desk: Desk, lookout: Lookout) -> None:
    desk.start(f"echo last words; {BEATS}")
    desk.shown("last words")
    lookout.look()
    os.kill(eventually(desk.pane).pane_pid, signal.SIGKILL)
    seen = death(lookout)
    assert (seen.exit_code, seen.shared_cause) == (137, False)
    assert seen.detail == "killed by signal 9\nlast words"
    assert lookout.health().sighting.heartbeat_age_s is not None
    assert (lookout.verdict(), lookout.health().diagnosis.rule) == (HealthKind.UNRESPONSIVE, "pane_dead")
    assert lookout.last.living == ()


def say_and_end(desk: Desk, words: str, code: int) -> None:
    """An agent that ends once tmux shows its words: a kernel may drop what a terminal got just before it hung up."""
    desk.start(f'echo {words}; until [ -e "$GT_TOWN/go" ]; do sleep 0.05; done; exit {code}')
    desk.shown(words)
    (desk.paths.root / "go").touch()


def test_an_agent_that_fails_is_dead_with_its_exit_code(desk: Desk, lookout: Lookout) -> None:
    say_and_end(desk, "no key", 3)
    seen = death(lookout)
    assert (seen.exit_code, seen.detail) == (3, "exit code 3\nno key")


def test_exit_0_without_gt_done_is_told_as_such(desk: Desk, lookout: Lookout) -> None:
    say_and_end(desk, "all done", 0)
    seen = death(lookout)
    assert (seen.exit_code, seen.detail) == (0, "exit code 0\nall done")
    assert lookout.verdict() is HealthKind.FINISHED_WITHOUT_DONE


def test_a_pane_that_died_before_tmux_knows_how_is_looked_at_again(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its terminal is closed first, the process ends a moment later: an exit 0 must not pass for a kill."""
    monkeypatch.setattr(scanner, "HOLD_S", DEADLINE_S)
    closes = 'trap "" HUP; echo last words; until [ -e "$GT_TOWN/close" ]; do sleep 0.05; done; exec <&- >&- 2>&-'
    desk.start(f'{closes}; until [ -e "$GT_TOWN/go" ]; do sleep 0.05; done; exit 0')
    desk.shown("last words")
    (desk.paths.root / "close").touch()
    eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
    lookout.look()
    assert lookout.said() == []
    (desk.paths.root / "go").touch()
    seen = death(lookout)
    assert (seen.exit_code, seen.detail) == (0, "exit code 0\nlast words")
    assert lookout.verdict() is HealthKind.FINISHED_WITHOUT_DONE


def test_a_death_that_a_busy_tmux_has_not_taken_notice_of_is_left_to_a_later_look(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start("echo all done; exec sleep 600")
    desk.shown("all done")
    agent = eventually(desk.pane).pane_pid
    os.kill(agent, signal.SIGTERM)

    def reaped() -> bool:
        prompt_reaping(agent)
        pane = desk.pane()
        return pane is not None and pane.exit_code == 143

    eventually(reaped)
    listed = desk.tmux.panes()
    unnoticed = {name: replace(pane, dead_status=None, dead_signal=None) for name, pane in listed.items()}
    with monkeypatch.context() as busy:
        busy.setattr(desk.tmux, "panes", lambda: unnoticed)
        busy.setattr(scanner, "prompt_reaping", lambda _: True)
        for _ in range(5):
            lookout.look()
            assert (lookout.said(), lookout.last.living) == ([], ("sh-1",))
    seen = death(lookout)
    assert (seen.exit_code, seen.detail) == (143, "killed by signal 15\nall done")


def test_last_words_that_a_busy_tmux_shows_late_are_told(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_and_end(desk, "no key", 3)
    asked: list[float] = []
    capture = desk.tmux.capture

    def late(name: str, lines: int) -> str:
        asked.append(time.monotonic())
        return capture(name, lines) if asked[-1] - asked[0] > 2 * SETTLE_S else ""

    monkeypatch.setattr(desk.tmux, "capture", late)
    assert death(lookout).detail == "exit code 3\nno key"


def test_agents_that_end_right_after_their_start_are_told_with_their_exit_codes(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tmux alone misses one in twenty of them."""
    monkeypatch.setattr(scanner, "UNREAPED_S", DEADLINE_S)
    for number in range(20):
        desk.start("echo all done", bead=f"sh-{number}", polecat=f"toast{number}")

    def all_told() -> bool:
        lookout.look()
        return len(lookout.said()) == 20

    eventually(all_told)
    assert {one.exit_code for one in lookout.said()} == {0}
    # Of a pane that tmux calls dead it may not have read all that was written.
    assert {one.detail for one in lookout.said()} <= {"exit code 0", "exit code 0\nall done"}


def test_an_agent_that_leaves_its_terminal_for_good_is_dead_and_holds_up_no_further_look(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start("trap '' HUP; echo bye; exec <&- >&- 2>&-; exec sleep 600")
    seen = death(lookout)
    assert (seen.exit_code, seen.detail) == (None, "ended\nbye")
    captured: list[str] = []
    capture = desk.tmux.capture

    def noted(name: str, lines: int) -> str:
        captured.append(name)
        return capture(name, lines)

    monkeypatch.setattr(desk.tmux, "capture", noted)
    lookout.watch(10)
    assert captured == [], "tmux was given its time once"


def test_a_killed_session_is_dead(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    desk.start(IDLE, bead="sh-2", polecat="nux")
    desk.tmux.kill_session("shop--toast")
    seen = death(lookout)
    assert (seen.detail, seen.exit_code, seen.shared_cause) == ("its tmux session is gone", None, False)
    assert lookout.verdict("sh-2") is HealthKind.HEALTHY


def test_a_dead_server_with_ten_sessions_is_ten_deaths_of_one_cause_in_one_look(desk: Desk, lookout: Lookout) -> None:
    for number in range(10):
        desk.start(IDLE, bead=f"sh-{number}", polecat=f"toast{number}")
    lookout.look()
    assert len(lookout.last.living) == 10
    end_server(desk)
    lookout.look()
    assert {one.bead for one in lookout.said()} == {f"sh-{number}" for number in range(10)}
    assert {(one.kind, one.shared_cause, one.detail) for one in lookout.said()} == {
        (ObservationKind.DIED, True, "the tmux server is gone")
    }


def test_work_that_was_handed_in_comes_before_the_death_that_follows_it(desk: Desk, lookout: Lookout) -> None:
    desk.start(WORKS.replace("exec sleep 600", "exit 1"))
    eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
    lookout.look()
    seen = lookout.only()
    assert (seen.kind, seen.done_status) == (ObservationKind.DONE, DoneStatus.COMPLETED)
    assert seen.head_sha
    assert lookout.health().diagnosis.rule == "done_told"


def test_a_request_for_help_is_told_with_its_words(desk: Desk, lookout: Lookout) -> None:
    desk.start('true; gt escalate "which till?" --severity low; exec sleep 600')
    eventually(lambda: list((desk.folder() / session_folder.HELP).glob("[!.]*.json")))
    lookout.look()
    seen = lookout.only()
    assert (seen.kind, seen.detail) == (ObservationKind.HELP, "low: which till?")
    assert seen.intent.startswith("help/")


def test_a_start_that_is_under_way_is_no_death(desk: Desk, lookout: Lookout) -> None:
    request = desk.request(IDLE)
    desk.killed_at("attempt.folder_written", "start_attempt", request)
    lookout.look()
    assert (lookout.said(), lookout.health().diagnosis.rule) == ([], "not_started")
    desk.killed_at("attempt.session_started", "start_attempt", request)
    lookout.look()
    assert lookout.said() == []


def test_a_start_that_is_finished_while_the_panes_are_listed_is_no_death(
    desk: Desk, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = desk.request(IDLE)
    desk.killed_at("attempt.folder_written", "start_attempt", request)
    listed = desk.tmux.panes

    def listed_before_the_start() -> dict[str, PaneFacts]:
        panes = listed()
        monkeypatch.setattr(desk.tmux, "panes", listed)
        desk.start(IDLE)
        return panes

    monkeypatch.setattr(desk.tmux, "panes", listed_before_the_start)
    lookout.look()
    assert (desk.folder() / session_folder.STARTED).exists()
    assert (lookout.said(), lookout.health().diagnosis.rule) == ([], "not_started")
    lookout.look()
    assert (lookout.said(), lookout.last.living) == ([], ("sh-1",))


def test_an_attempt_that_was_ended_is_not_looked_at_any_more(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.look()
    desk.end()
    lookout.look()
    assert (lookout.said(), lookout.last.health) == ([], {})


def test_a_pane_that_belongs_to_another_attempt_does_not_stand_for_this_one(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.look()
    desk.tmux.kill_session("shop--toast")
    desk.tmux.new_session("shop--toast", desk.paths.root, desk.environment, ["sleep", "600"], bead="sh-1", attempt=2)
    assert death(lookout).attempt == 1


def test_a_rig_hears_of_its_own_polecats_only(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    lookout.look(rig="bank")
    assert lookout.last.health == {}
    lookout.look(rig="shop")
    assert set(lookout.last.health) == {"sh-1"}


@pytest.mark.parametrize("written", ['{"worktree": "a\\u0000b"}', "[" * 100_000], ids=["no path", "no end"])
def test_whatever_an_agent_writes_into_its_folder_hides_no_other(desk: Desk, lookout: Lookout, written: str) -> None:
    desk.start(IDLE)
    desk.start(IDLE, bead="sh-2", polecat="nux")
    for name in (session_folder.SESSION, session_folder.DONE):
        (desk.folder() / name).write_text(written)
    lookout.watch(20)
    assert lookout.verdict("sh-2") is HealthKind.HEALTHY


def test_a_pipe_or_a_file_without_an_end_in_its_folder_is_not_waited_for(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    desk.start(IDLE, bead="sh-2", polecat="nux")
    os.mkfifo(desk.folder() / session_folder.DONE)
    os.mkfifo(desk.folder() / session_folder.HELP / "1.json")
    (desk.folder() / session_folder.SESSION).unlink()
    (desk.folder() / session_folder.SESSION).symlink_to("/dev/zero")
    for name in ("HEAD", "packed-refs", "index"):
        place = desk.paths.worktree("shop", "toast") / ".git" / name
        place.unlink()
        os.mkfifo(place)
    lookout.watch(20)
    assert lookout.verdict("sh-2") is HealthKind.HEALTHY


def test_words_that_are_no_text_do_not_keep_the_report_from_its_reader(desk: Desk, lookout: Lookout) -> None:
    desk.start(IDLE)
    folder = desk.folder()
    help_folder = folder / session_folder.HELP
    token = (session_folder.read_json(folder / session_folder.SESSION) or {})[session_folder.TOKEN_KEY]
    mine = f'"token": "{token}"'
    (help_folder / "1.json").write_text('{"severity": "low", "problem": "\\ud800?", ' + mine + "}")
    (help_folder / os.fsdecode(b"\xff.json")).write_text("{}")
    (folder / session_folder.DONE).write_text(
        '{"id": "\\udfff", "message": "\\ud800", "head_sha": "\\ud800", ' + mine + "}"
    )
    assert lookout.look().model_dump_json()
    assert lookout.kinds() == {ObservationKind.HELP, ObservationKind.DONE}
