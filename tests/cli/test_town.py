"""`gt init` and what the other commands of a town say while it is down."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from cli.frame.connect import WorkflowAbsent, as_gt_error
from models.errors import ErrorCode, ExitCode
from models.ledger.records import Bead
from models.town import TemporalListening
from services.atomic_files import write_whole
from services.own_python import OWN_PYTHON
from services.town import Town
from tests.cli.conftest import Commands, Here


class TestInit:
    def test_it_makes_a_town_once(self, commands: Commands, tmp_path: Path) -> None:
        at = Commands(tmp_path, commands.environment)
        first = at.run("gt", "init", "new", "--name", "mine", "--store", "embedded", "-o", "json")
        assert first.json | {"id": "", "host": "", "web_url": ""} == {
            **{"name": "mine", "directory": str(tmp_path / "new"), "store": "embedded", "created": True},
            **{"id": "", "host": "", "web_url": ""},
        }
        assert "embedded" in first.err
        again = at.json("gt", "init", "new")
        assert again == first.json | {"created": False}
        assert stat.S_IMODE((tmp_path / "new" / "town.toml").stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("argv", "code"),
        [
            (("x", "--name", "a b"), 2),
            (("x", "--store", "floppy"), 2),
            (("file",), 5),
            (("file/x",), 5),
            (("town/inside",), 5),
            (("town", "--name", "other"), 5),
            ((), 2),
        ],
    )
    def test_what_cannot_be_makes_nothing(
        self, here: Here, town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], code: int
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        before = sorted(tmp_path.rglob("*"))
        outcome = here.run("gt", "init", *argv, expect=code)
        assert outcome.out == ""
        assert sorted(tmp_path.rglob("*")) == before


class TestUi:
    def test_it_prints_the_address_where_there_is_one(self, here: Here, town: Town) -> None:
        assert here.json("gt", "ui") == {"url": town.web_url(), "open_until_interrupted": False}

    def test_behind_the_socket_it_needs_a_town_that_is_up(self, here: Here, town: Town) -> None:
        write_whole(town.paths.temporal_listening, TemporalListening(on_socket=True).model_dump_json())
        assert town.web_url() is None
        assert "gt up" in here.run("gt", "ui", expect=ExitCode.UNREACHABLE).err

    def test_an_external_temporal_may_have_none(self, here: Here, town: Town) -> None:
        text = town.paths.config.read_text()
        town.paths.config.write_text(text.replace("external = false", "external = true"))
        assert "ui_url" in here.run("gt", "ui", expect=ExitCode.NOT_FOUND).err


class TestDown:
    @pytest.mark.parametrize(
        "argv",
        [
            ("gt", "sling", "sh-1a2", "shop"),
            ("gt", "sling", "sh-1a2", "shop", "--wait"),
            ("gt", "refinery", "queue", "--rig", "shop"),
            ("gt", "refinery", "pause", "--rig", "shop"),
            ("gt", "escalate", "it burns"),
            ("gt", "escalate", "ack", "x"),
        ],
        ids=" ".join,
    )
    def test_what_needs_temporal_is_unreachable_at_once(self, here: Here, bead: Bead, argv: tuple[str, ...]) -> None:
        outcome = here.run(*argv, "-o", "json", expect=4)
        assert outcome.out == ""
        assert "hint: gt up" in outcome.err

    def test_status_is_told_with_exit_0_and_is_not_healthy(self, here: Here, bead: Bead) -> None:
        outcome = here.run("gt", "status", "-o", "json")
        assert outcome.json["healthy"] is False
        assert {service["state"] for service in outcome.json["services"]} == {"stopped"}
        nothing_known = dict.fromkeys(("waiting", "merging", "paused", "pause_reason", "troubles"))
        assert outcome.json["rigs"][0]["queue"] == nothing_known
        assert "Temporal does not answer" in outcome.err
        assert "NOT HEALTHY" in here.run("gt", "status").out

    def test_down_of_a_town_that_is_down_changes_nothing(self, here: Here) -> None:
        assert here.json("gt", "down")["stopped"] is False

    def test_escalations_of_the_record_are_shown(self, here: Here, bead: Bead) -> None:
        outcome = here.run("gt", "escalate", "list", "-o", "json")
        assert outcome.json == []
        assert "warning: the Mayor did not answer" in outcome.err

    def test_a_worker_takes_the_command_s_place(self, here: Here, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
        became: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(os, "execv", lambda program, argv: became.append((program, argv)))
        here.run("gt", "worker", "--host-only")
        argv = [*OWN_PYTHON, "-m", "worker", "--town", str(town.root), "--host-only"]
        assert became == [(sys.executable, argv)]


class TestFailuresOfTheClient:
    @pytest.mark.parametrize("code", list(ErrorCode))
    def test_a_workflow_s_refusal_keeps_code_message_and_hint(self, code: ErrorCode) -> None:
        refusal = ApplicationError("what happened", "L2", "what to do", type=code.value)
        error = as_gt_error(WorkflowUpdateFailedError(refusal))
        assert (error.code, error.message, error.hint) == (code, "what happened", "what to do")

    def test_a_refusal_of_an_unknown_kind_is_a_failed_service(self) -> None:
        error = as_gt_error(WorkflowUpdateFailedError(ApplicationError("boom", type="Strange")))
        assert (error.code, error.exit_code, error.hint) == (ErrorCode.SERVICE_FAILED, ExitCode.FAILED, "")

    @pytest.mark.parametrize(
        ("status", "exit_code"),
        [
            (RPCStatusCode.UNAVAILABLE, ExitCode.UNREACHABLE),
            (RPCStatusCode.DEADLINE_EXCEEDED, ExitCode.UNREACHABLE),
            (RPCStatusCode.NOT_FOUND, ExitCode.NOT_FOUND),
            (RPCStatusCode.PERMISSION_DENIED, ExitCode.FAILED),
        ],
    )
    def test_the_server_s_answers_have_exit_codes(self, status: RPCStatusCode, exit_code: ExitCode) -> None:
        assert as_gt_error(RPCError("x", status, b"")).exit_code is exit_code

    def test_only_an_absent_workflow_counts_as_absent(self) -> None:
        absent = as_gt_error(RPCError("x", RPCStatusCode.NOT_FOUND, b""))
        refusal = as_gt_error(WorkflowUpdateFailedError(ApplicationError("no bead", type="not_found")))
        assert isinstance(absent, WorkflowAbsent)
        assert not isinstance(refusal, WorkflowAbsent)

    def test_no_answer_in_time_is_unreachable(self) -> None:
        assert as_gt_error(TimeoutError()).exit_code is ExitCode.UNREACHABLE


@pytest.mark.parametrize("line", [("gt", "init", ""), ("gt", "--town", "", "status"), ("gt", "status", "--town=")])
def test_an_empty_directory_is_wrong_usage(here: Here, line: tuple[str, ...]) -> None:
    """As an unset variable of a script gives it; the current directory is called `.`."""
    assert "is empty" in here.run(*line, expect=2).err
