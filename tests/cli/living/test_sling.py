"""`gt sling` and its waiting."""

from __future__ import annotations

import signal
import subprocess

import pytest

from cli.frame import connect
from ledger.store import Ledger
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import BIN, Commands, Here
from tests.pace import DEADLINE_S


@pytest.mark.usefixtures("worker")
class TestSling:
    def test_it_starts_one_job_and_says_where_to_see_it(self, here: Here, rig: Rig, bead: Bead) -> None:
        first = here.json("gt", "sling", bead.id, rig.name, "--agent", "true hang")
        workflow_id = f"polecat/{rig.name}/{bead.id}"
        assert {key: first[key] for key in ("bead", "workflow_id", "state")} == {
            "bead": bead.id,
            "workflow_id": workflow_id,
            "state": "waiting",
        }
        assert first["web_url"].endswith(f"/workflows/polecat%2F{rig.name}%2F{bead.id}")
        assert here.json("gt", "sling", bead.id, rig.name) == first

    @pytest.mark.parametrize(("course", "code"), [("merged", 0), ("closed", 0), ("abandoned", 1), ("blocked", 5)])
    def test_wait_ends_as_the_job_does(self, here: Here, rig: Rig, bead: Bead, course: str, code: int) -> None:
        outcome = here.run(
            *("gt", "sling", bead.id, rig.name, "--agent", f"true {course}", "--wait", "-o", "json"), expect=code
        )
        assert outcome.json["state"] == course
        assert ("error: " in outcome.err) == (code != 0)

    def test_wait_gives_up_after_its_timeout_and_the_job_goes_on(self, here: Here, rig: Rig, bead: Bead) -> None:
        argv = ("gt", "sling", bead.id, rig.name, "--agent", "true hang", "--wait", "--timeout", "1")
        outcome = here.run(*argv, expect=6)
        assert f"hint: gt job show {bead.id}" in outcome.err
        assert here.json("gt", "job", "show", bead.id)["state"] == "working"

    def test_a_bead_that_there_is_no_room_for_is_said_to_wait_and_may_be_waited_for(
        self, here: Here, rig: Rig, bead: Bead
    ) -> None:
        argv = ("gt", "sling", bead.id, rig.name, "--agent", "true many", "-o", "json")
        outcome = here.run(*argv)
        note = f"{bead.id} waits in the ledger for room"
        assert (outcome.json["state"], outcome.json["note"]) == ("waiting", note)
        assert f"warning: {note}, and starts by itself" in outcome.err
        assert f"hint: gt job list --rig {rig.name} --unfinished" in outcome.err
        assert here.run(*argv, "--wait", "--timeout", "0.1", expect=6).json["state"] == "waiting"

    def test_a_job_that_fails_by_itself_ends_the_wait_with_an_error(self, here: Here, rig: Rig, bead: Bead) -> None:
        argv = ("gt", "sling", bead.id, rig.name, "--agent", "true fail", "--wait", "--timeout", str(DEADLINE_S))
        assert "a bug" in here.run(*argv, expect=1).err

    def test_ctrl_c_while_waiting_says_that_the_job_goes_on(self, commands: Commands, rig: Rig, bead: Bead) -> None:
        argv = [str(BIN / "gt"), "sling", bead.id, rig.name, "--agent", "true hang", "--wait"]
        process = subprocess.Popen(
            argv,
            cwd=commands.cwd,
            env=commands.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # As from a terminal: a test run in the background of a script ignores it, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert "waiting" in first, first + err
        assert process.returncode == 130, err
        assert f"the job goes on; see gt job show {bead.id}" in err
        assert "Traceback" not in err

    def test_a_refusal_of_the_dispatcher_keeps_its_code_and_hint(self, here: Here, rig: Rig, bead: Bead) -> None:
        outcome = here.run("gt", "sling", bead.id, rig.name, "--agent", "true refuse", "-o", "json", expect=2)
        assert outcome.out == ""
        assert outcome.err == "error: no agent for it\nhint: gt sling ID RIG --agent CMD\n"

    def test_an_unknown_rig_is_not_found(self, here: Here, rig: Rig, bead: Bead) -> None:
        assert "there is no rig 'nope'" in here.run("gt", "sling", bead.id, "nope", expect=3).err

    def test_an_agent_whose_program_is_missing_is_refused(self, here: Here, rig: Rig, bead: Bead) -> None:
        outcome = here.run("gt", "sling", bead.id, rig.name, "--agent", "no-such-agent", expect=2)
        assert "there is no program 'no-such-agent'" in outcome.err
        here.run("gt", "sling", bead.id, rig.name, "--agent", " ", expect=2)

    def test_it_needs_no_ledger_while_the_dispatcher_runs(self, here: Here, rig: Rig, town: Town) -> None:
        bead = here.json("bd", "create", "x", "--rig", rig.name)["id"]
        here.run("gt", "sling", bead, rig.name, "--agent", "true hang")
        town.paths.doltlite_file.write_bytes(b"no ledger")
        here.run("gt", "sling", bead, rig.name)


class TestWithoutAWorker:
    def test_a_sling_that_nobody_accepts_is_unreachable_within_seconds(
        self, here: Here, rig: Rig, bead: Bead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert connect.ACCEPT_S <= 10
        monkeypatch.setattr(connect, "ACCEPT_S", 2.0)  # it need not be waited out
        outcome = here.run("gt", "sling", bead.id, rig.name, "--agent", "true hang", "-o", "json", expect=4)
        assert outcome.out == ""
        assert "hint: gt up" in outcome.err

    def test_status_shows_what_the_ledger_has_and_is_not_healthy(
        self, here: Here, rig: Rig, bead: Bead, ledger: Ledger
    ) -> None:
        outcome = here.run("gt", "status", "-o", "json")
        assert outcome.json["healthy"] is False
        assert outcome.json["rigs"][0]["queue"]["waiting"] is None
        assert "warning: " in outcome.err
