"""The restart budget: for every delay, budget and window it can be reached, and it expires."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.settings import RecoverySettings
from policies.job.restarts import JITTER, WAVES, Restart, RestartBudget, after_death, wave_size

NOW = timedelta(0)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


@st.composite
def any_settings(draw: st.DrawFn) -> RecoverySettings:
    """Every combination that the ranges allow, the odd ones too."""
    return RecoverySettings(
        max_retries=draw(st.integers(0, 100)),
        retry_delay=draw(st.integers(0, 3600)),
        max_delay=draw(st.integers(0, 86400)),
        window=draw(st.integers(1, 604800)),
        healthy_reset=draw(st.integers(1, 604800)),
    )


jitters = st.floats(0, 1, exclude_max=True)


def deaths(settings: RecoverySettings, lives: Sequence[float], jitter: float = 0.5) -> list[Restart]:
    """What follows each of these lives, given in seconds."""
    budget, answers = RestartBudget(), []
    for life in lives:
        answer = after_death(budget, seconds(life), settings, jitter)
        budget = answer.budget
        answers.append(answer)
    return answers


# --- the table: defaults of product.md ------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "allowed", "delay_s"),
    [(1, True, 0), (2, True, 30), (3, True, 60), (4, False, 0)],
)
def test_an_agent_that_dies_at_once_is_started_again_at_once_then_after_thirty_then_sixty_seconds_then_no_more(
    death: int, allowed: bool, delay_s: int
) -> None:
    answer = deaths(RecoverySettings(), [1.0] * death)[-1]
    assert (answer.allowed, answer.delay) == (allowed, seconds(delay_s))
    assert answer.number == (death if allowed else 0)


def test_delays_double_up_to_the_limit() -> None:
    answers = deaths(RecoverySettings(max_retries=8), [0.0] * 8)
    assert [answer.delay.total_seconds() for answer in answers] == [0, 30, 60, 120, 240, 480, 600, 600]


@pytest.mark.parametrize(
    ("lives", "allowed"),
    [
        ([1, 1, 1, 1], False),
        ([1, 1, 1, 1700], False),
        ([1, 1, 1, 1800], True),  # healthy_reset
        ([1700, 1700, 1700, 1700], True),  # the first restart has left the window
        ([1100, 1100, 1100, 1100], False),  # three restarts within 3600 s of life
    ],
)
def test_the_fourth_death_is_forgiven_after_a_long_life_or_a_long_window(lives: Sequence[float], allowed: bool) -> None:
    assert deaths(RecoverySettings(), lives)[-1].allowed is allowed


# --- properties -----------------------------------------------------------------------------------


@given(any_settings(), jitters)
def test_agents_that_die_at_once_reach_the_budget_whatever_the_delays_and_the_window_are(
    settings: RecoverySettings, jitter: float
) -> None:
    answers = deaths(settings, [0.0] * (settings.max_retries + 1), jitter)
    assert [answer.allowed for answer in answers] == [True] * settings.max_retries + [False]
    assert [answer.number for answer in answers[:-1]] == list(range(1, settings.max_retries + 1))


@given(any_settings(), st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_a_spent_budget_expires_with_the_window_of_life_or_with_one_healthy_life(
    settings: RecoverySettings, lives: Sequence[float]
) -> None:
    assume(settings.max_retries > 0)
    spent = deaths(settings, lives)[-1].budget
    for life in (settings.window, settings.healthy_reset):
        assert after_death(spent, seconds(life), settings, 0.5).allowed


@given(any_settings(), st.lists(st.integers(0, 10**6), max_size=120))
def test_no_window_of_life_sees_more_restarts_than_allowed_unless_a_healthy_life_forgave_them(
    settings: RecoverySettings, lives: Sequence[float]
) -> None:
    clock = 0.0
    restarts: list[float] = []
    for life, answer in zip(lives, deaths(settings, lives), strict=True):
        clock += life
        if life >= settings.healthy_reset:
            restarts.clear()
        restarts = [at for at in restarts if clock - at < settings.window]
        assert answer.allowed == (len(restarts) < settings.max_retries)
        restarts += [clock] if answer.allowed else []


@given(any_settings(), st.integers(1, 99), jitters)
def test_each_delay_lies_around_the_doubled_one_and_never_beyond_the_limit(
    settings: RecoverySettings, earlier: int, jitter: float
) -> None:
    budget = RestartBudget(restarts=(0.0,) * earlier)
    assume(earlier < settings.max_retries)
    delay = after_death(budget, NOW, settings, jitter).delay.total_seconds()
    doubled = settings.retry_delay * 2.0 ** (earlier - 1)
    low, high = (min(doubled * (1 + side * JITTER / 2), settings.max_delay) for side in (-1, 1))
    assert low - 1e-3 <= delay <= high + 1e-3


@given(any_settings(), st.floats(-1e6, -1e-6))
def test_a_clock_that_was_set_back_earns_and_costs_nothing(settings: RecoverySettings, life: float) -> None:
    assert after_death(RestartBudget(), seconds(life), settings, 0.5) == after_death(
        RestartBudget(), NOW, settings, 0.5
    )


@given(st.integers(min_value=0, max_value=5000))
def test_however_many_died_of_one_cause_they_come_back_in_few_waves(together: int) -> None:
    starts = range(0, together, wave_size(together))
    assert len(starts) <= WAVES
    assert together < WAVES or len(starts) > 1, "not all at once"
