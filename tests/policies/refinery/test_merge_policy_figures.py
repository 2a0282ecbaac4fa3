"""The figures of docs/merge-queue.md hold for the policies of today: means over the seeds of the benchmark."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.merge_policy import Yard, floor, ours, ours_whole, serial, simulate

OURS = pytest.mark.parametrize("method", [ours, ours_whole])


@OURS
def test_one_bad_change_in_ten_costs_at_most_0_55_runs_a_landing_and_sends_no_good_change_back(
    method: Callable[[Yard, int], None],
) -> None:
    figures = simulate(method, 0.1, 0.0)
    assert floor(0.1) < figures["runs_per_landed"] <= 0.55
    assert figures["wrongly_back_percent"] == 0.0


@OURS
def test_with_a_gate_that_lies_once_in_twenty_runs_it_costs_at_most_0_70_and_one_good_change_in_a_thousand(
    method: Callable[[Yard, int], None],
) -> None:
    figures = simulate(method, 0.1, 0.05)
    assert figures["runs_per_landed"] <= 0.70
    assert figures["wrongly_back_percent"] <= 0.1


def test_the_simulated_gate_costs_one_by_one_what_arithmetic_says() -> None:
    assert abs(simulate(serial, 0.1, 0.0)["runs_per_landed"] - 1 / 0.9) < 0.01
