"""What the town's own git takes over from a person's configuration, and that nothing later reaches it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.git import command
from activities.git.command import GitRepo, init_bare, ls_remote, use_config
from models.town import TownPaths
from services.git_config import write_town_config

PERSON = """\
[user]
	name = Dev
	email = dev@example.com
[credential "https://example.com"]
	helper = "!f() { echo \\"quoted\\"; }; f"
[url "https://evil.invalid/"]
	insteadOf = https://example.com/
[core]
	editor = vim
	fsmonitor = evil
[filter "evil"]
	clean = evil
[merge]
	renames = false
[include]
	path = more
"""


@pytest.fixture
def person(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".gitconfig").write_text(PERSON)
    (home / "more").write_text("[http]\n\tproxy = http://proxy.invalid\n")
    (home / ".config" / "git" / "ignore").write_text(".idea/\n")
    return {"HOME": str(home), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def paths(tmp_path: Path) -> TownPaths:
    (tmp_path / "town").mkdir()
    return TownPaths(tmp_path / "town")


@pytest.fixture
def _no_config_afterwards() -> Iterator[None]:
    yield
    use_config(Path(os.devnull))


def settings(paths: TownPaths) -> dict[str, str]:
    listed = subprocess.run(
        ["git", "config", "--file", str(paths.git_config), "--list", "-z"], capture_output=True, check=True, text=True
    ).stdout
    return dict(entry.split("\n", 1) for entry in listed.split("\0") if entry)


def test_credentials_connections_and_identity_are_taken_over_by_name(paths: TownPaths, person: dict[str, str]) -> None:
    assert write_town_config(paths, person).identity == "Dev <dev@example.com>"
    assert settings(paths) == {
        "user.name": "Dev",
        "user.email": "dev@example.com",
        "credential.https://example.com.helper": '!f() { echo "quoted"; }; f',
        "http.proxy": "http://proxy.invalid",
        "core.excludesfile": str(paths.root / "gitignore"),
    }
    assert (paths.root / "gitignore").read_text() == ".idea/\n"
    assert stat.S_IMODE(paths.git_config.stat().st_mode) == 0o600


def test_a_person_without_any_configuration_has_no_identity(paths: TownPaths, tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    assert write_town_config(paths, nobody).identity == ""
    assert settings(paths) == {}


@pytest.mark.usefixtures("_no_config_afterwards")
def test_what_is_set_for_the_home_afterwards_leads_no_command_elsewhere(
    paths: TownPaths, person: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_town_config(paths, person)
    real, other = tmp_path / "real.git", tmp_path / "other.git"
    init_bare(real)
    init_bare(other)
    tree = GitRepo(other).run("hash-object", "-w", "-t", "tree", "--stdin", stdin=b"").word
    commit = GitRepo(other).run("commit-tree", "-m", "x", tree).word
    GitRepo(other).run("update-ref", "refs/heads/main", commit)
    monkeypatch.setenv("HOME", person["HOME"])
    subprocess.run(["git", "config", "--global", f"url.{other}.insteadOf", str(real)], check=True)
    use_config(paths.git_config)
    assert ls_remote(str(real), ["refs/heads/main"]) == {}
    assert command._ENVIRONMENT["GIT_CONFIG_GLOBAL"] == str(paths.git_config)
