"""What keeps the record from growing without end."""

from __future__ import annotations

from datetime import datetime

from models.base import Frozen


class UpkeepReport(Frozen):
    """What one look at the record's room came to; the next look goes on from it."""

    collected_at: datetime
    """when garbage was last collected"""
    kept_bytes: int | None = None
    """what the record took on disk after that; None where it is on another machine"""
    why: str = ""
    """why this look collected; "" where it did not"""


class UpkeepRequest(Frozen):
    """One look, after an earlier one."""

    last: UpkeepReport | None = None
