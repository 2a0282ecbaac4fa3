"""What holds for every command: imports, help, streams, exit codes, where the town is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import _MODULES, app
from cli.beads.app import app as beads_app
from models.errors import ExitCode
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import BIN, Commands

HEAVY = ("temporalio", "sqlalchemy", "pydantic", "rich", "psutil", "pymysql")
NOT_FOR_READING = (
    *("temporalio", "sqlalchemy", "rich", "psutil", "pymysql", "apprise", "git", "asyncio", "tomlkit"),
    *(
        "models.job.messages",
        "models.supervision.messages",
        "models.refinery.messages",
        "models.refinery.gates",
        "models.settings",
        "models.mayor.alerts",
    ),
)
"""for a command that reads beads out of an embedded ledger"""


def _all_commands(group: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [path]
    for name in group.list_commands(None) if hasattr(group, "list_commands") else []:
        found += _all_commands(group.get_command(None, name), (*path, name))
    return found


COMMANDS = _all_commands(typer.main.get_group(app), ("gt",)) + _all_commands(typer.main.get_group(beads_app), ("bd",))


class TestImports:
    @pytest.mark.parametrize("module", ["cli.gt", "cli.bd", "cli.app", "cli.beads.app", "cli.frame.entry"])
    def test_importing_a_program_loads_nothing_heavy(self, module: str) -> None:
        probe = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    def test_importing_the_program_alone_does_not_even_load_typer(self) -> None:
        probe = "import sys, cli.gt; print('typer' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_the_help_of_every_noun_loads_nothing_heavy(self) -> None:
        probe = (
            "import sys, importlib; from cli import app; from cli.beads import app as bead_app; import typer\n"
            "modules = {module for module, _ in (app._MODULES | bead_app._MODULES).values()}\n"
            "for module in modules: typer.main.get_group(importlib.import_module(module).app)\n"
            f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    @pytest.mark.parametrize("line", ["show BEAD", "list", "ready", "comments BEAD", "search login"])
    def test_reading_beads_loads_only_what_answers(self, line: str, commands: Commands, bead: Bead) -> None:
        """SQLAlchemy, and the models of everything else, took two thirds of a command's time."""
        argv = line.replace("BEAD", bead.id).split()
        probe = (
            "import sys; from cli.frame import entry; from cli.beads.app import app\n"
            f"code = entry.run(app, 'bd', {argv!r})\n"
            "loaded = {name.partition('.')[0] for name in sys.modules} | "
            "{name for name in sys.modules if name.startswith('models.')}\n"
            f"print(code, *sorted(loaded & {{*{NOT_FOR_READING!r}}}), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe],
            cwd=commands.cwd,
            env=commands.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.strip() == "0"

    def test_help_costs_at_most_two_and_a_half_times_a_bare_typer_program(self, commands: Commands) -> None:
        bare = "import typer; app = typer.Typer(rich_markup_mode=None); app.command()(lambda: None); app()"

        def cpu_s(argv: list[str]) -> float:
            """Of the processor, since what else runs here changes the wall time of either."""
            before = os.times()
            subprocess.run(argv, capture_output=True, check=True, env=commands.environment)
            after = os.times()
            return sum(after[2:4]) - sum(before[2:4])

        gt = [str(Path(sys.executable).parent / "gt"), "--help"]
        # In turn: what else runs here costs both of them time.
        pairs = [(cpu_s(gt), cpu_s([sys.executable, "-c", bare, "--help"])) for _ in range(7)]
        ours, bares = zip(*pairs, strict=True)
        assert min(ours) < 2.5 * min(bares)


class TestHelp:
    @pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
    def test_every_command_explains_itself(self, path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        from cli.frame import entry

        program = app if path[0] == "gt" else beads_app
        assert entry.run(program, path[0], [*path[1:], "--help"]) == 0
        shown = capsys.readouterr()
        assert f"Usage: {' '.join(path)}" in shown.out
        assert "--town" in shown.out
        assert shown.err == ""

    def test_the_contract_s_commands_are_all_there(self) -> None:
        known = {" ".join(path) for path in COMMANDS}
        wanted = """gt init|gt up|gt down|gt status|gt worker|gt demo|gt rig add|gt rig list|gt rig remove|gt sling
        |gt job list
        |gt job show|gt job cancel|gt job retry|gt job reassign|gt done|gt hook|gt prime|gt heartbeat|gt peek|gt attach
        |gt polecat list|gt polecat status|gt polecat peek|gt polecat attach|gt refinery queue|gt refinery pause
        |gt refinery resume|gt refinery process|gt refinery skip|gt refinery clear|gt escalate list|gt escalate ack
        |gt escalate resolve|gt config list|gt config unset|bd create|bd list|bd show|bd update|bd close|bd ready
        |bd dep add|bd dep remove|bd log"""
        assert {command.strip() for command in wanted.split("|")} <= known

    def test_the_list_of_nouns_says_what_their_modules_say(self) -> None:
        for name, (module, _) in _MODULES.items():
            loaded = __import__(module, fromlist=["app"])
            assert name in typer.main.get_group(loaded.app).commands

    def test_version_is_told(self, commands: Commands) -> None:
        assert commands.run("gt", "--version").out.startswith("gt ")
        assert commands.run("bd", "--version").out.startswith("bd ")


class TestWrongUsage:
    @pytest.mark.parametrize(
        "argv",
        [
            ("gt",),
            ("gt", "slin"),
            ("gt", "sling", "sh-1a2"),
            ("gt", "job", "show"),
            ("gt", "refinery", "queue"),
            ("gt", "escalate", "resolve", "x"),
            ("gt", "escalate", "resolve", "x", "--action", "explode"),
            ("gt", "status", "-o", "yaml"),
            ("gt", "status", "extra"),
            ("gt", "sling", "sh-1a2", "shop", "--timeout", "-1"),
            ("gt", "rig", "add", "shop", "/x", "--max-polecats", "0"),
            ("bd", "create", "x"),
            ("bd", "create", "x", "--rig", "shop", "-p", "5"),
            ("bd", "create", "x", "--rig", "shop", "-t", "wish"),
            ("bd", "list", "--status", "done"),
            ("bd", "update", "sh-1a2"),
        ],
        ids=" ".join,
    )
    def test_it_exits_2_and_says_so_on_standard_error_alone(
        self, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        from cli.frame import entry

        assert entry.run(app if argv[0] == "gt" else beads_app, argv[0], argv[1:]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "error: " in shown.err or "Usage: " in shown.err

    def test_a_typo_is_answered_with_the_nearest_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        from cli.frame import entry

        entry.run(app, "gt", ["refinary"])
        assert "Did you mean 'refinery'?" in capsys.readouterr().err

    def test_bytes_that_are_no_utf_8_are_refused(self, commands: Commands, rig: Rig) -> None:
        outcome = commands.run("bd", "create", b"caf\xe9", "--rig", "shop", expect=2)
        assert outcome.err.startswith("error: ")
        assert outcome.out == ""

    @pytest.mark.parametrize(
        "argv",
        [
            ("gt", "rig", "add", "--", "NAME", "/x"),
            ("gt", "rig", "remove", "--", "NAME"),
            ("gt", "sling", "--", "NAME", "shop"),
            ("gt", "sling", "--", "sh-1a2", "NAME"),
            ("gt", "job", "show", "--", "NAME"),
            ("gt", "peek", "--", "NAME"),
            ("gt", "refinery", "queue", "--rig=NAME"),
            ("gt", "refinery", "skip", "--", "NAME"),
            ("bd", "create", "x", "--rig=NAME"),
            ("bd", "show", "--", "NAME"),
            ("bd", "dep", "add", "--", "sh-1a2", "NAME"),
        ],
        ids=" ".join,
    )
    def test_a_hostile_name_is_refused_before_anything_is_touched(
        self,
        argv: tuple[str, ...],
        town: Town,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from cli.frame import entry

        monkeypatch.chdir(town.root)
        before = sorted(town.root.rglob("*"))
        # Which names are refused is the validators' table, in tests/models/test_names.py.
        for name in ("../x", "-x", "$(id)", "x" * 300, "", "a\nb"):
            words = [word.replace("NAME", name) for word in argv[1:]]
            assert entry.run(app if argv[0] == "gt" else beads_app, argv[0], words) == 2, name
            shown = capsys.readouterr()
            assert shown.out == ""
            assert shown.err.startswith("error: ")
            assert max(len(line) for line in shown.err.splitlines()) < 300
        assert sorted(town.root.rglob("*")) == before


class TestTown:
    def test_it_is_found_before_and_after_the_subcommand_and_by_the_environment(
        self, commands: Commands, town: Town, rig: Rig, tmp_path: Path
    ) -> None:
        elsewhere = Commands(tmp_path, commands.environment)
        root = str(town.root)
        assert elsewhere.run("gt", "rig", "list", expect=3).err.startswith("error: no town here")
        for argv in (
            ("gt", "--town", root, "rig", "list"),
            ("gt", "rig", "--town", root, "list"),
            ("gt", "rig", "list", "--town", root),
        ):
            assert elsewhere.json(*argv)[0]["name"] == "shop"
        assert elsewhere.run("gt", "rig", "list", "-o", "json", GT_TOWN=root).json[0]["name"] == "shop"

    def test_the_flag_wins_over_the_environment_and_the_nearer_flag_over_the_farther(
        self, commands: Commands, town: Town, rig: Rig, tmp_path: Path
    ) -> None:
        root = str(town.root)
        commands.run("gt", "rig", "list", "--town", root, GT_TOWN=str(tmp_path))
        commands.run("gt", "--town", str(tmp_path), "rig", "list", "--town", root)
        commands.run("gt", "rig", "list", expect=3, GT_TOWN=str(tmp_path))

    def test_a_directory_below_the_town_belongs_to_it(self, commands: Commands, town: Town, rig: Rig) -> None:
        below = Commands(town.root / "data", commands.environment)
        assert below.json("gt", "rig", "list")[0]["name"] == "shop"


class TestStreams:
    def test_json_may_be_asked_for_before_the_subcommand(self, commands: Commands, rig: Rig) -> None:
        assert commands.run("gt", "-o", "json", "rig", "list").json[0]["prefix"] == "sh"

    def test_a_failure_in_json_mode_leaves_standard_output_empty(self, commands: Commands, rig: Rig) -> None:
        outcome = commands.run("bd", "show", "sh-zzz", "-o", "json", expect=3)
        assert outcome.out == ""
        assert outcome.err == "error: there is no bead 'sh-zzz'\nhint: bd list\n"

    def test_a_traceback_is_shown_only_with_debug(self, commands: Commands, rig: Rig) -> None:
        assert "Traceback" not in commands.run("bd", "show", "sh-zzz", expect=3).err
        assert "Traceback" in commands.run("bd", "show", "sh-zzz", "--debug", expect=3).err
        assert "Traceback" in commands.run("bd", "show", "sh-zzz", expect=3, GT_DEBUG="1").err

    def test_a_reader_that_leaves_early_is_no_failure(self, commands: Commands, bead: Bead) -> None:
        for line in ("bd list -o json", "gt config list", "gt --help"):
            done = subprocess.run(
                ["bash", "-c", f"{line} | head -c 1; echo -n ${{PIPESTATUS[0]}}"],
                cwd=commands.cwd,
                env=commands.environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.endswith("0")
            assert done.stderr == ""

    def test_control_characters_of_a_title_do_not_reach_the_terminal(self, commands: Commands, rig: Rig) -> None:
        title = "red \x1b[31m and \x07 bell"
        shown = commands.run("bd", "create", title, "--rig", "shop").out
        assert "\x1b" not in shown
        assert "\\x1b[31m" in shown
        assert commands.json("bd", "list")[0]["title"] == title

    @pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
    def test_any_title_is_printed_in_any_locale(self, commands: Commands, rig: Rig, locale: str) -> None:
        title = "naïve 修复 🚀"
        made = commands.run("bd", "create", title, "--rig", "shop", "-o", "json", LC_ALL=locale, PYTHONUTF8="1").json
        assert made["title"] == title
        commands.run("bd", "show", made["id"], LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


class TestOutsideOfASession:
    @pytest.mark.parametrize("name", ["done", "hook", "prime", "heartbeat"])
    def test_an_agent_s_command_says_where_it_works(self, name: str, commands: Commands) -> None:
        outcome = commands.run("gt", name, "--status", "completed", expect=2)
        assert "inside a polecat's session" in outcome.err
        assert "hint: " in outcome.err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("gt init new", ExitCode.NOT_FOUND, "error: the current directory is gone\nhint: cd to another one\n"),
        ("gt rig add shop ./shop.git", ExitCode.NOT_FOUND, "error: the current directory is gone\nhint: cd to another"),
        ("gt rig add shop /nowhere/shop.git", None, "error: /nowhere/shop.git: "),
        ("gt rig list", ExitCode.DONE, ""),
    ],
)
def test_in_a_directory_that_was_deleted_only_what_needs_one_is_refused(
    commands: Commands, town: Town, tmp_path: Path, line: str, code: int | None, said: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    environment = commands.environment | {"GT_TOWN": str(town.root), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-c", f'rmdir "$PWD"; exec {line}'],
        cwd=gone, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert code is None or done.returncode == code
    assert said in done.stderr
    assert "current working directory" not in done.stderr
    assert "defect" not in done.stderr
