"""What the whole run reports at its end."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many crash points were killed at, and how many of those jobs landed exactly once."""
    counts = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "crash_points"
    ]
    if counts:
        points, passed = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(f"crash points: {points} points, {passed} passed")
