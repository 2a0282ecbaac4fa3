"""`gt peek`, `gt attach`, `gt polecat`: real tmux on the town's own socket."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from ledger.store import Ledger
from models.ledger.records import Bead, JobState, NewBead, Rig
from services.tmux_server import remember
from services.town import Town
from tests.cli.conftest import BIN, Commands, Here
from tests.cli.test_beads import start_job
from tests.pace import DEADLINE_S


class Tmux:
    """A tmux server on a town's socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def run(self, *argv: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, "-f", "/dev/null", *argv], capture_output=True, text=True)
        return done.stdout

    def start(self, session: str, script: str) -> None:
        """Start a session whose pane has printed what `script` prints before it goes on."""
        self.run("new-session", "-d", "-s", session, "-x", "80", "-y", "24", "--", "sh", "-c", script)
        self.run("set", "-g", "remain-on-exit", "on")
        wait_for(lambda: "READY" in self.run("capture-pane", "-p", "-S", "-", "-t", f"={session}:"))


def wait_for(holds: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def tmux(town: Town, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[Tmux]:
    """The town's tmux server, in a socket folder of its own; ended afterwards."""
    # A short path: sockets are limited to some 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    environment["TMUX_TMPDIR"] = str(folder)
    server = Tmux(town.tmux_socket)
    yield server
    server.run("kill-server")
    shutil.rmtree(folder)


class TestPeek:
    def test_it_shows_the_end_of_the_pane(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "seq 1 100; echo READY; exec sleep 600")
        shown = here.run("gt", "peek", "toast", "--lines", "3").out
        assert shown == "99\n100\nREADY\n"
        assert here.json("gt", "polecat", "peek", "toast", "--rig", "shop") | {"text": ""} == {
            "rig": "shop",
            "polecat": "toast",
            "session": "shop--toast",
            "text": "",
        }

    def test_it_finds_a_session_though_the_socket_was_swept(self, here: Here, tmux: Tmux, town: Town) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        pid, _, socket = tmux.run("display-message", "-p", "#{pid} #{socket_path}").strip().partition(" ")
        remember(town.paths.tmux_server, int(pid), socket)
        Path(socket).unlink()
        assert "READY" in here.run("gt", "peek", "toast").out

    def test_it_needs_no_ledger_while_the_session_lives(self, here: Here, tmux: Tmux, town: Town) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        assert not town.paths.doltlite_file.exists()
        assert "READY" in here.run("gt", "peek", "toast").out

    def test_a_dead_pane_still_shows_its_last_words(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        pid = tmux.run("list-panes", "-t", "=shop--toast:", "-F", "#{pane_pid}").strip()
        os.kill(int(pid), 9)
        wait_for(lambda: tmux.run("list-panes", "-t", "=shop--toast:", "-F", "#{pane_dead}").strip() == "1")
        assert "READY" in here.run("gt", "peek", "toast").out

    def test_a_name_that_two_rigs_have_needs_the_rig(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "echo one READY; exec sleep 600")
        tmux.start("web--toast", "echo two READY; exec sleep 600")
        assert "--rig shop" in here.run("gt", "peek", "toast", expect=2).err
        assert "two" in here.run("gt", "peek", "toast", "--rig", "web").out

    def test_a_part_of_a_name_is_not_the_name(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        for name in ("toas", "oast", "toast-2"):
            here.run("gt", "peek", name, expect=3)

    def test_an_unknown_polecat_is_not_found(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        assert "hint: gt polecat list" in here.run("gt", "peek", "toast", expect=3).err

    def test_one_without_a_session_is_refused_with_its_last_evidence(
        self, here: Here, tmux: Tmux, town: Town, ledger: Ledger, bead: Bead
    ) -> None:
        start_job(ledger, bead.id, JobState.SUBMITTED)
        town.paths.session("shop", "toast", bead.id, 1).mkdir(parents=True)
        evidence = town.paths.evidence / bead.id / "1"
        evidence.mkdir(parents=True)
        outcome = here.run("gt", "peek", "toast", expect=5)
        assert outcome.out == ""
        assert str(evidence) in outcome.err


class TestAttach:
    def test_off_a_terminal_it_says_what_to_use(self, here: Here, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        assert "hint: gt peek toast" in here.run("gt", "attach", "toast", expect=2).err

    def test_on_a_terminal_it_enters_the_session(self, commands: Commands, tmux: Tmux, rig: Rig) -> None:
        tmux.start("shop--toast", "echo READY; exec sleep 600")
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [str(BIN / "gt"), "attach", "toast"],
            cwd=commands.cwd,
            env={**commands.environment, "TERM": "xterm", "TMUX": "/tmp/another,1,0"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            seen = b""
            deadline = time.monotonic() + DEADLINE_S
            while b"READY" not in seen:
                assert time.monotonic() < deadline, seen
                if select.select([ours], [], [], 0.2)[0]:
                    seen += os.read(ours, 4096)
            tmux.run("detach-client", "-s", "=shop--toast")
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)


class TestPolecat:
    def test_list_and_status_tell_what_the_record_has(self, here: Here, ledger: Ledger, bead: Bead) -> None:
        assert here.json("gt", "polecat", "list") == []
        start_job(ledger, bead.id)
        (row,) = here.json("gt", "polecat", "list", "--rig", "shop")
        assert {"rig", "name", "state", "bead", "attempt", "host", "since"} <= set(row)
        assert (row["name"], row["bead"], row["attempt"], row["host"]) == ("toast", bead.id, 1, "h1")
        assert here.json("gt", "polecat", "status", "toast") == row
        here.run("gt", "polecat", "status", "nux", expect=3)
        here.run("gt", "polecat", "list", "--rig", "nope", expect=3)


class TestOrders:
    """What is refused before anything is asked of a workflow or a host."""

    @pytest.mark.parametrize(
        "words",
        [
            ("cleanup", "--rig", "shop"),
            ("cleanup", "toast", "--rig", "shop", "--stuck"),
            ("cleanup", "--rig", "shop", "--stuck", "--zombies"),
            ("cleanup", "--rig", "shop", "--zombies", "--force"),
            ("cleanup", "--zombies"),
            ("recover",),
            ("recover", "--all", "-x"),
            ("parked", "expire", "--attempt", "1"),
            ("restart",),
            ("nudge", "toast"),
            ("unpark", "no bead"),
            ("stop", "../toast"),
        ],
    )
    def test_wrong_usage(self, here: Here, rig: Rig, words: tuple[str, ...]) -> None:
        outcome = here.run("gt", "polecat", *words, expect=2)
        assert outcome.out == ""
        assert outcome.err.startswith(("error: ", "Usage: "))

    @pytest.mark.parametrize(
        "words",
        [
            ("cleanup", "nux", "--rig", "shop", "--force"),
            ("cleanup", "--rig", "nope", "--zombies"),
            ("recover", "nux"),
            ("recover", "--rig", "nope"),
            ("restart", "nux"),
            ("stop", "nux"),
            ("nudge", "nux", "go on"),
            ("unpark", "sh-zzz"),
            ("parked", "--rig", "nope"),
        ],
    )
    def test_who_and_what_is_not_there(self, here: Here, rig: Rig, words: tuple[str, ...]) -> None:
        assert here.run("gt", "polecat", *words, expect=3).err.startswith("error: ")

    @pytest.mark.parametrize(
        "words",
        [
            ("cleanup", "--rig", "shop", "--stuck"),
            ("cleanup", "toast", "--rig", "shop", "--force"),
            ("recover", "--all"),
            ("restart", "toast"),
            ("stop", "toast"),
            ("nudge", "toast", "go on"),
            ("parked",),
            ("parked", "-o", "json"),
            ("parked", "--rig", "shop"),
            ("parked", "expire", "-o", "json"),
        ],
    )
    def test_a_town_that_is_down(self, here: Here, ledger: Ledger, bead: Bead, words: tuple[str, ...]) -> None:
        start_job(ledger, bead.id)
        outcome = here.run("gt", "polecat", *words, expect=4)
        assert "hint: gt up" in outcome.err

    def test_an_idle_polecat_has_nothing_to_restart_or_stop(self, here: Here, ledger: Ledger, bead: Bead) -> None:
        start_job(ledger, bead.id)
        start_job(ledger, bead.id, JobState.ABANDONED, sequence=2)
        for order in ("restart", "stop"):
            assert "works on nothing" in here.run("gt", "polecat", order, "toast", expect=5).err

    def test_where_nothing_is_unfinished_there_is_nothing_to_recover(self, here: Here, rig: Rig) -> None:
        document = here.json("gt", "polecat", "recover", "--all")
        assert document == {"dry_run": False, "jobs": [], "rebuilt": 0, "running": 0, "failed": 0}

    def test_a_bead_with_a_running_job_is_not_unparked(self, here: Here, ledger: Ledger, bead: Bead) -> None:
        start_job(ledger, bead.id)
        assert f"gt job cancel {bead.id}" in here.run("gt", "polecat", "unpark", bead.id, expect=5).err


class TestJobsOfTheRecord:
    def test_list_filters_by_rig_and_by_what_goes_on(self, here: Here, ledger: Ledger, bead: Bead) -> None:
        other = ledger.create_bead(NewBead(rig="shop", title="two"))
        start_job(ledger, bead.id)
        start_job(ledger, other.id, JobState.ABANDONED)
        assert {job["bead"] for job in here.json("gt", "job", "list", "--rig", "shop")} == {bead.id, other.id}
        assert [job["bead"] for job in here.json("gt", "job", "list", "--unfinished")] == [bead.id]
        here.run("gt", "job", "list", "--rig", "nope", expect=3)

    def test_show_works_while_temporal_is_down_and_says_so(self, here: Here, ledger: Ledger, bead: Bead) -> None:
        start_job(ledger, bead.id)
        outcome = here.run("gt", "job", "show", bead.id, "-o", "json")
        assert (outcome.json["state"], outcome.json["polecat"], outcome.json["attempt"]) == ("working", "toast", 1)
        assert [entry["event"] for entry in outcome.json["history"]] == ["started"]
        assert "warning: Temporal does not answer" in outcome.err

    def test_with_both_stores_down_it_is_unreachable(self, here: Here, town: Town) -> None:
        text = tomlkit.parse(town.paths.config.read_text())
        text["store"] = {"engine": "external", "url": "mysql+pymysql://root@127.0.0.1:9/gastown"}
        town.paths.config.write_text(tomlkit.dumps(text))
        outcome = here.run("gt", "job", "show", "sh-1a2", "-o", "json", expect=4)
        assert outcome.out == ""
        assert outcome.err.startswith("error: ")
