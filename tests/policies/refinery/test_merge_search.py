"""The search for the shortest red prefix of a chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.refinery.batching import Knowledge, Red, batch_size, learn, next_probes, useless, whole_queue

RATES = st.floats(0.0, 1.0)


def search(reds: list[bool], failure_rate: float = 1 / 20, runners: int = 1) -> tuple[Knowledge, list[tuple[int, ...]]]:
    """Run the search where `reds[k]` says whether prefix k+1 is red; what it found, and what it gated in each round."""
    known, rounds = Knowledge(size=len(reds)), []
    while not known.settled:
        probes = next_probes(known, failure_rate, runners=runners)
        assert probes, f"nothing is gated although {known} is open"
        rounds.append(probes)
        for prefix in probes:
            known = learn(known, prefix, green=not reds[prefix - 1])
    return known, rounds


def red_from(size: int, culprit: int) -> list[bool]:
    """Every prefix that holds the change at place `culprit` (from 1) is red."""
    return [place >= culprit for place in range(1, size + 1)]


def gated(rounds: list[tuple[int, ...]]) -> list[int]:
    return [prefix for probes in rounds for prefix in probes]


class TestOneRunner:
    @pytest.mark.parametrize("size", range(1, 17))
    def test_a_green_chain_costs_one_run(self, size: int) -> None:
        known, rounds = search([False] * size)
        assert rounds == [(size,)]
        assert (known.green, known.suspect) == (size, None)

    @pytest.mark.parametrize("size", range(1, 33))
    def test_the_first_culprit_is_found_wherever_it_stands(self, size: int) -> None:
        for culprit in range(1, size + 1):
            known, rounds = search(red_from(size, culprit))
            assert (known.culprit(), known.green) == (culprit, culprit - 1)
            assert len(rounds) <= 3 + math.ceil(math.log2(size))

    def test_an_empty_chain_needs_no_run(self) -> None:
        assert next_probes(Knowledge(size=0), 0.05) == ()

    @given(st.lists(st.booleans(), min_size=1, max_size=64), RATES)
    def test_any_pattern_of_results_ends_at_a_red_prefix_behind_a_green_one(
        self, reds: list[bool], rate: float
    ) -> None:
        known, rounds = search(reds, rate)
        probes = gated(rounds)
        assert len(set(probes)) == len(probes), "no prefix is gated twice"
        if not reds[-1]:
            assert known.green == len(reds)
            return
        culprit = known.culprit()
        assert culprit is not None
        assert reds[culprit - 1]
        assert culprit == 1 or not reds[culprit - 2]


def brute_force_mean_runs(weights: tuple[float, ...]) -> float:
    """Mean depth of the best of all alphabetic binary trees over `weights`, every tree tried."""

    @cache
    def cost(low: int, high: int) -> float:
        if high - low == 1:
            return 0.0
        return sum(weights[low:high]) + min(cost(low, cut) + cost(cut, high) for cut in range(low + 1, high))

    return cost(0, len(weights)) / sum(weights)


def geometric(size: int, rate: float) -> tuple[float, ...]:
    return tuple((1 - rate) ** place * rate for place in range(size))


@cache
def mean_runs(size: int, rate: float) -> float:
    """Mean number of runs behind the first one, over where the culprit of a red chain may stand."""
    weights = geometric(size, rate)
    after = [len(search(red_from(size, place + 1), rate)[1]) - 1 for place in range(size)]
    return sum(weight * count for weight, count in zip(weights, after, strict=True)) / sum(weights)


class TestHalving:
    @pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.2, 0.3])
    def test_at_the_batch_size_it_costs_hardly_more_than_the_best_of_all_trees(self, rate: float) -> None:
        size = batch_size(rate, 1, 32)
        assert mean_runs(size, rate) <= 1.01 * brute_force_mean_runs(geometric(size, rate))

    @pytest.mark.parametrize("runners", [2, 3, 4])
    @pytest.mark.parametrize("size", [2, 3, 6, 9, 11, 64])
    def test_with_more_runners_a_red_stretch_is_cut_into_even_parts(self, size: int, runners: int) -> None:
        known = learn(Knowledge(size=size), size, green=False)
        bounds = [0, *next_probes(known, 0.1, runners=runners), size]
        widths = [high - low for low, high in pairwise(bounds)]
        assert max(widths) - min(widths) <= 1
        assert max(rounds_after_red(size, place, 0.1, runners) for place in range(1, size + 1)) <= math.ceil(
            math.log(size, runners + 1)
        )

    @given(st.integers(2, 256), RATES, st.integers(1, 64))
    def test_the_probes_of_a_red_stretch_lie_inside_it_and_each_once(
        self, size: int, rate: float, runners: int
    ) -> None:
        known = learn(Knowledge(size=size), size, green=False)
        probes = next_probes(known, rate, runners=runners)
        assert probes == tuple(sorted(set(probes)))
        assert probes[0] > 0
        assert probes[-1] < size
        assert len(probes) <= runners


def rounds_after_red(size: int, culprit: int, rate: float, runners: int) -> int:
    known, rounds = learn(Knowledge(size=size), size, green=False), 0
    while not known.settled:
        rounds += 1
        for prefix in next_probes(known, rate, runners=runners):
            known = learn(known, prefix, green=prefix < culprit)
    assert known.culprit() == culprit
    return rounds


class TestMoreRunners:
    def test_a_chain_for_two_runners_is_gated_at_two_places_at_once(self) -> None:
        size = batch_size(0.1, 1, 32, runners=2)
        assert size == 10
        probes = next_probes(Knowledge(size=size), 0.1, runners=2)
        assert probes == (4, 10), "the first red is equally likely in front of either"

    def test_a_chain_for_one_runner_is_not_cut_just_because_more_are_idle(self) -> None:
        assert next_probes(Knowledge(size=5), 0.1, runners=4) == (5,)

    def test_no_run_clears_more_than_the_largest_batch(self) -> None:
        assert next_probes(Knowledge(size=64), 0.002, runners=2, largest=32) == (32, 64)

    def test_while_nothing_is_red_what_flies_is_waited_for(self) -> None:
        known = learn(Knowledge(size=10), 4, green=True)
        assert next_probes(known, 0.1, runners=2, flying=(10,)) == ()

    def test_a_free_runner_takes_the_widest_stretch_beside_those_that_fly(self) -> None:
        known = learn(Knowledge(size=16), 16, green=False)
        (probe,) = next_probes(known, 0.01, runners=2, flying=(4,))
        assert 4 < probe < 16
        assert next_probes(learn(Knowledge(size=2), 2, green=False), 0.1, runners=3, flying=(1,)) == ()

    def test_results_that_can_decide_nothing_any_more_are_named(self) -> None:
        known = learn(learn(Knowledge(size=16), 8, green=False), 3, green=True)
        assert useless(known, (2, 3, 5, 8, 12, 16)) == {2, 3, 12, 16}

    @given(st.lists(st.booleans(), min_size=1, max_size=40), RATES, st.integers(1, 8), st.randoms())
    def test_results_in_any_order_lead_to_a_red_prefix_behind_a_green_one(
        self, reds: list[bool], rate: float, runners: int, random: object
    ) -> None:
        known = Knowledge(size=len(reds))
        flying: list[int] = []
        while not known.settled:
            flying += next_probes(known, rate, runners=runners, flying=tuple(flying))
            assert 0 < len(flying) <= runners
            prefix = flying.pop(random.randrange(len(flying)))  # type: ignore[attr-defined]
            known = learn(known, prefix, green=not reds[prefix - 1])
            flying = [each for each in flying if each not in useless(known, flying)]
        suspect = known.suspect
        if suspect is None:
            assert not reds[-1]
        else:
            assert reds[suspect - 1]
            assert suspect == 1 or not reds[suspect - 2]


class TestConfirming:
    def known(self) -> Knowledge:
        """A chain of eight whose third change is suspected; its fifth and its last prefix are red too."""
        known = Knowledge(size=8)
        for prefix, green in ((8, False), (5, False), (2, True), (3, False)):
            known = learn(known, prefix, green=green)
        return known

    def test_a_suspect_is_gated_again_until_it_is_confirmed(self) -> None:
        known = self.known()
        assert (known.suspect, known.culprit(), known.culprit(2)) == (3, 3, None)
        assert next_probes(known, 0.1, confirms=2) == (3,)
        assert next_probes(known, 0.1, confirms=2, runners=4) == (3, 3)
        assert next_probes(known, 0.1, confirms=2, runners=4, flying=(3,)) == (3,)
        for _ in range(2):
            known = learn(known, 3, green=False)
        assert known.culprit(2) == 3

    def test_a_suspect_that_passes_is_green_and_the_search_goes_on_with_the_reds_that_are_left(self) -> None:
        known = learn(self.known(), 3, green=True)
        assert (known.green, known.reds) == (3, (Red(prefix=5), Red(prefix=8)))
        assert next_probes(known, 0.1, confirms=1) == (4,)

    def test_a_chain_whose_only_red_does_not_come_again_is_green(self) -> None:
        known = learn(learn(Knowledge(size=1), 1, green=False), 1, green=True)
        assert (known.green, known.settled) == (1, True)

    def test_a_green_prefix_clears_the_shorter_ones(self) -> None:
        known = learn(learn(Knowledge(size=4), 2, green=False), 4, green=True)
        assert (known.green, known.reds, known.settled) == (4, (), True)

    def test_a_prefix_outside_the_chain_is_refused(self) -> None:
        for prefix in (0, 9):
            with pytest.raises(ValueError, match="no prefix"):
                learn(Knowledge(size=8), prefix, green=True)


class TestBatchSize:
    @pytest.mark.parametrize(
        ("rate", "expected"), [(0.02, 34), (0.05, 14), (0.1, 7), (0.2, 3), (0.3, 2), (0.5, 1), (0.0, 64), (1.0, 1)]
    )
    def test_the_batch_is_as_large_as_makes_every_second_one_green(self, rate: float, expected: int) -> None:
        assert batch_size(rate, 1, 64) == expected

    @given(RATES, st.integers(1, 16))
    def test_the_batch_stays_within_the_bounds_of_its_runners(self, rate: float, runners: int) -> None:
        assert 1 <= batch_size(rate, 1, 8, runners) <= 8 * runners
        assert batch_size(rate, 20, 32, runners) >= 20
        assert batch_size(rate, 10, 4, runners) <= 4 * runners

    @given(RATES)
    def test_more_runners_never_make_it_smaller(self, rate: float) -> None:
        sizes = [batch_size(rate, 1, 32, runners) for runners in range(1, 9)]
        assert sizes == sorted(sizes)


def runs_to_empty(waiting: int, rate: float, sizes: Callable[[int], list[int]]) -> float:
    """Mean runs until a queue that nothing is added to is decided, with the best of `sizes(left)` each time."""
    pass_rate, needed = 1 - rate, [0.0]

    def runs(size: int, left: int) -> float:
        red = [pass_rate**place * rate * needed[left - place - 1] for place in range(size)]
        return 1 + (1 - pass_rate**size) * mean_runs(size, rate) + sum(red) + pass_rate**size * needed[left - size]

    for left in range(1, waiting + 1):
        needed.append(min(runs(size, left) for size in sizes(left)))
    return needed[waiting]


class TestWholeQueue:
    @pytest.mark.parametrize("rate", [0.03, 0.05, 0.1, 0.2, 0.3])
    def test_a_queue_that_nothing_is_added_to_is_decided_with_nearly_the_fewest_runs(self, rate: float) -> None:
        best = batch_size(rate, 1, 64)
        whole = whole_queue(best, 64)
        for waiting in range(best, min(3 * best, 40)):
            fewest = runs_to_empty(waiting, rate, lambda left: list(range(1, left + 1)))
            ours = runs_to_empty(waiting, rate, lambda left: [left if left <= whole else best])
            assert ours <= 1.02 * fewest

    def test_it_is_no_larger_than_runners_may_clear(self) -> None:
        assert [whole_queue(best, 32) for best in (1, 3, 14, 30)] == [1, 4, 18, 32]
        assert whole_queue(60, 32, runners=2) == 64
