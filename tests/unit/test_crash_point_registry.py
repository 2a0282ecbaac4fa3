"""The registry of crash points and the code name the same points."""

from __future__ import annotations

import re
from pathlib import Path

from activities.crash_points import CRASH_POINTS

ACTIVITIES = Path(__file__).parents[2] / "activities"


def test_every_registered_point_is_announced_in_the_code_and_no_other() -> None:
    announced: set[str] = set()
    for module in ACTIVITIES.rglob("*.py"):
        if module.name != "crash_points.py":
            announced |= set(re.findall(r"crash_point\(\s*\"([^\"]+)\"", module.read_text()))
    assert announced == set(CRASH_POINTS)


def test_points_are_registered_once() -> None:
    assert len(CRASH_POINTS) == len(set(CRASH_POINTS))
