"""Text that somebody else wrote: what the record can keep of it, and what may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from models.errors import ErrorCode, GtError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Untrusted text as one line without control or direction characters."""
    return " ".join(plain(text).split())


def telling_lines(lines: Iterable[str]) -> list[str]:
    """Those that hold a letter or a digit, and so no mere rule, box or cursor; with single spaces."""
    return [" ".join(line.split()) for line in lines if any(map(str.isalnum, line))]


def plain(text: str) -> str:
    """Untrusted text without control or direction characters; newlines and tabs stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def storable_text(field: str, value: Any) -> Any:
    """Return `value` if a ledger can keep it faithfully; strings with NUL or lone surrogates it cannot.

    Raises:
        GtError: INVALID_VALUE, naming the field.
    """
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        raise GtError(ErrorCode.INVALID_VALUE, f"the {field} holds a NUL or half a surrogate pair, which no text may")
    return value
