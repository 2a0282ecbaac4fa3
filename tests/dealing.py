"""Which of several test processes runs what first: the long tests, dealt out evenly."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

Test = TypeVar("Test")


def dealt(tests: Sequence[Test], long: Iterable[tuple[Hashable, Test]], hands: int) -> list[Test]:
    """The tests in an order whose `hands` equal parts each begin with their share of the long ones.

    pytest-xdist's `worksteal` first gives each process such a part, and only the end of one can be stolen: left
    in the order of their files, the long ones would all be one process's, and the last of them run alone.

    Args:
        tests: all of them.
        long: those that take long, each with what it shares its dear set-up with; those of one key stay together.
        hands: processes, at least 1.
    """
    of_key: dict[Hashable, list[Test]] = {}
    for key, test in long:
        of_key.setdefault(key, []).append(test)
    groups = list(of_key.values())
    first = [[test for group in groups[hand::hands] for test in group] for hand in range(hands)]
    is_long = {id(test) for hand in first for test in hand}
    rest = iter([test for test in tests if id(test) not in is_long])
    size, larger = divmod(len(tests), hands)
    order: list[Test] = []
    for hand, share in enumerate(first):
        order += share
        order += islice(rest, max(0, size + (hand < larger) - len(share)))
    return [*order, *rest]
