"""What an agent leaves running ends with its job, however it hid; what a person runs in the worktree does not."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from activities.sessions.process_tree import moment
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.sessions.test_tmux import is_over

ENDS = "while [ ! -s $PID ]; do sleep 0.05; done; exit 3"
LOGIN = {"PATH": os.environ["PATH"], "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}


@pytest.fixture
def persons() -> Iterator[list[int]]:
    """Pids to end after the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            process.kill()


def left_by_agent(desk: Desk, command: str, *, then: str = IDLE, attempt: int = 1) -> psutil.Process:
    """A process that the agent has started by `command`, which writes its pid to the file $PID."""
    note = desk.paths.root.parent / f"daemon-{attempt}"
    desk.start(f"{command}\n{then}".replace("$PID", str(note)), attempt=attempt)
    eventually(lambda: note.exists() and note.read_text().strip())
    return psutil.Process(int(note.read_text()))


def daemon_of_nobody(worktree: Path, environment: dict[str, str], note: Path) -> int:
    """An orphan without a terminal in `worktree` that does not come from the session."""
    script = f"setsid sh -c 'echo $$ > {note}; exec sleep 600' > /dev/null 2>&1 & exit"
    subprocess.run(["sh", "-c", script], cwd=worktree, env=environment, check=True)
    eventually(lambda: note.exists() and note.read_text().strip())
    return int(note.read_text())


def later_than(pid: int) -> float:
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK") + 0.1


class TestEndsWithTheJob:
    @pytest.mark.parametrize(
        "command",
        [
            "env -i setsid sh -c 'echo $$ > $PID; exec sleep 600' &",
            "env -i setsid setsid sh -c '(echo $$ > $PID; exec sleep 600) & wait' &",
            "cp $(command -v sleep) ./server; env -i setsid sh -c 'echo $$ > $PID; exec ./server 600' &",
            "mkdir -p deep/er; env -i sh -c 'cd deep/er; setsid sh -c \"echo \\$\\$ > $PID; exec sleep 600\"' &",
        ],
    )
    def test_a_daemon_with_an_empty_environment_that_stands_in_the_worktree(self, desk: Desk, command: str) -> None:
        daemon = left_by_agent(desk, command)
        desk.end()
        assert is_over(daemon)

    def test_a_program_of_the_worktree_that_went_elsewhere(self, desk: Desk) -> None:
        server = (
            'cp "$(command -v sleep)" server; here=$PWD; cd /; env -i setsid "$here"/server 600 & echo $! > $PID; cd -'
        )
        daemon = left_by_agent(desk, server)
        eventually(lambda: psutil.Process(daemon.pid).exe().endswith("/server"))  # a Process keeps its first answer
        desk.end()
        assert is_over(daemon)

    def test_it_does_so_too_where_the_agent_has_died_before(self, desk: Desk) -> None:
        daemon = left_by_agent(desk, "env -i setsid sh -c 'echo $$ > $PID; exec sleep 600' &", then=ENDS)
        eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
        desk.end()
        assert is_over(daemon)

    def test_what_stayed_in_a_dead_panes_kernel_session(self, desk: Desk) -> None:
        daemon = left_by_agent(desk, "cd /; trap '' HUP; env -i sh -c 'echo $$ > $PID; exec sleep 600' &", then=ENDS)
        eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
        desk.end()
        assert is_over(daemon)

    def test_what_outlived_a_killed_tmux_server(self, desk: Desk) -> None:
        daemon = left_by_agent(desk, "env -i setsid sh -c 'echo $$ > $PID; exec sleep 600' &")
        subprocess.run(["tmux", "-L", desk.tmux.socket, "kill-server"], check=True)
        desk.end()
        assert is_over(daemon)


class TestIsLeftAlone:
    def test_a_person_in_a_terminal_of_their_own(self, desk: Desk, persons: list[int]) -> None:
        started = desk.start()
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(started.worktree)
            os.execvpe("sh", ["sh", "-c", "sleep 600; true"], {"PATH": os.environ["PATH"]})
        persons.append(pid)
        eventually(lambda: psutil.Process(pid).cwd() == started.worktree and psutil.Process(pid).children())
        child = psutil.Process(pid).children()[0]
        desk.end()
        assert not is_over(psutil.Process(pid))
        assert not is_over(child)
        os.close(master)

    def test_what_a_persons_editor_has_started(self, desk: Desk, persons: list[int]) -> None:
        started = desk.start()
        script = f"setsid sh -c 'cd {started.worktree}; sleep 600; true' & wait"
        editor = subprocess.Popen(["sh", "-c", script], env={"PATH": os.environ["PATH"]})
        persons.append(editor.pid)
        eventually(
            lambda: [one for one in psutil.Process(editor.pid).children(recursive=True) if one.name() == "sleep"]
        )
        servers = psutil.Process(editor.pid).children(recursive=True)
        desk.end()
        assert not any(map(is_over, servers))
        editor.poll()

    def test_a_persons_program_in_the_background(self, desk: Desk, persons: list[int], tmp_path: Path) -> None:
        started = desk.start()
        persons.append(daemon_of_nobody(Path(started.worktree), LOGIN, tmp_path / "pid"))
        desk.end()
        assert not is_over(psutil.Process(persons[0]))

    def test_what_ran_before_the_attempt_began(self, desk: Desk, persons: list[int], tmp_path: Path) -> None:
        started = desk.start()
        persons.append(daemon_of_nobody(Path(started.worktree), {"PATH": os.environ["PATH"]}, tmp_path / "pid"))
        record = desk.folder() / "session.json"
        boot, _, _ = moment().partition(" ")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"begun": f"{boot} {later_than(persons[0])}"}))
        desk.end()
        assert not is_over(psutil.Process(persons[0]))

    def test_a_later_attempts_daemon_in_the_same_worktree(self, desk: Desk) -> None:
        desk.start(attempt=1)
        daemon = left_by_agent(desk, "env -i setsid sh -c 'echo $$ > $PID; exec sleep 600' &", attempt=2)
        desk.end(attempt=1)
        assert not is_over(daemon)
        desk.end(attempt=2)
        assert is_over(daemon)

    def test_another_polecats_daemon(self, desk: Desk) -> None:
        desk.start(bead="sh-2", polecat="nux")
        daemon = left_by_agent(desk, "env -i setsid sh -c 'echo $$ > $PID; exec sleep 600' &")
        desk.end(bead="sh-2", polecat="nux")
        assert not is_over(daemon)
