"""What the whole run shares: how properties are tried, and what it reports at its end."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long one example takes tells of the machine's load, not of the code; the run has its own time limit.
settings.register_profile("gastown", deadline=None)
settings.load_profile("gastown")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many crash points were killed at, how many of those jobs landed once, and how the chaos ended."""
    reports = terminalreporter.getreports("passed")
    properties = [(name, value) for report in reports for name, value in report.user_properties]
    counts = [value for name, value in properties if name == "crash_points"]
    if counts:
        points, passed = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(f"crash points: {points} points, {passed} passed")
    for name, line in properties:
        if name == "chaos":
            terminalreporter.write_line(str(line))
