"""What text the record can keep."""

from __future__ import annotations

from typing import Any

from models.errors import ErrorCode, GtError


def storable_text(field: str, value: Any) -> Any:
    """Return `value` if a ledger can keep it faithfully; strings with NUL or lone surrogates it cannot.

    Raises:
        GtError: INVALID_VALUE, naming the field.
    """
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        raise GtError(ErrorCode.INVALID_VALUE, f"the {field} holds a NUL or half a surrogate pair, which no text may")
    return value
