"""The commands of an agent inside its session, as whole processes: they need the session's folder alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from agents import session_folder
from cli.frame.streams import UNWRITTEN
from tests.cli.conftest import Commands, git
from tests.cli.test_streams import in_shell

BEAD = "sh-1"


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """An attempt's folder, as a start leaves it."""
    folder = tmp_path / "sessions" / "shop" / "toast" / BEAD / "1"
    folder.mkdir(parents=True)
    record = {
        "bead": BEAD, "title": "Fix it", "rig": "shop", "polecat": "toast", "branch": f"polecat/{BEAD}",
        "target": "main", "worktree": str(tmp_path),
    }  # fmt: skip
    session_folder.write_json(folder / session_folder.SESSION, record)
    (folder / session_folder.TASK).write_text("# Fix it\n")
    return folder


@pytest.fixture
def agent(commands: Commands, session: Path, tmp_path: Path) -> Commands:
    """Commands inside that session, in a directory that is no town."""
    variables = {"GT_TASK_FILE": str(session / session_folder.TASK), "GT_RIG": "shop", "GT_BEAD": BEAD}
    return Commands(tmp_path, {**commands.environment, **variables})


def helps(session: Path) -> list[dict[str, str]]:
    folder = session / session_folder.HELP
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))] if folder.exists() else []


def test_work_on_another_branch_is_refused_with_the_command_that_brings_it_along(
    agent: Commands, session: Path, tmp_path: Path
) -> None:
    git("init", "-q", "-b", "main", str(tmp_path))
    (tmp_path / ".git" / "info" / "exclude").write_text("*\n")
    for branch in ("main", f"polecat/{BEAD}", "my-own"):
        git("-C", str(tmp_path), "switch", "-q", "--force-create", branch)
        git("-C", str(tmp_path), "commit", "-q", "--allow-empty", "-m", branch)
        git("-C", str(tmp_path), "update-ref", "refs/remotes/origin/main", "main")
    refused = agent.run("gt", "done", expect=5)
    assert f"the worktree is on my-own, your work belongs on polecat/{BEAD}" in refused.err
    subprocess.run(refused.err.split("hint: ")[1], shell=True, cwd=tmp_path, check=True)
    agent.run("gt", "done")


@pytest.mark.parametrize(
    "line",
    [
        "hook -o json", "-o json hook", "hook -ojson", "-ojson hook", "--output=json hook",
        "hook --town /nowhere -o json",
        "--town /nowhere -o json hook", "--town=/nowhere --debug hook --output json", "hook --debug -o=json",
    ],
)  # fmt: skip
def test_the_options_of_every_command_stand_before_or_behind_it(agent: Commands, line: str) -> None:
    assert agent.run("gt", *line.split()).json["bead"] == BEAD


@pytest.mark.parametrize(
    "line", ["-o json escalate stuck", "escalate stuck --town /nowhere -o json", "escalate stuck --debug -ojson"]
)
def test_a_call_for_help_stays_in_the_session_whatever_options_it_has(
    agent: Commands, session: Path, line: str
) -> None:
    assert agent.run("gt", *line.split()).json["bead"] == BEAD
    [told] = helps(session)
    assert (told["problem"], told["bead"]) == ("stuck", BEAD)


@pytest.mark.parametrize("line", ["hook --nonsense", "--nonsense hook", "hook -o", "hook extra", "hook -oyaml"])
def test_wrong_usage_is_told_as_such(agent: Commands, line: str) -> None:
    assert agent.run("gt", *line.split(), expect=2).err.startswith(("error: ", "Usage: "))


@pytest.mark.parametrize(
    ("line", "code"), [("gt heartbeat >&-", 0), ("gt heartbeat >/dev/full", 1), ("gt heartbeat 2>&- <&-", 0)]
)
def test_a_beat_is_heard_whatever_becomes_of_its_answer(agent: Commands, session: Path, line: str, code: int) -> None:
    done = in_shell(agent, line)
    assert (done.returncode, UNWRITTEN in done.stderr) == (code, code == 1)
    assert "Traceback" not in done.stderr
    assert (session / session_folder.HEARTBEAT).exists()


def test_an_attempt_that_is_over_is_refused_with_its_code_even_unheard(agent: Commands, session: Path) -> None:
    (session / session_folder.ENDED).write_text("it was ended")
    for line in ("gt done", "gt done 2>&-", "gt done 2>/dev/full"):
        assert in_shell(agent, line).returncode == 5


def test_a_letter_drives_no_terminal(agent: Commands, session: Path) -> None:
    odd = "\x1b]52;c;aGk=\x07 \x9b31m \u202e \u2066 plain"
    told = {"at": "2026-01-01T00:00:00Z", "from": odd, "subject": odd, "body": odd}
    session_folder.write_json(session / session_folder.INBOX / "m-1.json", told)
    (session / session_folder.TASK).write_text(odd)
    for line in ("mail inbox", "mail read m-1", "prime"):
        shown = agent.run("gt", *line.split()).out
        assert "plain" in shown
        assert not [letter for letter in odd if letter in shown and not letter.isprintable()]
    assert agent.run("gt", "mail", "read", "m-1", "-o", "json").json["body"] == odd
    assert "\x1b" not in agent.run("gt", "hook", "\x1b[31m", expect=2).err
