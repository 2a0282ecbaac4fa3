"""Every command that a page tells a person to type exists, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import app as gt
from cli.bead_app import app as bd
from cli.command import DefaultCommandGroup
from tests.fault_document import DOCUMENT, NOT_BUILT, commands_in

ROOT = Path(__file__).parents[2]
TO_BE = frozenset({"product.md", "interface.md", "architecture.md", "fault-recovery.zh.md"})
"""They say what there is to be; whether a command of theirs is there is for that command's own tests to say."""
PAGES = [
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in TO_BE),
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
]
_SPAN = re.compile(r"`((?:gt|bd) [^`\n]+)`")
_LINE = re.compile(r"^(?:    )?((?:gt|bd) .+)$", re.MULTILINE)
_ENDS = frozenset({"&&", ";", "|", ">", "…"})
_EVERYWHERE = frozenset({"--town", "--output", "-o", "--debug", "--help", "-h"})


def commands_of(text: str) -> Iterator[str]:
    """Command lines in code spans, in fenced and in indented blocks."""
    yield from _SPAN.findall(text)
    yield from _LINE.findall(text)


def problem_of(line: str) -> str:
    """What is wrong with a command line, "" where every command and option in it exists."""
    program, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_group(gt if program == "gt" else bd)
    for word in words:
        if word in _ENDS:
            break
        bare = word.strip("[],.")
        if bare.startswith("-"):
            if bare.split("=")[0] not in _EVERYWHERE and not _has_option(command, bare.split("=")[0]):
                return f"{command.name} has no option {bare}"
        elif hasattr(command, "commands"):
            found = [_subcommand(command, part) for part in bare.split("|")]
            if None in found:
                return f"{command.name or program} has no command {bare}"
            command = found[0]
    return ""


def _subcommand(group: Any, name: str) -> Any:
    found = group.get_command(None, name)
    if found is None and isinstance(group, DefaultCommandGroup):
        return group.commands[group.default]
    return found


def _has_option(command: Any, name: str) -> bool:
    if hasattr(command, "commands") and isinstance(command, DefaultCommandGroup):
        command = command.commands[command.default]
    return any(name in (*parameter.opts, *parameter.secondary_opts) for parameter in command.params)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists(page: Path) -> None:
    problems = {line: problem_of(line) for line in commands_of(page.read_text(encoding="utf-8"))}
    assert {line: problem for line, problem in problems.items() if problem} == {}


def test_every_command_of_the_faults_document_exists_or_is_named_as_not_built() -> None:
    lines = set(commands_in(DOCUMENT.read_text(encoding="utf-8")))
    there = {line for line in lines if line.startswith(("gt ", "bd ")) and not problem_of(line)}
    assert there ^ (lines - NOT_BUILT["command"]) == {"gt config backup"}, "to `gt config` any word names a setting"


def test_the_troubleshooting_page_names_commands_of_every_kind() -> None:
    named = {line.split()[1] for line in commands_of((ROOT / "docs" / "troubleshooting.md").read_text())}
    assert {"status", "inbox", "why", "job", "polecat", "refinery", "escalate", "alert", "config", "up"} <= named


@pytest.mark.parametrize(
    "line",
    ["gt fly", "gt polecat fly", "gt status --loud", "gt job show|fly sh-1", "bd fly sh-1", "gt up --wait --fast"],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert problem_of(line)


@pytest.mark.parametrize(
    "line",
    [
        "gt config health.check_interval 60 --rig shop",
        'gt escalate "which till?" --severity low',
        "gt polecat list|status -o json",
        "gt refinery queue --rig=R && gt fly",
        "gt up  # starts it",
    ],
)
def test_a_command_that_exists_is_left_alone(line: str) -> None:
    assert problem_of(line) == ""


def test_commands_are_read_out_of_spans_and_blocks() -> None:
    text = "Type `gt up` first.\n\n    gt down --sessions\n```\nbd ready\n```\nand `gitk` or gt alone\n"
    assert sorted(commands_of(text)) == ["bd ready", "gt down --sessions", "gt up"]
