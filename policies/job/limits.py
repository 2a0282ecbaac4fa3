"""Usage limits that agent programs name as they end: they last for hours, and are waited out.

The texts are those of claude, codex, gemini and the APIs behind them, as their programs print them.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from models.texts import telling_lines

LINES: Final = 12
"""so many of the last lines that say something are looked at"""
FURTHEST: Final = timedelta(days=8)
"""A limit by the week is over by then; what is named for later is not believed."""
JUST_OVER: Final = timedelta(minutes=5)
"""A time of day that has passed by less than this is meant, and not tomorrow's."""
MOST_IN_A_ROW: Final = 60
"""Then what looks like a limit counts as a death: at half an hour each that is more than a day."""
LONGEST_GUESS: Final = timedelta(minutes=30)

_LIMIT: Final = re.compile(
    r"hit your (\w+ ){0,2}limit|(usage|session|weekly|daily|opus|rate)[ -]limit (is |was )?(reached|exceeded|hit)"
    r"|limit reached|exhausted your (\w+ ){0,3}quota|quota (exceeded|exhausted)|rate_limit_error|resource_exhausted"
    r"|too many requests|\b(rejected|error:?) \(?429\b|\b529\b.{0,12}overloaded|overloaded_error",
    re.IGNORECASE,
)
_EPOCH: Final = re.compile(r"limit reached\|(\d{10})\b", re.IGNORECASE)
_WHEN: Final = r"(?:resets?|try again|available again|until)\b"
_IN: Final = re.compile(
    rf"(?:{_WHEN}|retry)(?: after| in)? ((?:\d+ ?(?:d|h|m|s|days?|hours?|hrs?|min(?:ute)?s?|sec(?:ond)?s?)\b[ ,]*)+)",
    re.IGNORECASE,
)
_PART: Final = re.compile(r"(\d+) ?([dhms])", re.IGNORECASE)
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_AT: Final = re.compile(
    rf"{_WHEN}(?: on)?(?: at)? (?:(?P<month>[A-Z][a-z]{{2}})[a-z]*\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?"
    r"(?: (?P<year>\d{4}),?)?(?: at)? )?(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])\.?m\b\.?"
    r"(?: ?\((?P<zone>[\w/+-]+)\))?",
    re.IGNORECASE,
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Limit(NamedTuple):
    words: str
    """the line that tells of it"""
    until: datetime | None
    """UTC; None: it names no time, or none that can be"""


def limit_seen(last_lines: str, now: datetime, zone: tzinfo) -> Limit | None:
    """The limit that an agent ended at; None: it ended of something else.

    Args:
        now: with its zone.
        zone: of the host: times of day are meant in it where they name none.
    """
    said = telling_lines(last_lines.splitlines())[-LINES:]
    told = next((line for line in reversed(said) if _LIMIT.search(line)), None)
    if told is None:
        return None
    times = (_until(line, now, zone) for line in said)
    named = [at for at in times if at is not None and at - now <= FURTHEST]
    return Limit(told[:300], min(named, default=None))


def wait_at_limit(until: datetime | None, now: datetime, tries: int, first_s: float, jitter: float) -> timedelta:
    """How long to wait before the next try.

    Args:
        until: None: not known; each further wait is twice as long, and no longer than LONGEST_GUESS.
        tries: that ended at a limit before this one, in a row.
        first_s: the first wait where no time is known.
        jitter: a random number in [0, 1): many agents of one account do not begin in the same second.
    """
    if until is not None:
        return max(until - now, timedelta(0)) + timedelta(seconds=1 + 4 * jitter)
    guess = min(timedelta(seconds=max(first_s, 1) * 2 ** min(tries, 20)), LONGEST_GUESS)
    return guess * (1 + jitter / 4)


def _until(line: str, now: datetime, zone: tzinfo) -> datetime | None:
    if epoch := _EPOCH.search(line):
        return datetime.fromtimestamp(int(epoch[1]), now.tzinfo)
    if spans := _IN.search(line):
        named = {_UNITS[unit.lower()]: int(number) for number, unit in _PART.findall(spans[1])}
        return now + timedelta(**named) if all(number < 10_000 for number in named.values()) else None
    found = _AT.search(line)
    if found is None:
        return None
    try:
        there = now.astimezone(ZoneInfo(found["zone"]) if found["zone"] else zone)
        hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "p" else 0)
        at = there.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
        if found["month"]:
            month = _MONTHS.index(found["month"].lower()) + 1
            at = at.replace(year=int(found["year"] or at.year), month=month, day=int(found["day"]))
            if not found["year"] and at < there - JUST_OVER:
                at = at.replace(year=at.year + 1)
        elif at < there - JUST_OVER:
            at += timedelta(days=1)
    except (ValueError, KeyError, OverflowError):
        # No such day, or no such zone: ZoneInfoNotFoundError is a KeyError.
        return None
    return at.astimezone(now.tzinfo)
