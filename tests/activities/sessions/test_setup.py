"""worktree.setup: a command in front of the agent, in its pane; where it fails there is no agent."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from activities.sessions.process_tree import prompt_reaping
from agents import session_folder
from models.job.health import HealthKind
from models.job.messages import ObservationKind
from models.settings import WorktreeSettings
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.sessions.lookout import Lookout
from tests.activities.sessions.test_tmux import is_over


def start(desk: Desk, setup: str, agent: str = IDLE, timeout_s: int = 60, attempt: int = 1) -> None:
    desk.start(agent, attempt=attempt, worktree=WorktreeSettings(setup=setup, setup_timeout=timeout_s))


def dead(desk: Desk) -> int:
    def exit_code() -> int | None:
        pane = desk.pane()
        if pane is None or not pane.dead:
            return None
        if pane.exit_code is None:
            prompt_reaping(pane.pane_pid)  # tmux may see the terminal close before it learns how the process ended
        return pane.exit_code

    code: int = eventually(exit_code)
    return code


def test_it_runs_before_the_agent_in_its_worktree_and_environment_and_is_seen_in_the_pane(desk: Desk) -> None:
    setup = 'echo "for $GT_BEAD in $PWD" > made && echo "it\'s done"'
    start(desk, setup, "cat made; echo agent; exec sleep 600")
    shown = desk.shown("agent")
    assert shown.index("it's done") < shown.index("for sh-1 in") < shown.index("agent")
    assert f"for sh-1 in {desk.paths.worktree('shop', 'toast')}" in shown
    assert session_folder.setup_state(desk.folder()) == "done"
    pane = desk.pane()
    assert pane is not None
    assert Path(f"/proc/{pane.pane_pid}/cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", b"600"]


def test_it_runs_again_for_the_next_attempt(desk: Desk) -> None:
    start(desk, "echo once >> made", "echo ready; exec sleep 600")
    desk.shown("ready")
    start(desk, "echo once >> made", "cat made; echo ready; exec sleep 600", attempt=2)
    assert desk.shown("ready").splitlines()[-3:] == ["once", "once", "ready"]


def test_where_it_fails_no_agent_runs_and_the_patrol_says_why(desk: Desk) -> None:
    start(desk, "echo no lock file >&2; exit 3", "touch ran; exec sleep 600")
    assert dead(desk) == 78
    assert "worktree.setup failed" in desk.shown("The agent was not started")
    assert not (desk.paths.worktree("shop", "toast") / "ran").exists()
    lookout = Lookout(desk)
    lookout.watch(3)
    seen = lookout.only()
    assert (seen.kind, seen.exit_code, seen.setup_failed) == (ObservationKind.DIED, 78, True)
    assert seen.detail.startswith("exit code 3\n")
    assert "no lock file" in seen.detail


def test_one_that_never_ends_is_ended_with_all_its_processes(desk: Desk) -> None:
    mark = f"605.{os.getpid()}"
    start(desk, f"sleep {mark} & sleep 606", timeout_s=1)
    assert dead(desk) == 78
    assert session_folder.setup_state(desk.folder()) == "failed: it took longer than 1 s (worktree.setup_timeout)"
    left = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", mark]]
    assert all(map(is_over, left))


def test_it_can_ask_nobody(desk: Desk) -> None:
    start(desk, "read answer || echo nothing to read; (: < /dev/tty) || echo no terminal", "echo ready; exec sleep 600")
    shown = desk.shown("ready")
    assert "\nnothing to read" in shown
    assert "\nno terminal" in shown


def test_while_it_runs_nobody_calls_the_agent_silent(desk: Desk) -> None:
    desk.start(
        f"GT_HEARTBEAT=1 sh -c '{IDLE}'", worktree=WorktreeSettings(setup="while [ ! -e go ]; do sleep 0.1; done")
    )
    lookout = Lookout(desk)
    lookout.watch(90)
    assert lookout.verdict() is HealthKind.HEALTHY
    (desk.paths.worktree("shop", "toast") / "go").touch()
    desk.shown("ready")
    lookout.watch(60)
    assert lookout.verdict() is not HealthKind.HEALTHY


def test_a_session_that_is_ended_while_it_is_set_up_leaves_no_process(desk: Desk) -> None:
    start(desk, "sleep 603 & touch up; wait")
    eventually((desk.paths.worktree("shop", "toast") / "up").exists)
    pane = desk.pane()
    assert pane is not None
    family = psutil.Process(pane.pane_pid).children(recursive=True)
    assert len(family) == 2
    desk.end()
    assert all(map(is_over, family))
