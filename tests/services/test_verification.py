"""What a rig's remote has: read from real remotes, beside clones that have all of it, a part, or nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.ledger.records import Rig
from models.town import TownPaths
from services.verification import remote_facts
from tests.e2e.living_town import git

COMMITS = 10_000
ABSENT = "f" * 40


@pytest.fixture
def paths(tmp_path: Path) -> TownPaths:
    return TownPaths(tmp_path / "town")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Ten thousand commits, every tenth a landing."""
    folder = tmp_path / "shop.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    parts = []
    for number in range(COMMITS):
        trailers = f"Bead: sh-{number}\nPolecat: shop/toast\nChange: {number:040x}\n"
        message = f"work {number}\n\n{trailers if number % 10 == 0 else 'by a person'}"
        head = f"commit refs/heads/main\ncommitter A <a@example.org> {1700000000 + number} +0000"
        body = f"M 100644 inline f{number % 50}\ndata {len(str(number))}\n{number}\n"
        parts.append(f"{head}\ndata {len(message)}\n{message}\n{body}")
    subprocess.run(
        ["git", "--git-dir", str(folder), "fast-import", "--quiet"], input="".join(parts).encode(), check=True
    )
    return folder


@pytest.fixture
def rig(remote: Path) -> Rig:
    return Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime.now(UTC))


def no_clone(_remote: Path, _clone: Path) -> None:
    pass


def whole(remote: Path, clone: Path) -> None:
    git(remote, "clone", "-q", "--bare", str(remote), str(clone))


def shallow(remote: Path, clone: Path) -> None:
    git(remote, "clone", "-q", "--bare", "--depth=1", f"file://{remote}", str(clone))


def blobless(remote: Path, clone: Path) -> None:
    git(remote, "config", "uploadpack.allowFilter", "true")
    git(remote, "clone", "-q", "--bare", "--filter=blob:none", f"file://{remote}", str(clone))


def behind(remote: Path, clone: Path) -> None:
    git(remote, "clone", "-q", "--bare", str(remote), str(clone))
    for ref in ("main", "main~1", "main~2"):
        git(clone, "update-ref", "refs/heads/main", f"{ref}~100")


@pytest.mark.parametrize("cloned", [no_clone, whole, shallow, blobless, behind])
def test_all_landings_and_the_commits_asked_about_are_found_whatever_the_clone_has(
    paths: TownPaths, rig: Rig, remote: Path, cloned: Callable[[Path, Path], None]
) -> None:
    clone = paths.clone("shop")
    clone.parent.mkdir(parents=True)
    cloned(remote, clone)
    every = git(remote, "log", "--format=%H", "main").split()
    # One that the remote has, but not on the target.
    aside = git(remote, "commit-tree", "-p", "main~5", "-m", "aside", "main^{tree}").strip()
    git(remote, "update-ref", "refs/heads/other", aside)
    asked = [every[1], every[-2], aside, ABSENT, "main", "--all"]
    facts = remote_facts(paths, rig, ["other", "gone"], asked)
    assert len(facts.landed) == COMMITS / 10
    newest = facts.landed[f"sh-{COMMITS - 10}"][0]
    assert facts.landings[newest].change == f"{COMMITS - 10:040x}"
    assert facts.landings[newest].at == datetime.fromtimestamp(1700000000 + COMMITS - 10, UTC)
    assert {each for each in asked if each in facts.shas} == {every[1], every[-2]}
    assert set(facts.others) == {"other"}
    assert {each for each in asked if each in facts.of("other").shas} == {every[-2], aside}
    assert facts.of("gone").shas == frozenset()


def test_a_person_s_hooks_and_settings_are_not_in_the_way(
    paths: TownPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, hooks = tmp_path / "small.git", tmp_path / "hooks"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(remote))
    tip = git(remote, "commit-tree", "-m", "work\n\nBead: sh-1\nChange: 1", git(remote, "mktree").strip()).strip()
    git(remote, "update-ref", "refs/heads/main", tip)
    hooks.mkdir()
    (hooks / "reference-transaction").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "reference-transaction").chmod(0o755)
    paths.root.mkdir()
    paths.git_config.write_text(f"[core]\n\thooksPath = {hooks}\n")
    (tmp_path / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n[safe]\n\tbareRepository = explicit\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_QUARANTINE_PATH", "/elsewhere")
    small = Rig(name="small", url=str(remote), prefix="sh", branch="main", created_at=datetime.now(UTC))
    assert remote_facts(paths, small).landed == {"sh-1": (tip,)}


def test_a_message_with_tabs_line_ends_and_folded_trailers_breaks_nothing(
    paths: TownPaths, rig: Rig, remote: Path
) -> None:
    for trailers in ("Bead: sh-x\ty\nChange: a\tb", "Bead: sh-z\n  folded\nChange: 1", "Bead:\nChange:"):
        tip = git(remote, "commit-tree", "-p", "main", "-m", f"odd\n\n{trailers}", "main^{tree}").strip()
        git(remote, "update-ref", "refs/heads/main", tip)
    assert {"sh-x", "sh-z"} <= set(remote_facts(paths, rig).landed)
