"""What `gt` and `bd` refuse inside a session: everything that is not an agent's to run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from agents import session_folder
from cli.app import app as gt
from cli.beads.app import app as bd
from cli.frame import entry
from cli.session import agent, agent_rights
from cli.session.agent import USAGE
from cli.session.agent_session import Refusal
from ledger.store import Ledger
from models.errors import ExitCode, GtError
from models.ledger.records import Bead
from models.settings import AgentSettings, listed_commands, parse_setting
from tests.cli.conftest import Commands

ROOT = Path(__file__).parents[2]
MAY = listed_commands(AgentSettings().may)
READING = set(agent_rights.OF_A_BEAD)


def every_command() -> Iterator[str]:
    """In full, `gt refinery gate remove`, out of the registries of both programs."""

    def within(group: Any, path: str) -> Iterator[str]:
        for name in group.list_commands(None):
            found = group.get_command(None, name)
            if hasattr(found, "list_commands"):
                yield from within(found, f"{path} {name}")
            else:
                yield f"{path} {name}"

    yield from within(typer.main.get_group(gt), "gt")
    yield from within(typer.main.get_group(bd), "bd")


EVERY = sorted(every_command())
OWN = {f"gt {name}" for name in USAGE}
OTHERS = sorted(set(EVERY) - OWN - READING - set(MAY))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is in a session, of a town that is away."""
    folder = tmp_path / "sessions" / "shop" / "toast" / "sh-1" / "1"
    folder.mkdir(parents=True)
    (folder / session_folder.TASK).write_text("# Fix it\n")
    allow(folder, MAY, bead="sh-1")
    monkeypatch.setenv("GT_TASK_FILE", str(folder / session_folder.TASK))
    return folder


def allow(folder: Path, may: list[str], **more: str) -> None:
    kept = session_folder.read_json(folder / session_folder.SESSION) or {"rig": "shop", "polecat": "toast"}
    session_folder.write_json(folder / session_folder.SESSION, {**kept, "may": may, **more})


@pytest.fixture
def inside(session: Path, commands: Commands, bead: Bead) -> Commands:
    """Commands in that session, of a town with its ledger."""
    allow(session, MAY, bead=bead.id)
    return Commands(commands.cwd, {**commands.environment, "GT_TASK_FILE": str(session / session_folder.TASK)})


def test_the_registries_name_what_a_town_can_be_harmed_with() -> None:
    assert len(EVERY) > 90
    assert {"gt refinery gate remove", "gt alert channel remove", "gt rig remove", "gt down", "bd close"} <= set(OTHERS)


