"""One living town for every test here: their faults stay their own, and are undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.held_agents import CALM, supervised_town
from tests.e2e.quick_town import QuickTown


@pytest.fixture(scope="package")
def shop() -> Iterator[QuickTown]:
    """On the embedded ledger: each test has beads of its own, and leaves no session or setting behind."""
    with supervised_town(CALM) as living:
        yield living
