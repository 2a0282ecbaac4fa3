"""The registry of crash points and the code name the same points."""

from __future__ import annotations

import re
from pathlib import Path

from activities.crash_points import CRASH_POINTS

ROOT = Path(__file__).parents[2]
ANNOUNCED = re.compile(r"(?:crash_point|_tell)\(\s*\"([^\"]+)\"")
"""the ledger, which stands below the activities, tells its points to whom it is given"""


def test_every_registered_point_is_announced_in_the_code_and_no_other() -> None:
    announced: set[str] = set()
    for folder in ("activities", "ledger"):
        for module in (ROOT / folder).rglob("*.py"):
            announced |= set(ANNOUNCED.findall(module.read_text()))
    assert announced == set(CRASH_POINTS)


def test_points_are_registered_once() -> None:
    assert len(CRASH_POINTS) == len(set(CRASH_POINTS))
