"""Asking before a gate or an alert channel goes, where somebody sits who can answer."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from models.ledger.records import Rig
from tests.cli.conftest import BIN, Commands
from tests.cli.test_agent_rights import session as session
from tests.pace import DEADLINE_S

LINES = {
    "gate": "refinery gate remove test --rig shop",
    "channel": "alert channel remove slack",
}


@pytest.fixture
def there(commands: Commands, rig: Rig) -> Commands:
    url = commands.cwd / "url"
    url.write_text("json://example.org/hook\n")
    commands.run("gt", "alert", "channel", "add", "slack", "--file", str(url))
    return commands


def remaining(commands: Commands, what: str) -> list[str]:
    if what == "gate":
        return [gate["name"] for gate in commands.json("gt", "refinery", "gate", "list", "--rig", "shop")["gates"]]
    return [channel["name"] for channel in commands.json("gt", "alert", "channel", "list")]


def on_a_terminal(commands: Commands, line: str, answer: bytes) -> int:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [str(BIN / "gt"), *line.split()], cwd=commands.cwd, env=commands.environment, stdin=theirs,
            stdout=subprocess.DEVNULL, stderr=theirs,
        )  # fmt: skip
        os.write(ours, answer)
        return process.wait(DEADLINE_S)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("what", LINES)
def test_a_person_is_asked_and_a_no_leaves_it(there: Commands, what: str) -> None:
    assert on_a_terminal(there, LINES[what], b"n\n") == 5
    assert len(remaining(there, what)) == 1
    assert on_a_terminal(there, LINES[what], b"y\n") == 0
    assert remaining(there, what) == []


@pytest.mark.parametrize("what", LINES)
@pytest.mark.parametrize("yes", ["", " --yes"])
def test_a_script_is_not_asked(there: Commands, what: str, yes: str) -> None:
    there.run("gt", *f"{LINES[what]}{yes}".split())
    assert remaining(there, what) == []


@pytest.mark.parametrize("line", [*LINES.values(), "rig remove shop"])
def test_an_agent_cannot_consent(there: Commands, session: os.PathLike[str], line: str) -> None:
    outcome = there.run("gt", *line.split(), "--yes", expect=5, GT_TASK_FILE=os.path.join(session, "task.md"))
    assert "is not an agent's to run" in outcome.err
