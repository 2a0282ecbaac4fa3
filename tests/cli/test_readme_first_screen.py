"""What README's first screen shows is what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.work import remote_look
from models.remotes import RemoteFound

README = Path(__file__).resolve().parents[2] / "README.md"


def test_gt_rig_add_says_of_a_remote_what_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    remote_look.say("shop", "main", RemoteFound(default_branch="main", branches=1, push=True, files=1240, lfs=True))
    (said,) = capsys.readouterr().err.splitlines()
    assert f"# {said}\n" in README.read_text(encoding="utf-8")
