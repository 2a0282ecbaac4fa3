"""Every command that a page or the program itself tells a person to type exists, with its options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import app as gt
from cli.beads.app import app as bd
from cli.frame.command import DefaultCommandGroup
from tests.fault_document import DOCUMENT, NOT_BUILT, commands_in

ROOT = Path(__file__).parents[2]
NOT_PAGES_OF_COMMANDS = frozenset({"fault-recovery.zh.md", "roadmap.md"})
"""The user's own document, whose commands tests/fault_document.py goes through, and what is not built."""
PAGES = [
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in NOT_PAGES_OF_COMMANDS),
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
]
PARTS = ("models", "policies", "workflows", "activities", "ledger", "services", "cli", "agents")
MODULES = [ROOT / "worker.py", *(module for part in PARTS for module in sorted((ROOT / part).rglob("*.py")))]
_HINT = re.compile(r"(?:^|[:;,(`] ?|\b(?:or|see|with|then) |&& ?)((?:gt|bd) [a-z-]+(?![a-z-]*:)[^`;,)]*)")
_VALUE = "{}"
"""stands where the program fills a value in"""
_SPAN = re.compile(r"`((?:gt|bd) [^`\n]+)`")
_LINE = re.compile(r"^(?:    )?((?:gt|bd) .+)$", re.MULTILINE)
_ENDS = frozenset({"&&", ";", "|", ">", "…"})
_VALUED = frozenset({"--town", "--output", "-o"})
_EVERYWHERE = frozenset({"--town", "--output", "-o", "--debug", "--help", "-h"})


def commands_of(text: str) -> Iterator[str]:
    """Command lines in code spans, in fenced and in indented blocks."""
    yield from _SPAN.findall(text)
    yield from _LINE.findall(text)


def problem_of(line: str) -> str:
    """What is wrong with a command line, "" where every command and option in it exists."""
    program, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_group(gt if program == "gt" else bd)
    remaining = iter(words)
    for word in remaining:
        if word in _ENDS:
            break
        if word in _VALUED:
            next(remaining, None)
            continue
        bare = word.strip("[],.")
        if bare.startswith("-"):
            if bare.split("=")[0] not in _EVERYWHERE and not _has_option(command, bare.split("=")[0]):
                return f"{command.name} has no option {bare}"
        elif hasattr(command, "commands"):
            if bare == _VALUE:
                break
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
    if command.context_settings.get("ignore_unknown_options"):
        return True  # It reads its words by itself: one that agents run.
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return set(name.split("/")) <= known  # `--wait/--no-wait` are two


def hints_of(source: str) -> Iterator[str]:
    """Command lines in the strings of a module, docstrings aside."""
    for text in _strings(ast.parse(source)):
        yield from (line.strip() for line in _HINT.findall(text))


def _strings(tree: ast.AST) -> Iterator[str]:
    aside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            aside.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            aside.update(id(value) for value in node.values)
            yield "".join(str(value.value) if isinstance(value, ast.Constant) else _VALUE for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in aside:
            yield node.value


def test_every_command_in_a_hint_exists() -> None:
    """The next step that a person is shown is one that can be taken."""
    problems: dict[str, str] = {}
    seen = 0
    for module in MODULES:
        for line in hints_of(module.read_text(encoding="utf-8")):
            seen += 1
            if problem := problem_of(line):
                problems[f"{module.relative_to(ROOT)}: {line}"] = problem
    assert problems == {}
    assert seen > 150


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise GtError(1, "x", "gt fly --high")', ["gt fly --high"]),
        ('hint = f"gt refinery {word} --rig {rig}"', ["gt refinery {} --rig {}"]),
        ('hint = "free some room; gt fly, then: bd fly"', ["gt fly", "bd fly"]),
        ('say("see `gt fly` (or bd fly)")', ["gt fly", "bd fly"]),
        ('title = "gt alert: it burns"', []),
        ('def f():\n    """gt fly"""', []),
    ],
)
def test_commands_are_read_out_of_a_program_s_strings(source: str, found: list[str]) -> None:
    assert list(hints_of(source)) == found


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
