"""What every test runs under, and what the whole run reports at its end."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, and no limit on one example's time: how busy the machine is proves nothing.
settings.register_profile("gastown", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
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
