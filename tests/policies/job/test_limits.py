"""Limits that agents end at: which texts tell of one, when it is over, how long is waited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.job.limits import FURTHEST, LONGEST_GUESS, limit_seen, wait_at_limit

NOW = datetime(2026, 11, 30, 21, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def at(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "until"),
    [
        ("You've hit your limit · resets 3:02am (UTC)", at(1, 3, 2, month=12)),
        ("You've hit your limit · resets 9:28pm (UTC)", at(30, 21, 28)),
        ("You've hit your session limit · resets 5pm (America/Los_Angeles)", at(1, 1, month=12)),
        ("You've hit your weekly limit · resets Dec 3 at 5pm (UTC)", at(3, 17, month=12)),
        ("You've hit your limit · resets 11pm", at(30, 22)),
        ("Claude AI usage limit reached|1796073600\nYou've hit your limit - resets 5pm (UTC)", at(30, 21, 20) ),
        ("You’ve hit your usage limit. Upgrade to Pro or try again at 3:03 AM.", at(1, 2, 3, month=12)),
        ("You've hit your usage limit. Try again at Dec 2nd, 2026 12:30 PM.", at(2, 11, 30, month=12)),
        ("You've hit your usage limit, try again in 2 hours 5 minutes", at(30, 23, 35)),
        ("rate limit exceeded, retry after 20s", datetime(2026, 11, 30, 21, 30, 20, tzinfo=UTC)),
        ("API Error: Request rejected (429)", None),
        ("API Error: Repeated 529 Overloaded errors", None),
        ("You have exhausted your daily quota", None),
        ("You've hit your limit · resets 5pm (Mars/Olympus)", None),
        ("You've hit your limit · resets Feb 30 at 5pm", None),
        ("You've hit your limit · resets Aug 8th, 2031 12:30 PM", None),
        ("You've hit your limit · resets 17 o'clock", None),
    ],
)  # fmt: skip
def test_a_limit_and_when_it_is_over(said: str, until: datetime | None) -> None:
    found = limit_seen(f"working\n\n{said}\n❯\n", NOW, BERLIN)
    assert found is not None
    assert found.until == until


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Traceback (most recent call last):",
        "Not logged in · Please run /login",
        "assert response.status == 429",
        "tests/test_limit.py ..... 429 passed",
        "raise the memory limit",
        "You've hit your limit\n" + "\n".join(f"line {number}" for number in range(12)),
    ],
)
def test_what_is_none(said: str) -> None:
    assert limit_seen(said, NOW, BERLIN) is None


@given(st.text(max_size=200), st.sampled_from(["resets ", "try again at ", "try again in ", ""]))
def test_whatever_is_said_nothing_is_believed_that_is_too_far(text: str, when: str) -> None:
    found = limit_seen(f"usage limit reached {when}{text}", NOW, BERLIN)
    assert found is None or found.until is None or found.until - NOW <= FURTHEST


def test_how_long_is_waited() -> None:
    assert wait_at_limit(NOW + timedelta(hours=3), NOW, 5, 30, 0.5) == timedelta(hours=3, seconds=3)
    assert wait_at_limit(NOW - timedelta(hours=3), NOW, 0, 30, 0.0) == timedelta(seconds=1)
    guesses = [wait_at_limit(None, NOW, tries, 30, 0.0) for tries in (0, 1, 2, 100)]
    assert guesses == [timedelta(seconds=30), timedelta(seconds=60), timedelta(seconds=120), LONGEST_GUESS]
