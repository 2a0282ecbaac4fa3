"""The programs and the services run the product's own code, whatever Python finds in a person's environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gastown
from services.own_python import OWN_PYTHON

ROOT = Path(gastown.__file__).parent


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A project of a person's with packages of our names on PYTHONPATH, in a strict Python."""
    for name in ("cli", "models", "services", "agents", "supervisor", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('somebody else')")
    return os.environ | {"PYTHONPATH": f"{tmp_path}:{tmp_path}/missing", "PYTHONWARNINGS": "error"}


@pytest.mark.parametrize("program", ["gt", "bd"])
def test_packages_of_our_names_on_pythonpath_do_not_take_a_program_s_place(
    environment: dict[str, str], program: str
) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts[program].split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--help"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_runs_in_a_directory_that_was_deleted(environment: dict[str, str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from gastown import gt; sys.exit(gt())"
    given = environment | {"PYTHONPATH": f".:{environment['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--version"],
        cwd=gone, env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["services.supervisor.guard", "supervisor.supervisord", "worker"])
def test_a_service_ignores_what_a_person_has_set_for_python(environment: dict[str, str], module: str) -> None:
    done = subprocess.run(
        [*OWN_PYTHON, "-m", module, "--help"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_image_is_built_of_all_that_is_packaged() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    copied = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{part}" for part in build["targets"]["wheel"]["only-include"]} <= set(copied)
