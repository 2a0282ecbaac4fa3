"""When a job speaks of a step that takes long, and that time in which nothing ran does not count."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from policies.job.long_steps import AGAIN, LATE, TELL_AFTER, counted, next_pause
from workflows.supervision.witness_state import UNSEEN

IN_TIME = timedelta(0)


def moments(pauses: int) -> list[timedelta]:
    """What has been waited when each of the first pauses is over, if every timer comes in time."""
    waited, after = timedelta(0), []
    for _ in range(pauses):
        waited = counted(waited, next_pause(waited), IN_TIME)
        after.append(waited)
    return after


def test_a_pause_ends_exactly_when_a_person_is_to_be_told_and_others_hear_of_it_in_time_before_and_after() -> None:
    ends = moments(6)
    assert TELL_AFTER in ends
    assert all(later - earlier <= AGAIN < UNSEEN for earlier, later in zip([timedelta(0), *ends], ends, strict=False))


@given(st.integers(0, 5), st.integers(1, 10**6))
def test_after_a_night_in_which_nothing_ran_a_step_gets_its_whole_time_anew(pauses: int, seconds: int) -> None:
    waited = moments(pauses)[-1] if pauses else timedelta(0)
    late_by = LATE + timedelta(seconds=seconds)
    assert counted(waited, next_pause(waited), late_by) == timedelta(0)
    assert counted(waited, next_pause(waited), LATE) > waited