@pytest.mark.parametrize("form", ["{}", "{} --help", "{} -o json x --yes"])
def test_every_other_command_is_refused_before_anything_is_loaded_or_contacted(
    session: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    answers = {}
    for line in OTHERS:
        program, *argv = form.format(line).split()
        answers[line] = agent.run(program, argv)
        said = capsys.readouterr().err
        assert "is not an agent's to run" in said
        assert 'hint: gt escalate "what you need"' in said
    assert set(answers.values()) == {ExitCode.REFUSED}, answers


def test_nor_is_one_run_that_gets_past_the_first_look(session: Path) -> None:
    """The command that is run is asked about, whatever its line looked like."""
    for line in OTHERS:
        with pytest.raises(Refusal):
            agent_rights.require_allowed(line)
    assert entry.run(gt, "gt", ["status"]) == ExitCode.REFUSED
    assert entry.run(bd, "bd", ["list"]) == ExitCode.REFUSED


@pytest.mark.parametrize(
    "line",
    [
        "gt -o json refinery --town /x gate remove test --rig shop", "gt --town=/x --debug refinery gate remove x",
        "gt -ojson down", "gt refinery -- clear", "gt escalate list", "gt escalate ack x", "gt --output json rig list",
        "gt escalate stuck --kind disk_full", "gt mail inbox --identity shop/refinery", "gt mail search x",
        "gt nothing", "bd -o json close sh-1", "bd dep tree sh-1", "gt mail reply m1 x", "gt polecat attach toast",
    ],
)  # fmt: skip
def test_options_in_front_hide_no_command(session: Path, line: str) -> None:
    program, *argv = line.split()
    assert agent.run(program, argv) == ExitCode.REFUSED


@pytest.mark.parametrize("line", ["gt", "gt --help", "gt --version", "bd -h", "gt --nonsense clear"])
def test_what_is_no_command_is_left_to_the_program(session: Path, line: str) -> None:
    program, *argv = line.split()
    assert agent.run(program, argv) is None


def test_what_the_setting_names_is_allowed_and_nothing_beside_it(session: Path) -> None:
    allow(session, ["bd list", "gt refinery queue", "gt job"])
    for line, allowed in {
        "bd list": True, "bd ready": False, "bd comment sh-1 x": False, "gt refinery queue --rig shop": True,
        "gt refinery -o json queue": True, "gt refinery clear": False, "gt refinery": False, "gt job list": True,
        "gt job cancel sh-1": True, "gt jobs": False, "gt list": False, "gt mail send human -s x": False,
    }.items():  # fmt: skip
        program, *argv = line.split()
        assert (agent.run(program, argv) is None) is allowed, line


def test_an_attempt_that_is_over_acts_no_more_and_reads_its_bead(
    inside: Commands, session: Path, bead: Bead, ledger: Ledger
) -> None:
    (session / session_folder.ENDED).write_text("the job is over")
    assert "is over: the job is over" in inside.run("bd", "comment", bead.id, "late", expect=5).err
    inside.run("gt", "mail", "send", "human", "-s", "late", "x", expect=5)
    inside.run("bd", "show", bead.id)
    assert ledger.comments(bead.id) == []


def test_a_session_without_a_readable_record_allows_nothing_more(session: Path) -> None:
    (session / session_folder.SESSION).unlink()
    assert {agent.run(line.split()[0], line.split()[1:]) for line in MAY} == {ExitCode.REFUSED}


def test_the_own_bead_can_be_read_and_talked_about_and_no_other(
    inside: Commands, session: Path, bead: Bead, ledger: Ledger
) -> None:
    assert inside.json("bd", "show", bead.id)["title"] == bead.title
    inside.run("bd", "comment", bead.id, "nearly done")
    (said,) = inside.json("bd", "comments", bead.id)
    assert said["author"] == "shop/toast", "whatever the environment says"
    assert inside.json("bd", "log", bead.id)
    for line in ("show", "comments", "log", "comment"):
        words = ["x"] if line == "comment" else []
        refused = inside.run("bd", line, "sh-999", *words, expect=5, GT_RIG="shop", GT_POLECAT="nux")
        assert f"its own bead is {bead.id}" in refused.err
    allow(session, ["bd show", "bd comment"])
    inside.run("bd", "show", "sh-999", expect=3)
    inside.run("bd", "comment", "sh-999", "x", expect=5)


def test_the_own_bead_can_be_read_where_the_town_is_out_of_reach(inside: Commands, session: Path, bead: Bead) -> None:
    allow(session, MAY, title="Fix it", description="It is broken.")
    away = inside.run("bd", "show", bead.id, "-o", "json", GT_TOWN="/nowhere")
    assert away.json | {"id": bead.id, "rig": "shop", "status": "in_progress", "assignee": "shop/toast"} == away.json
    assert away.err.startswith("warning: as of the start of attempt")
    assert "It is broken." in inside.run("bd", "show", bead.id, GT_TOWN="/nowhere").out


def test_mail_goes_to_its_rig_and_to_people_under_its_own_name(inside: Commands) -> None:
    sent = inside.json("gt", "mail", "send", "human", "-s", "Hello", "x")
    assert sent["from" if "from" in sent else "sender"] == "shop/toast"
    inside.run("gt", "mail", "send", "shop/nux", "-s", "Hello", "x", GT_RIG="shop", GT_POLECAT="refinery")
    for other in ("bank/nux", "bank/refinery", "deacon"):
        assert "do not write to" in inside.run("gt", "mail", "send", other, "-s", "x", expect=5).err


def test_a_message_of_another_session_is_not_found(inside: Commands) -> None:
    assert "no message" in inside.run("gt", "mail", "read", "m-1", expect=3).err


def test_prime_names_what_is_allowed(inside: Commands, session: Path, bead: Bead) -> None:
    allow(session, ["bd ready"])
    shown = inside.run("gt", "prime").out
    assert f"  bd show {bead.id}\n" in shown
    assert "  bd ready\n" in shown


def test_a_refusal_repeats_no_long_title_and_drives_no_terminal(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for title in ("x" * 500, "\x1b]52;c;aGk=\x07"):
        assert agent.run("bd", ["create", title]) == ExitCode.REFUSED
        assert capsys.readouterr().err.startswith("error: `bd create` is not an agent's to run")


def test_a_refusal_loads_no_command_line(session: Path) -> None:
    code = (
        "import sys; from cli.session import agent; "
        "print(agent.run('bd', ['list']), *{'typer', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"{ExitCode.REFUSED}\n"


@pytest.mark.parametrize(
    ("setting", "commands"),
    [
        ("", []),
        ("bd list", ["bd list"]),
        ("bd show|list|ready", ["bd show", "bd list", "bd ready"]),
        ("bd list, gt mail send,bd ready", ["bd list", "gt mail send", "bd ready"]),
        ("bd list bd ready gt refinery gate list", ["bd list", "bd ready", "gt refinery gate list"]),
        ("list, create", ["bd list", "bd create"]),
        ("bd list, bd list", ["bd list"]),
    ],
)
def test_the_setting_is_a_list_of_commands(setting: str, commands: list[str]) -> None:
    assert listed_commands(setting) == commands
    assert listed_commands(parse_setting("agent.may", setting)) == commands


@pytest.mark.parametrize("setting", ["bd", "gt , bd list", "bd --force", "bd list;gt down", "$(x)", "bd show|"])
def test_a_setting_that_names_no_command_is_refused(setting: str) -> None:
    with pytest.raises(GtError):
        parse_setting("agent.may", setting)


def test_the_setting_takes_commands_that_exist(commands: Commands, bead: Bead) -> None:
    shown = commands.json("gt", "config", "agent.may", "bd show|list", "--rig", "shop")
    assert json.dumps(shown["value"]) == '"bd show, bd list"'
    assert "there is no command `bd fly`" in commands.run("gt", "config", "agent.may", "bd fly", expect=2).err
    assert "separated by commas" in commands.run("gt", "config", "agent.may", "bd list ready", expect=2).err
