"""A town of one's own with a real embedded ledger, and the programs to run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.engine.embedded import load_doltlite
from ledger.store import Ledger
from models.ledger.records import Bead, GateSpec, NewBead, Rig
from services.init_town import create_town
from services.town import Town
from tests.pace import DEADLINE_S

# Before any test module imports sqlite3: afterwards doltlite cannot take its place.
load_doltlite()

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Commands:
    """`gt` and `bd` as whole processes, in a directory."""

    def __init__(self, cwd: Path, environment: dict[str, str]) -> None:
        self.cwd = cwd
        self.environment = environment

    def run(self, *argv: str | bytes, expect: int | None = 0, **environment: str) -> Outcome:
        """Run one command line; `expect` is its exit code, None for any."""
        done = subprocess.run(
            [str(BIN / os.fsdecode(argv[0])), *argv[1:]],
            cwd=self.cwd,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=DEADLINE_S,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        assert expect is None or outcome.code == expect, f"{argv} ended {outcome}"
        return outcome

    def json(self, *argv: str) -> Any:
        return self.run(*argv, "-o", "json").json


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The caller's, without anything that names a town or a session."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GT_", "TEMPORAL_", "TMUX"))}
    return {**kept, "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return create_town(tmp_path / "town", "test", "embedded").town


@pytest.fixture
def ledger(town: Town) -> Iterator[Ledger]:
    opened = Ledger.open(town.ledger_url())
    yield opened
    opened.close()


@pytest.fixture
def rig(ledger: Ledger) -> Rig:
    return ledger.add_rig(
        Rig(
            name="shop",
            url="/nowhere/shop.git",
            prefix="sh",
            branch="main",
            gates=(GateSpec(name="test", command="true"),),
            created_at=datetime.now(UTC),
        )
    )


@pytest.fixture
def bead(ledger: Ledger, rig: Rig) -> Bead:
    return ledger.create_bead(NewBead(rig=rig.name, title="Fix the login"))


@pytest.fixture
def commands(town: Town, environment: dict[str, str]) -> Commands:
    return Commands(town.root, environment)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare repository with the branches main and dev."""
    seed, bare = tmp_path / "seed", tmp_path / "shop.git"
    git("init", "-q", "-b", "main", str(seed))
    git("-C", str(seed), "commit", "-q", "--allow-empty", "-m", "first")
    git("-C", str(seed), "branch", "dev")
    git("clone", "-q", "--bare", str(seed), str(bare))
    return bare


def git(*argv: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", *identity, *argv], check=True, capture_output=True)


class Here:
    """`gt` and `bd` in this process, in the town's directory: fast, for what needs no process of its own."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def run(self, *argv: str, expect: int | None = 0) -> Outcome:
        """Run one command line; `expect` is its exit code, None for any."""
        from cli.app import app
        from cli.beads.app import app as beads
        from cli.frame import entry

        self._capture.readouterr()
        code = entry.run(app if argv[0] == "gt" else beads, argv[0], argv[1:])
        shown = self._capture.readouterr()
        outcome = Outcome(code, shown.out, shown.err)
        assert expect is None or code == expect, f"{argv} ended {outcome}"
        return outcome

    def json(self, *argv: str) -> Any:
        return self.run(*argv, "-o", "json").json


@pytest.fixture
def here(town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    for key in [key for key in os.environ if key.startswith(("GT_", "TEMPORAL_"))]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(town.root)
    return Here(capsys)
