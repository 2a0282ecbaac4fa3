"""Which variables a gate sees, and what gate.environment and the copy lists may say."""

from __future__ import annotations

import pytest

from models.errors import GtError
from models.settings import listed_files, listed_variables, parse_setting
from policies.refinery.gate_environment import WITHHELD, gate_environment


def test_toolchain_variables_pass_and_credentials_do_not() -> None:
    seen = gate_environment({"PATH": "/bin", "CARGO_HOME": "/c", "NPM_TOKEN": "x", "HOME": "/root"}, "/home", "mark")
    assert (seen["PATH"], seen["CARGO_HOME"], seen["HOME"]) == ("/bin", "/c", "/home")
    assert "NPM_TOKEN" not in seen


def test_the_names_of_what_is_withheld_are_told_and_no_values() -> None:
    seen = gate_environment({"NPM_TOKEN": "leaked", "AWS_REGION": "leaked", "PATH": "/bin"}, "/home", "mark")
    assert seen[WITHHELD] == "AWS_REGION NPM_TOKEN"
    assert "leaked" not in seen.values()


def test_a_setting_gives_the_workers_value_or_its_own() -> None:
    inherited = {"NPM_TOKEN": "x", "PATH": "/bin"}
    seen = gate_environment(inherited, "/home", "mark", wanted="NPM_TOKEN ABSENT 'FLAGS=-a -b' PATH=/opt/bin CI=")
    assert (seen["NPM_TOKEN"], seen["FLAGS"], seen["PATH"], seen["CI"]) == ("x", "-a -b", "/opt/bin", "")
    assert "ABSENT" not in seen
    assert seen[WITHHELD] == ""


def test_the_mark_of_a_run_cannot_be_set() -> None:
    assert gate_environment({}, "/home", "mark", wanted="GATE_RUN_ID=other")["GATE_RUN_ID"] == "mark"


@pytest.mark.parametrize("value", ["1X=2", "A-B", "'open", "=x"])
def test_what_is_no_variable_is_refused_when_it_is_set(value: str) -> None:
    with pytest.raises(GtError):
        parse_setting("gate.environment", value)


@pytest.mark.parametrize("value", ["../x", "/etc/passwd", ".git/config", "a//b", "a/./b", "'open", ".GIT"])
@pytest.mark.parametrize("key", ["gate.copy", "worktree.copy"])
def test_what_is_no_path_below_the_top_is_refused_when_it_is_set(key: str, value: str) -> None:
    with pytest.raises(GtError):
        parse_setting(key, value)


def test_names_with_spaces_are_quoted_as_in_a_shell() -> None:
    assert listed_files(".env 'my conf/' a/b") == [".env", "my conf", "a/b"]
    assert listed_variables("A=1 B 'C=x y'") == [("A", "1"), ("B", None), ("C", "x y")]
    assert parse_setting("gate.copy", ".env conf/key") == ".env conf/key"
