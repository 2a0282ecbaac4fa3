"""When a town's directory counts as gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.place import Place, say_gone


def test_only_a_directory_that_was_deleted_or_moved_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "town"
    root.mkdir()
    place = Place(root)
    assert place.gone_s() == 0
    moved = root.rename(tmp_path / "elsewhere")
    first = place.gone_s()
    assert 0 < first <= place.gone_s()
    root.mkdir()
    assert place.gone_s() > 0, "another directory in its place is not the town"
    root.rmdir()
    moved.rename(root)
    assert place.gone_s() == 0
    say_gone(root, "its worker")
    assert f"the town {root} is gone" in capsys.readouterr().err
