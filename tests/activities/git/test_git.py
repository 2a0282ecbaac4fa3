"""git itself: what it must not pick up, and how its failures come out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from activities.git import command as git_module
from activities.git.command import GitRepo, init_bare, ls_remote
from models.errors import ErrorCode, GtError
from tests.activities.workshop import Workshop, git


@pytest.fixture
def clone(tmp_path: Path) -> GitRepo:
    path = tmp_path / "clone.git"
    init_bare(path)
    return GitRepo(path)


def test_git_variables_of_the_worker_redirect_nothing(
    clone: GitRepo, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    main = ls_remote(str(remote), ["refs/heads/main"])["refs/heads/main"]
    clone.fetch(str(remote), [f"{main}:refs/heads/main"])
    monkeypatch.undo()
    assert git(clone.git_dir, "rev-parse", "refs/heads/main") == main
    assert not (tmp_path / "elsewhere").exists()


def test_git_has_the_credentials_of_remotes_and_no_others(clone: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, withheld = {"SSH_AUTH_SOCK", "GITHUB_TOKEN"}, {"TEMPORAL_API_KEY", "GT_LEDGER_PASSWORD", "ANTHROPIC_API_KEY"}
    for name in kept | withheld:
        monkeypatch.setenv(name, "secret")
    seen = clone.run("-c", "alias.show-environment=!env", "show-environment").text
    assert {name for name in kept | withheld if f"{name}=secret" in seen.splitlines()} == kept


def test_the_users_own_configuration_changes_no_output(
    clone: GitRepo, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(
        "[color]\nui = always\n[log]\nshowSignature = true\n[core]\nhooksPath = /evil\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    main = ls_remote(str(remote), ["refs/heads/main"])["refs/heads/main"]
    clone.fetch(str(remote), [f"{main}:refs/heads/main"])
    assert clone.run("log", "-1", "--format=%H", "refs/heads/main").word == main
    assert clone.run("config", "core.hooksPath").word == "/dev/null"


def test_a_ref_is_found_by_its_full_name_alone(remote: Path, workshop: Workshop) -> None:
    workshop.git("push", "--quiet", "origin", "HEAD:refs/heads/refs/heads/main", "HEAD~1:refs/heads/x/main")
    assert set(ls_remote(str(remote), ["refs/heads/main"])) == {"refs/heads/main"}
    assert set(ls_remote(str(remote), ["refs/heads/x/*"])) == {"refs/heads/x/main"}


@pytest.mark.parametrize("form", ["{0}", "file://{0}"])
def test_paths_and_file_urls_are_remotes(remote: Path, form: str) -> None:
    assert "refs/heads/main" in ls_remote(form.format(remote), ["refs/heads/main"])


def test_a_remote_helper_is_refused_before_git_sees_it(tmp_path: Path) -> None:
    with pytest.raises(GtError) as caught:
        ls_remote(f"ext::touch% {tmp_path}/ran", ["refs/heads/main"])
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert not (tmp_path / "ran").exists()


def test_a_remote_that_nobody_serves_is_unreachable() -> None:
    with pytest.raises(GtError) as caught:
        ls_remote("https://127.0.0.1:1/shop.git", ["refs/heads/main"])
    assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE


def test_a_remote_that_never_answers_is_given_up(
    tmp_path: Path, clone: GitRepo, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "ssh"
    silent.write_text("#!/bin/sh\nexec sleep 1000\n")
    silent.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(silent))
    monkeypatch.setattr(git_module, "REMOTE_TIMEOUT_S", 0.5)
    with pytest.raises(GtError, match=r"did not complete") as caught:
        ls_remote("ssh://host/shop.git", ["refs/heads/main"])
    assert caught.value.code is ErrorCode.REMOTE_UNREACHABLE


def test_git_that_is_not_installed_is_named(clone: GitRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GtError) as caught:
        clone.resolve("HEAD")
    assert caught.value.code is ErrorCode.PROGRAM_MISSING


def test_a_revision_that_looks_like_an_option_is_no_option(clone: GitRepo) -> None:
    assert clone.resolve("--git-dir") is None
    assert os.path.isdir(clone.git_dir)
