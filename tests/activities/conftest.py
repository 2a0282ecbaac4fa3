"""Real repositories for the activities' tests: a bare remote, a town, a rig, and somebody who commits."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.workshop import Workshop, git


@pytest.fixture(scope="session")
def remote_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each test's `remote` is a copy of: to copy it costs a tenth of making it."""
    path = tmp_path_factory.mktemp("template") / "shop.git"
    path.mkdir()
    git(path, "init", "--quiet", "--bare", "--initial-branch=main")
    first = _seed(path, {"README.md": "shop\n"}, None)
    second = _seed(path, {"README.md": "shop\n", "till.py": "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"}, first)
    git(path, "update-ref", "refs/heads/main", second)
    git(path, "update-ref", "refs/heads/release", first)
    return path


@pytest.fixture
def remote(tmp_path: Path, remote_template: Path) -> Path:
    """A bare repository with two commits on main and a branch `release`."""
    path = tmp_path / "remote" / "shop.git"
    shutil.copytree(remote_template, path)
    return path


def _seed(repository: Path, files: dict[str, str], parent: str | None) -> str:
    lines = []
    for name, content in files.items():
        blob = git(repository, "hash-object", "-w", "--stdin", stdin=content.encode())
        lines.append(f"100644 blob {blob}\t{name}\n")
    tree = git(repository, "mktree", stdin="".join(lines).encode())
    return git(repository, "commit-tree", *(["-p", parent] if parent else []), "-m", "Seed", tree)


@pytest.fixture
def town_paths(tmp_path: Path) -> TownPaths:
    return TownPaths(tmp_path / "town")


@pytest.fixture
def rig(remote: Path) -> Rig:
    return Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def workshop(remote: Path, tmp_path: Path) -> Workshop:
    return Workshop(remote, tmp_path / "workshop")


@pytest.fixture
def lfs_shop(workshop: Workshop) -> Workshop:
    """A clone of a remote that uses Git LFS: see `Workshop.use_lfs`."""
    workshop.use_lfs()
    return workshop
