"""The demonstration's repository is made in its own folder, whatever the caller's git works on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.demo import project


def test_a_hook_s_variables_and_a_person_s_hooks_and_signing_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "demo"
    theirs.mkdir()
    folder.mkdir()
    for name, value in {
        "GIT_DIR": theirs / ".git",
        "GIT_WORK_TREE": theirs,
        "GIT_INDEX_FILE": theirs / "index",
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = false\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    remote = project.make_remote(folder)
    assert project.trailers(remote) == {}
    assert list(theirs.iterdir()) == []
