"""File permissions that hold for the test as they hold for any user, also where root runs the tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_VERSION: Final = 0x20080522
"""of `capget(2)` and `capset(2)`, with two words for each set"""
_PASSES_BY_PERMISSIONS: Final = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH"""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody gets into `folder` meanwhile: not this thread, and not those that it starts."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        with _bound_by_permissions():
            yield
    finally:
        folder.chmod(mode)


@contextlib.contextmanager
def _bound_by_permissions() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    effective = sets[0]
    sets[0] = effective & ~_PASSES_BY_PERMISSIONS
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
