"""A host with real tmux on a socket of its own, real worktrees, and agents that are shell commands."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.git.worktree.worktrees import Worktrees
from activities.sessions.attempts import AttemptActivities
from activities.sessions.tmux import Tmux
from models.ledger.records import Rig
from models.settings import SandboxSettings
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


@pytest.fixture
def confined(desk: Desk, tmp_path: Path) -> Desk:
    """Attempts in the sandbox, of a person whose HOME has a login, a git config and a secret."""
    home = tmp_path / "home"
    for name, text in {
        ".gitconfig": "[user]\n\tname = Ada\n\temail = ada@example.org\n",
        ".claude/.credentials.json": "{}",
        ".claude/settings.json": "{}",
        ".ssh/id_ed25519": "secret",
        ".local/bin/helper": "#!/bin/sh\necho helped\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / ".local/bin/helper").chmod(0o755)
    path = f"{home}/.local/bin:{os.environ['PATH']}"
    desk.environment = {**os.environ, "HOME": str(home), "PATH": path, "SSH_AUTH_SOCK": "/nowhere"}
    desk.attempts = AttemptActivities(desk.paths, desk.tmux, Worktrees(desk.paths), desk.environment)
    desk.sandbox = SandboxSettings(mode="bwrap")
    return desk
