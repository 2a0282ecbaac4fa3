"""When the record's garbage is collected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.settings import LedgerSettings
from models.upkeep.ledger_gc import UpkeepReport
from policies.upkeep.ledger_gc import garbage_due

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = LedgerSettings(gc_interval=86400, gc_growth_bytes=1000)


@pytest.mark.parametrize(
    ("hours_ago", "kept", "now", "due"),
    [
        (1, 500, 600, False),
        (1, 500, 1499, False),
        (1, 500, 1500, True),
        (23.9, 500, 400, False),
        (24, 500, 400, True),
        (1, None, 10**12, False),
        (1, 500, None, False),
        (24, None, None, True),
    ],
)
def test_it_is_due_once_an_interval_or_when_the_record_has_grown(
    hours_ago: float, kept: int | None, now: int | None, due: bool
) -> None:
    last = UpkeepReport(collected_at=NOW - timedelta(hours=hours_ago), kept_bytes=kept)
    assert bool(garbage_due(last, NOW, now, SETTINGS)) is due


def test_a_record_that_nobody_looked_at_is_due() -> None:
    assert garbage_due(None, NOW, None, SETTINGS)


def test_growth_does_not_matter_where_it_is_set_to_nothing() -> None:
    last = UpkeepReport(collected_at=NOW, kept_bytes=0)
    assert not garbage_due(last, NOW, 10**12, LedgerSettings(gc_growth_bytes=0))
