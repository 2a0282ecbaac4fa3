"""Whole towns: real supervisord, Temporal, worker, tmux and git."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.living_town import LivingTown


@pytest.fixture(params=["embedded", "server"])
def town(request: pytest.FixtureRequest) -> Iterator[LivingTown]:
    """A running town with the rig `shop`, once on each ledger engine."""
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = LivingTown(Path(folder), store=request.param)
        try:
            living.init()
            living.run("gt", "up")
            living.add_rig()
            yield living
        finally:
            living.close()
