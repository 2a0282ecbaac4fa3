"""A host with real tmux on a socket of its own, real worktrees, and agents that are shell commands."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.sessions.tmux import Tmux
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.sessions.desk import Desk


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tmux]:
    """A tmux server of the test's own; a socket's path must be short, so it is not under tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    server = Tmux(f"gt-{uuid.uuid4().hex[:8]}", folder / "tmux.json")
    yield server
    server.kill_server()
    shutil.rmtree(folder)


@pytest.fixture
def desk(town_paths: TownPaths, tmux: Tmux, rig: Rig) -> Iterator[Desk]:
    """Attempts on this host, as a job would ask for them."""
    desk = Desk(town_paths, tmux, rig, dict(os.environ))
    yield desk
    desk.end_all()
