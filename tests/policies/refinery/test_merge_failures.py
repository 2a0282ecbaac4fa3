"""Host work of a merge that has failed: whose business it is, and when a person hears of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.errors import ErrorCode
from policies.refinery.merge_failures import TOLD_AFTER, is_overdue, may_be_a_change, pause_after, waits_for_outside


@pytest.mark.parametrize("kind", [None, *ErrorCode, "RecursionError"])
def test_work_that_waits_for_the_outside_blames_no_change(kind: str | None) -> None:
    assert not (waits_for_outside(kind) and may_be_a_change(kind))


def test_what_git_says_and_what_nobody_thought_of_may_be_a_changes_fault() -> None:
    assert may_be_a_change(ErrorCode.GIT_FAILED.value)
    assert may_be_a_change("UnicodeDecodeError")
    assert not may_be_a_change(ErrorCode.NO_SUCH_BRANCH.value)
    assert waits_for_outside(None), "a worker that is gone comes back"


def test_pauses_grow_to_a_minute_and_no_further() -> None:
    pauses = [pause_after(failures) for failures in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=5), timedelta(minutes=1))


def test_gates_may_take_their_time_unless_they_have_failed_to_begin() -> None:
    hour = timedelta(hours=1)
    assert not is_overdue(hour, hour, failed=False)
    assert is_overdue(hour + TOLD_AFTER, hour, failed=False)
    assert is_overdue(TOLD_AFTER, hour, failed=True)
