"""The order of the merge queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from policies.queue_order import Candidate, order

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def waiting(name: str, *, priority: int = 2, hours: float = 0.0, setbacks: int = 0, now: bool = False) -> Candidate:
    return Candidate(id=name, priority=priority, submitted_at=NOW - timedelta(hours=hours), setbacks=setbacks, now=now)


def test_urgent_work_goes_first() -> None:
    assert order((waiting("low", priority=4, hours=5), waiting("high", priority=0)), NOW) == ("high", "low")


def test_equal_priority_goes_by_age() -> None:
    assert order((waiting("young"), waiting("old", hours=1)), NOW) == ("old", "young")


def test_equal_age_goes_by_id_so_that_the_order_never_depends_on_arrival() -> None:
    assert order((waiting("b"), waiting("a")), NOW) == order((waiting("a"), waiting("b")), NOW) == ("a", "b")


def test_a_change_that_troubled_the_queue_lets_others_pass() -> None:
    assert order((waiting("troubled", hours=2, setbacks=1), waiting("fresh")), NOW) == ("fresh", "troubled")


def test_setbacks_never_bury_a_change_for_good() -> None:
    buried = waiting("buried", hours=301, setbacks=1000)
    assert order((waiting("fresh"), buried), NOW) == ("buried", "fresh")


def test_the_least_urgent_change_is_merged_in_the_end() -> None:
    assert order((waiting("urgent", priority=0), waiting("patient", priority=4, hours=401)), NOW)[0] == "patient"


def test_a_change_that_stalled_alone_goes_behind_those_that_did_so_less_often() -> None:
    once = Candidate(id="once", priority=0, submitted_at=NOW - timedelta(hours=500), stalled_alone=1)
    twice = once.model_copy(update={"id": "twice", "stalled_alone": 2})
    assert order((twice, once, waiting("fresh", priority=4)), NOW) == ("fresh", "once", "twice")


def test_what_a_person_asked_for_goes_before_everything() -> None:
    assert order((waiting("urgent", priority=0, hours=9), waiting("asked", priority=4, now=True)), NOW)[0] == "asked"


@given(st.permutations(range(6)))
def test_the_order_does_not_depend_on_the_order_of_the_input(shuffled: list[int]) -> None:
    items = tuple(waiting(f"m{n}", priority=n % 3, hours=n * 7 % 5, setbacks=n % 2) for n in shuffled)
    expected = tuple(waiting(f"m{n}", priority=n % 3, hours=n * 7 % 5, setbacks=n % 2) for n in range(6))
    assert order(items, NOW) == order(expected, NOW)
