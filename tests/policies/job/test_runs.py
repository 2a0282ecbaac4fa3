"""All runs of a bead's agent are bounded together, whatever they end with and in which order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.settings import PolecatSettings, RecoverySettings, Settings
from policies.job.runs import (
    RUNS_WITHOUT_CHANGE,
    Next,
    Spent,
    Then,
    after_end,
    after_reassignment_of_nobody,
    after_retry_of_nobody,
    after_sent_back,
    most_runs,
)

BRIEF = timedelta(seconds=1)


def settings(max_retries: int, max_reworks: int) -> Settings:
    return Settings(
        recovery=RecoverySettings(max_retries=max_retries), polecat=PolecatSettings(max_reworks=max_reworks)
    )


def follow(spent: Spent, outcome: str, limits: Settings) -> Next:
    """What follows a run that ended so; the Mayor's moves follow a run too."""
    match outcome:
        case "died" | "unchanged":
            return after_end(spent, BRIEF, limits.recovery, 0.5, unchanged=outcome == "unchanged")
        case "sent back":
            return after_sent_back(spent, limits.polecat.max_reworks)
        case "the Mayor retries":
            return after_retry_of_nobody(spent, limits.recovery)
        case _:
            return after_reassignment_of_nobody(spent)


def runs_of(outcomes: list[str], limits: Settings) -> int:
    """How often the agent runs; where a person is asked, the Mayor may still decide something, and a person never."""
    spent, runs = Spent(), 1
    for outcome in outcomes:
        following = follow(spent, outcome, limits)
        spent = following.spent
        runs += following.then is not Then.ASK
    return runs


OUTCOMES = ("died", "unchanged", "sent back", "the Mayor retries", "the Mayor reassigns")


@given(
    outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=60),
    max_retries=st.integers(0, 6),
    max_reworks=st.integers(0, 6),
)
def test_no_order_of_outcomes_gives_a_bead_more_runs_than_the_bound(
    outcomes: list[str], max_retries: int, max_reworks: int
) -> None:
    limits = settings(max_retries, max_reworks)
    assert runs_of(outcomes, limits) <= most_runs(limits) == max_retries + 2 + max_reworks


def test_the_bound_is_reached_so_it_is_no_looser_than_it_must_be() -> None:
    limits = settings(3, 5)
    outcomes = ["died"] * 2 + ["sent back"] * 5 + ["died"] * 10
    assert runs_of(outcomes, limits) == most_runs(limits) == 10


@pytest.mark.parametrize(
    ("outcome", "runs"),
    [("died", 5), ("sent back", 6), ("unchanged", 2), ("the Mayor retries", 4), ("the Mayor reassigns", 2)],
)
def test_what_always_ends_the_same_way_runs_so_often_by_default(outcome: str, runs: int) -> None:
    assert runs_of([outcome] * 30, Settings()) == runs


@pytest.mark.parametrize(
    ("ends", "asks"),
    [
        (["unchanged"], False),
        (["unchanged", "unchanged"], True),
        (["unchanged", "died", "unchanged"], False),
        (["died", "unchanged", "unchanged"], True),
    ],
)
def test_the_second_run_in_a_row_that_ends_well_without_a_change_asks_a_person_at_once(
    ends: list[str], asks: bool
) -> None:
    assert RUNS_WITHOUT_CHANGE == 2
    spent, then = Spent(), Then.RESTART
    for end in ends:
        following = follow(spent, end, Settings())
        spent, then = following.spent, following.then
    assert (then is Then.ASK) == asks


def test_an_agent_that_lived_long_gets_its_restarts_back_but_not_the_other_polecat() -> None:
    limits = settings(1, 0)
    spent = follow(follow(Spent(), "died", limits).spent, "died", limits).spent
    assert spent.reassigned
    long = after_end(spent, timedelta(seconds=limits.recovery.healthy_reset), limits.recovery, 0.5, unchanged=False)
    assert long.then is Then.RESTART
    assert follow(long.spent, "died", limits).then is Then.ASK
