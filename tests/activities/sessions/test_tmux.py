"""tmux as the town uses it: one server on its own socket, exact targets, clean environments."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from activities.sessions.process_tree import Traces, prompt_reaping
from activities.sessions.tmux import PaneFacts, Tmux
from models.errors import ErrorCode, GtError
from tests.activities.sessions.desk import eventually

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8"}


def start(tmux: Tmux, folder: Path, command: str, name: str = "shop--toast", **environment: str) -> None:
    tmux.new_session(name, folder, ENVIRONMENT | environment, ["sh", "-c", command], bead="sh-1", attempt=1)


def dead_pane(tmux: Tmux) -> PaneFacts:
    def look() -> PaneFacts | None:
        pane = tmux.panes().get("shop--toast")
        return pane if pane is not None and pane.dead else None

    pane: PaneFacts = eventually(look)
    return pane


def shown(tmux: Tmux, text: str) -> str:
    def look() -> str:
        capture = tmux.capture("shop--toast", 50)
        return capture if text in capture else ""

    capture: str = eventually(look)
    return capture


def children(tmux: Tmux) -> list[psutil.Process]:
    pane = tmux.panes()["shop--toast"]
    return [psutil.Process(pane.pane_pid), *psutil.Process(pane.pane_pid).children(recursive=True)]


def tmux_command(tmux: Tmux, *arguments: str) -> str:
    argv = ["tmux", "-L", tmux.socket, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_server_that_does_not_run_has_no_sessions(tmux: Tmux) -> None:
    assert tmux.panes() == {}
    assert tmux.capture("shop--toast", 10) == ""
    tmux.kill_session("shop--toast")
    tmux.kill_server()


def test_a_new_session_is_listed_with_what_it_was_started_for(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    pane = tmux.panes()["shop--toast"]
    assert (pane.bead, pane.attempt, pane.alive) == ("sh-1", 1, True)
    # Until it has become the agent's program the new process still shows tmux's own words.
    eventually(lambda: psutil.Process(pane.pane_pid).cmdline() == ["sleep", "600"])


def test_a_second_session_of_that_name_is_refused(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    with pytest.raises(GtError) as refused:
        start(tmux, tmp_path, "exec sleep 600")
    assert refused.value.code is ErrorCode.TMUX_FAILED


def test_arguments_arrive_as_they_are(tmux: Tmux, tmp_path: Path) -> None:
    hostile = ["a b", "it's", '"d"', "$(touch oops)", "#{pid}", "semi;", ";", "-n", "ü", "back\\slash", "`id`"]
    argv = ["sh", "-c", 'printf "<%s>\\n" "$@" > got; sleep 600', "sh", *hostile]
    tmux.new_session("shop--toast", tmp_path, ENVIRONMENT, argv, bead="sh-1", attempt=1)
    got = tmp_path / "got"
    eventually(lambda: got.exists() and got.read_text().count(">") == len(hostile))
    assert got.read_text().splitlines() == [f"<{word}>" for word in hostile]
    assert not (tmp_path / "oops").exists()


def test_a_folder_with_formats_in_its_name_is_only_a_folder(tmux: Tmux, tmp_path: Path) -> None:
    folder = tmp_path / "a #{pid} #(touch oops) b"
    folder.mkdir()
    start(tmux, folder, "pwd > here; exec sleep 600")
    eventually(lambda: (folder / "here").exists() and (folder / "here").read_text().endswith("\n"))
    assert (folder / "here").read_text() == f"{folder}\n"


def test_a_session_has_the_environment_it_is_given_and_nothing_of_the_worker(
    tmux: Tmux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "worker-secret")
    start(tmux, tmp_path, "env > first; exec sleep 600", AN_API_KEY="first-key")
    start(tmux, tmp_path, "env > second; exec sleep 600", name="shop--nux", OTHER="second")
    eventually(
        lambda: all(
            (tmp_path / name).exists() and "PWD" in (tmp_path / name).read_text() for name in ("first", "second")
        )
    )
    first, second = (tmp_path / "first").read_text(), (tmp_path / "second").read_text()
    assert "AN_API_KEY=first-key" in first
    assert "OTHER=second" in second
    assert "AN_API_KEY" not in second
    assert "worker-secret" not in first + second
    assert "KEY" not in tmux_command(tmux, "show-environment", "-g")


def test_no_value_of_the_environment_is_an_argument(
    tmux: Tmux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    run = subprocess.run

    def recorded(argv: list[str], **options: Any) -> Any:
        started.append(argv)
        return run(argv, **options)

    monkeypatch.setattr("activities.sessions.tmux.subprocess.run", recorded)
    start(tmux, tmp_path, "exec sleep 600", AN_API_KEY="very-secret")
    assert started
    assert "very-secret" not in str(started)


def test_a_name_is_never_taken_as_the_beginning_of_another(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "echo other; exec sleep 600", name="shop--toast-2")
    assert tmux.capture("shop--toast", 10) == ""
    tmux.kill_session("shop--toast")
    assert tmux.panes()["shop--toast-2"].alive


def test_a_dead_pane_keeps_its_exit_code_and_last_words(tmux: Tmux, tmp_path: Path) -> None:
    # One that ends at once may be closed before tmux has read what it wrote.
    start(tmux, tmp_path, "echo 'last wörds'; read line; exit 3")
    shown(tmux, "last wörds")
    tmux.send_text("shop--toast", "go")

    def explained() -> PaneFacts | None:
        pane = dead_pane(tmux)
        if pane.exit_code is None:
            prompt_reaping(pane.pane_pid)  # tmux may see the terminal close before it learns how the process ended
        return None if pane.exit_code is None else pane

    pane: PaneFacts = eventually(explained)
    assert (pane.dead_status, pane.dead_signal) == (3, None)
    # tmux may learn of the end before it has read the last output.
    assert "Pane is dead" not in shown(tmux, "last wörds")


def test_a_killed_process_leaves_the_signal(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    os.kill(tmux.panes()["shop--toast"].pane_pid, signal.SIGKILL)
    pane = dead_pane(tmux)
    # tmux may see the terminal close before it learns how the process ended; then it says neither.
    assert pane.dead_signal in {signal.SIGKILL, None}
    assert pane.dead_status is None


def test_a_person_who_splits_the_window_hides_nothing(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "echo agent; exec sleep 600")
    shown(tmux, "agent")
    tmux_command(tmux, "split-window", "-t", "=shop--toast:", "echo person; exec sleep 600")
    os.kill(tmux.panes()["shop--toast"].pane_pid, signal.SIGKILL)
    assert dead_pane(tmux).dead
    assert "agent" in tmux.capture("shop--toast", 50)


def test_the_end_of_a_session_is_the_end_of_all_its_processes(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "trap '' TERM HUP; sleep 600 & (trap '' TERM; sleep 601; true) & echo up; sleep 602; true")
    shown(tmux, "up")
    start(tmux, tmp_path, "exec sleep 600", name="shop--nux")
    family = eventually(lambda: [members for members in [children(tmux)] if len(members) >= 4])[0]
    tmux.kill_session("shop--toast")
    assert all(is_over(process) for process in family)
    assert list(tmux.panes()) == ["shop--nux"]
    assert tmux.panes()["shop--nux"].alive


def test_a_daemon_that_left_its_pane_is_found_by_its_mark(tmux: Tmux, tmp_path: Path) -> None:
    leave = "setsid sh -c 'echo $$ > daemon; exec sleep 600' & while [ ! -s daemon ]; do sleep 0.05; done"
    start(tmux, tmp_path, leave, GT_TASK_FILE="/x/task.md")
    dead_pane(tmux)
    daemon = psutil.Process(int((tmp_path / "daemon").read_text()))
    assert not is_over(daemon)
    tmux.kill_session("shop--toast", Traces(("GT_TASK_FILE", "/y/task.md")))
    assert not is_over(daemon)
    tmux.kill_leftovers(Traces(("GT_TASK_FILE", "/x/task.md")))
    assert is_over(daemon)


def test_text_is_pasted_whole_and_entered_once(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "echo ready; cat > got")
    shown(tmux, "ready")
    tmux.send_text("shop--toast", 'it\'s $(touch oops); "ü" #{pid}')
    got = tmp_path / "got"
    eventually(lambda: got.exists() and got.read_text().endswith("\n"))
    assert got.read_text() == 'it\'s $(touch oops); "ü" #{pid}\n'
    assert not (tmp_path / "oops").exists()


def test_text_for_nobody_is_refused(tmux: Tmux) -> None:
    with pytest.raises(GtError) as refused:
        tmux.send_text("shop--toast", "hello")
    assert refused.value.code is ErrorCode.NOT_FOUND


def test_a_killed_server_has_no_sessions_and_the_next_session_starts_a_new_one(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    os.kill(int(tmux_command(tmux, "display-message", "-p", "#{pid}")), signal.SIGKILL)
    eventually(lambda: tmux.panes() == {})
    start(tmux, tmp_path, "exec sleep 600")
    assert tmux.panes()["shop--toast"].alive


def test_without_sessions_no_server_stays_behind(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    server = psutil.Process(int(tmux_command(tmux, "display-message", "-p", "#{pid}")))
    tmux.kill_session("shop--toast")
    eventually(lambda: is_over(server))


def test_a_host_without_tmux_is_told_what_to_install(
    tmux: Tmux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        with pytest.raises(GtError) as missing:
            tmux.panes()
    assert missing.value.code is ErrorCode.PROGRAM_MISSING
    assert "install tmux" in missing.value.hint


def test_tags_that_were_changed_from_inside_count_as_none(tmux: Tmux, tmp_path: Path) -> None:
    start(tmux, tmp_path, "exec sleep 600")
    tmux_command(tmux, "set", "-t", "=shop--toast:", "@gt_bead", "../../etc")
    assert tmux.panes()["shop--toast"].bead == ""
