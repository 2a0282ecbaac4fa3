"""What `gt doctor` finds."""

from __future__ import annotations

from enum import StrEnum

from models.base import Frozen


class FindingState(StrEnum):
    OK = "ok"
    WARN = "warn"
    """weaker than it could be, and nothing is broken"""
    MEND = "mend"
    """not as the town would have it"""


class Finding(Frozen):
    """What one check found."""

    name: str
    state: FindingState
    found: str
    mend: str = ""
    """what to do about it; "" for nothing"""
