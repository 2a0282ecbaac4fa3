"""When the record's garbage is collected."""

from __future__ import annotations

from datetime import datetime, timedelta

from models.settings import LedgerSettings
from models.upkeep.ledger_gc import UpkeepReport


def garbage_due(last: UpkeepReport | None, now: datetime, bytes_now: int | None, settings: LedgerSettings) -> str:
    """Why garbage is to be collected now, "" where it is not.

    Args:
        bytes_now: what the record takes on disk; None where nobody can tell.
    """
    if last is None:
        return "never collected"
    if now - last.collected_at >= timedelta(seconds=settings.gc_interval):
        return f"last collected at {last.collected_at:%Y-%m-%d %H:%M}"
    if bytes_now is None or last.kept_bytes is None or not settings.gc_growth_bytes:
        return ""
    grown = bytes_now - last.kept_bytes
    return f"grown by {grown // 1_000_000} MB" if grown >= settings.gc_growth_bytes else ""
