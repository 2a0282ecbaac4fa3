"""Workflow code of today does what ran before: a change that does not would stop every running job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay.histories import HISTORIES, load
from tests.replay.paths import missing
from tests.replay.strict import replay

RECORDED = sorted(HISTORIES.glob("*.json.gz"))


def test_every_path_of_every_workflow_has_a_recorded_history() -> None:
    assert missing([load(file) for file in RECORDED]) == []


def test_the_histories_are_small_enough_to_be_kept() -> None:
    assert sum(file.stat().st_size for file in RECORDED) < 3_000_000


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.name.removesuffix(".json.gz"))
async def test_a_recorded_history_replays(file: Path) -> None:
    await replay(load(file))
