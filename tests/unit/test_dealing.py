"""The long tests are dealt out to the test processes, each with those that share its set-up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.dealing import dealt

TESTS = [f"quick-{n}" for n in range(6)] + ["a-1", "b-1", "a-2", "c-1"]
LONG = [(test[0], test) for test in TESTS[6:]]


def test_each_part_begins_with_its_share_of_the_long_ones() -> None:
    order = dealt(TESTS, LONG, 2)
    assert order[:5] == ["a-1", "a-2", "c-1", "quick-0", "quick-1"]
    assert order[5:] == ["b-1", "quick-2", "quick-3", "quick-4", "quick-5"]


@given(quick=st.integers(0, 40), long=st.lists(st.integers(0, 5), max_size=30), hands=st.integers(1, 9))
def test_every_test_is_run_once_whatever_there_is(quick: int, long: list[int], hands: int) -> None:
    slow = [(key, f"long-{at}-{key}") for at, key in enumerate(long)]
    tests = [f"quick-{n}" for n in range(quick)] + [test for _, test in slow]
    assert sorted(dealt(tests, slow, hands)) == sorted(tests)
