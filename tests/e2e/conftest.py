"""Whole towns: real supervisord, Temporal, worker, tmux and git."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.living_town import running_town
from tests.e2e.quick_town import QuickTown


@pytest.fixture(params=["embedded", "server"])
def town(request: pytest.FixtureRequest) -> Iterator[QuickTown]:
    """A running town with the rig `shop`, once on each ledger engine."""
    with running_town(QuickTown, request.param) as living:
        yield living
