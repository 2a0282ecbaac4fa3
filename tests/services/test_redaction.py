"""A town's own secrets, out of its private files, in text that is kept or sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.town import TownPaths
from services.redaction import Redactor

HOOK = "json://bot:tr0ub4dor@chat.internal:8443/hooks/a1b2c3d4e5f6?key=plain"


def test_the_values_of_its_files_are_hidden_and_read_anew_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = TownPaths(tmp_path)
    redactor = Redactor(paths)
    text = f"said birthday-cake, {HOOK} and a1b2c3d4e5f6, tr0ub4dor, from-outside, plain chat.internal"
    assert "birthday-cake" in redactor.text(text)
    paths.secrets.write_text('dolt_password = "birthday-cake"\n')
    paths.channels.write_text(f'[channels]\nhook = "{HOOK}"\n')
    monkeypatch.setenv("GT_LEDGER_PASSWORD", "from-outside")
    hidden = "[redacted: a secret of this town]"
    assert redactor.text(text) == f"said {hidden}, {hidden} and {hidden}, {hidden}, {hidden}, plain chat.internal"
    assert redactor.data(b"birthday-cake") == hidden.encode()
    paths.secrets.write_text('dolt_password = "another-cake"\n')
    assert redactor.text("birthday-cake another-cake") == f"birthday-cake {hidden}"
    paths.channels.write_text("not TOML [")
    assert redactor.text("another-cake") == hidden


def test_nothing_of_a_town_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert Redactor(TownPaths(tmp_path / "nowhere")).text("words") == "words"
