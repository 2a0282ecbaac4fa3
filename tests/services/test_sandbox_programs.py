"""What PATH and a command line lead to is seen in the sandbox, wherever it is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from models.settings import SandboxSettings
from models.town import TownPaths
from services.sandbox import base_plan, in_sandbox

SYSTEM_PATH = "/usr/bin:/bin"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def said(tmp_path: Path, command: str, search: str) -> str:
    """What a command prints in the sandbox of a person whose HOME is another than the one PATH leads to."""
    town, work, home = tmp_path / "town", tmp_path / "town" / "work", tmp_path / "home"
    for folder in (work, home):
        folder.mkdir(parents=True, exist_ok=True)
    settings = SandboxSettings()
    plan = base_plan(TownPaths(town), settings, search, command, work, home, network=False)
    argv, environment = in_sandbox("bwrap", plan, settings, {"PATH": search, "HOME": str(home)})
    done = subprocess.run(
        [*argv, "sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=400
    )
    return done.stdout + done.stderr


def test_the_shims_of_a_version_manager_in_another_home(tmp_path: Path) -> None:
    manager = tmp_path / "login" / ".pyenv"
    script(manager / "libexec" / "pyenv", "#!/bin/sh\necho managed\n")
    script(manager / "shims" / "tool", f"#!/bin/sh\nexec {manager}/libexec/pyenv\n")
    (tmp_path / "login" / "diary").write_text("private")
    search = f"{manager}/shims:{SYSTEM_PATH}"
    assert said(tmp_path, "tool", search) == "managed\n"
    assert "diary" not in said(tmp_path, f"ls {tmp_path}/login", search)


@pytest.mark.parametrize("started", ["tool", "FLAGS=1 tool --x", "env A=b tool && true", "cd . && tool"])
def test_a_program_behind_a_link_and_the_interpreter_that_it_names(tmp_path: Path, started: str) -> None:
    interpreter = script(tmp_path / "login" / "runtimes" / "3" / "bin" / "runs", '#!/bin/sh\nsh "$@"\n')
    (interpreter.parents[1] / "lib").mkdir()
    real = script(tmp_path / "login" / "apps" / "tool" / "bin" / "tool", f"#!{interpreter}\necho found\n")
    links = tmp_path / "login" / "programs"
    links.mkdir()
    (links / "tool").symlink_to(os.path.relpath(real, links))
    assert said(tmp_path, started, f"{links}:{SYSTEM_PATH}") == "found\n"


def test_a_link_into_the_town_opens_nothing_of_it(tmp_path: Path) -> None:
    script(tmp_path / "town" / "secrets" / "tool", "#!/bin/sh\necho secret\n")
    links = tmp_path / "programs"
    links.mkdir()
    (links / "tool").symlink_to(tmp_path / "town" / "secrets" / "tool")
    assert "secret\n" not in said(tmp_path, "tool", f"{links}:{SYSTEM_PATH}")
