"""The search for the shortest red prefix of a chain."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.merge_search import Knowledge, batch_size, learn, next_probe


def search(reds: list[bool], failure_rate: float = 1 / 20) -> tuple[Knowledge, list[int]]:
    """Run the search where `reds[k]` says whether prefix k+1 is red; return what it found and what it gated."""
    known, probes = Knowledge(size=len(reds)), []
    while (prefix := next_probe(known, failure_rate)) is not None:
        probes.append(prefix)
        known = learn(known, prefix, green=not reds[prefix - 1])
    return known, probes


def red_from(size: int, culprit: int) -> list[bool]:
    """Every prefix that holds the change at place `culprit` (from 1) is red."""
    return [place >= culprit for place in range(1, size + 1)]


@pytest.mark.parametrize("size", range(1, 17))
def test_a_green_chain_costs_one_run(size: int) -> None:
    known, probes = search([False] * size)
    assert probes == [size]
    assert known.culprit is None
    assert known.green == size


@pytest.mark.parametrize("size", range(1, 17))
def test_the_first_culprit_is_found_wherever_it_stands(size: int) -> None:
    for culprit in range(1, size + 1):
        known, probes = search(red_from(size, culprit))
        assert known.culprit == culprit
        assert known.green == culprit - 1
        assert len(probes) <= 2 + math.ceil(math.log2(size))


def test_an_empty_chain_needs_no_run() -> None:
    assert next_probe(Knowledge(size=0)) is None


@given(st.lists(st.booleans(), min_size=1, max_size=64), st.floats(0.0, 1.0))
def test_any_pattern_of_results_ends_at_a_red_prefix_behind_a_green_one(reds: list[bool], rate: float) -> None:
    known, probes = search(reds, rate)
    assert len(set(probes)) == len(probes), "no prefix is gated twice"
    if not reds[-1]:
        assert known.green == len(reds)
        return
    assert known.culprit is not None
    assert reds[known.culprit - 1]
    assert known.culprit == 1 or not reds[known.culprit - 2]


@given(st.integers(2, 256), st.data())
def test_an_unlikely_culprit_costs_at_most_a_run_more_for_each_likely_batch_before_it(
    size: int, data: st.DataObject
) -> None:
    culprit = data.draw(st.integers(1, size))
    _, probes = search(red_from(size, culprit))
    assert len(probes) <= 2 + math.ceil(math.log2(size)) + size / batch_size(1 / 20, 1, 256)


def test_a_result_outside_what_is_open_is_refused() -> None:
    known = learn(learn(Knowledge(size=8), 8, green=False), 4, green=True)
    with pytest.raises(ValueError, match="not open"):
        learn(known, 4, green=False)
    with pytest.raises(ValueError, match="not open"):
        learn(known, 8, green=True)


def optimal_mean_depth(weights: list[float]) -> float:
    """Mean depth of the best alphabetic binary tree over `weights` (dynamic programming)."""
    count = len(weights)
    sums = [0.0]
    for weight in weights:
        sums.append(sums[-1] + weight)
    best = [[0.0] * count for _ in range(count)]
    for span in range(1, count):
        for start in range(count - span):
            end = start + span
            split = min(best[start][k] + best[k + 1][end] for k in range(start, end))
            best[start][end] = split + sums[end + 1] - sums[start]
    return best[0][count - 1] / sums[count]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("size", [2, 5, 9, 14, 16])
def test_the_search_costs_at_most_three_percent_more_than_the_best_tree(size: int, rate: float) -> None:
    weights = [(1 - rate) ** place * rate for place in range(size)]
    runs = [len(search(red_from(size, place + 1), rate)[1]) - 1 for place in range(size)]
    mean = sum(weight * run for weight, run in zip(weights, runs, strict=True)) / sum(weights)
    assert mean <= optimal_mean_depth(weights) * 1.03


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.02, 34), (0.05, 14), (0.1, 7), (0.2, 3), (0.3, 2), (0.5, 1), (0.0, 64), (1.0, 1)]
)
def test_the_batch_is_as_large_as_makes_every_second_one_green(rate: float, expected: int) -> None:
    assert batch_size(rate, 1, 64) == expected


def test_the_batch_stays_within_the_configured_bounds() -> None:
    assert batch_size(0.05, 1, 8) == 8
    assert batch_size(0.05, 20, 32) == 20
    assert batch_size(0.05, 10, 4) == 4
