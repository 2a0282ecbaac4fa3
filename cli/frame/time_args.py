"""Moments as people write them: a time, how long ago, or a commit."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from models.errors import ErrorCode, GtError

_AGO = re.compile(r"(\d{1,4})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_COMMIT = re.compile(r"[0-9a-z]{7,64}")


def parse(text: str) -> datetime | str:
    """A time (ISO 8601, UTC where no zone is named; or `2h`, `3d` ago), or the beginning of a commit's hash.

    Raises:
        GtError: INVALID_VALUE.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2]])
    # Before times: eight digits are a date in ISO 8601 too, but nobody writes it so here.
    if _COMMIT.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise GtError(
            ErrorCode.INVALID_VALUE,
            f"{text[:60]!r} is no moment",
            "write 2026-01-31T12:00:00Z, 2h, 3d, or a commit out of bd log",
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
