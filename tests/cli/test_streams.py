"""Standard streams that are closed, full or left by their reader: exit code and result are what they always are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from models.ledger.records import Bead, Rig
from tests.cli.conftest import BIN, Commands
from tests.pace import DEADLINE_S


def in_shell(commands: Commands, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        cwd=commands.cwd,
        env={**commands.environment, "PATH": f"{BIN}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("gt rig remove shop <&-", 2),
        ("gt alert channel add slack <&-", 2),
        ("bd comment BEAD - <&-", 2),
        ("gt config health.check_interval 60 >&-", 0),
        ("gt config list -o json >&-", 0),
        ("gt rig list --nonsense >&-", 2),
        ("bd show sh-none >&-", 3),
        ("bd show sh-none 2>&-", 3),
        ("gt config list --rig nosuch 2>&-", 3),
        ("bd show BEAD <&- >&- 2>&-", 0),
        ("bd show sh-none 2>/dev/full", 3),
        ("{ bd show sh-none; echo $? >&3; } 3>&1 2>&1 >/dev/null | true; exit 3", 3),
    ],
)
def test_a_closed_stream_changes_neither_exit_code_nor_result(
    commands: Commands, rig: Rig, bead: Bead, line: str, code: int
) -> None:
    done = in_shell(commands, line.replace("BEAD", bead.id))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr


def test_what_is_made_with_standard_output_closed_is_made_once_and_said_to_be(commands: Commands, rig: Rig) -> None:
    assert in_shell(commands, "bd create 'only once' --rig shop >&-").returncode == 0
    assert [bead["title"] for bead in commands.json("bd", "list")] == ["only once"]


def test_a_result_without_errors_reader_is_whole(commands: Commands, rig: Rig) -> None:
    done = in_shell(commands, "gt alert set --type=disk_full --channel=slack -o json 2>/dev/full")
    assert (done.returncode, '"channel": "slack"' in done.stdout) == (0, True)


def test_a_result_that_cannot_be_written_is_a_failure_that_is_told(commands: Commands, rig: Rig) -> None:
    done = in_shell(commands, "gt rig list -o json >/dev/full")
    assert done.returncode == 1
    assert "its result cannot be written" in done.stderr


def test_a_reader_that_left_standard_error_does_not_change_the_exit_code(commands: Commands, tmp_path: Path) -> None:
    code = tmp_path / "code"
    in_shell(commands, f"(bd show sh-none; echo $? > {code}) 2>&1 | true")
    assert code.read_text().strip() == "3"


@pytest.mark.parametrize("program", ["gt", "bd"])
def test_an_interrupt_while_the_program_is_loaded_is_an_interrupt(program: str) -> None:
    probe = (
        f"import sys; from cli import {program}\n"
        "class Late:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cli.frame.entry': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Late())\n"
        f"sys.argv = ['{program}', '--help']\n"
        f"sys.exit({program}.main())"
    )
    done = subprocess.run(
        ["python3", "-c", probe], env={"PATH": f"{BIN}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("program", ["gt", "bd"])
def test_what_an_interrupt_left_half_made_is_shown_with_debug_alone(program: str) -> None:
    """As asyncio's event loop is, when Ctrl-C comes while it is made."""
    probe = (
        f"import sys; from cli import {program}\n"
        "class HalfMade:\n"
        "    def __del__(self): self.of_its_constructor\n"
        "class Late:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cli.frame.entry': HalfMade(); raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Late())\n"
        f"sys.exit({program}.main())"
    )
    for debug in (False, True):
        argv = ["python3", "-c", probe, "--help", *(["--debug"] if debug else [])]
        done = subprocess.run(argv, env={"PATH": f"{BIN}:/usr/bin:/bin"}, capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (130, debug)
