"""When a Refinery whose merges cannot finish tries again, whom it calls, and how it takes the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.jobs import Decision, DecisionKind
from models.merging import MergeOutcome
from models.settings import MergeQueueSettings
from workflows.refinery_state import RefineryState
from workflows.refinery_trouble import STALLED_CYCLE, calmed, followed, resumed, weighed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BROKEN = MergeOutcome(could_not_run="test was killed")
STALLED = MergeOutcome(stalled="the remote refuses")


def after(*outcomes: MergeOutcome, state: RefineryState | None = None, retry_count: int = 1) -> RefineryState:
    state = state or RefineryState(rig="shop")
    settings = MergeQueueSettings(retry_count=retry_count, retry_delay=60)
    for outcome in outcomes:
        state = state.model_copy(update={"merges": state.merges + 1})
        state = weighed(state, outcome, settings, troubled=False, now=NOW)
    return state


def letters(state: RefineryState) -> list[str]:
    """What the Mayor hears, in order."""
    return [
        letter.escalation.id if letter.escalation else f"over: {letter.cleared.id if letter.cleared else ''}"
        for letter in state.letters
    ]


def answered(state: RefineryState, kind: DecisionKind, *, about: str) -> RefineryState:
    return followed(state, Decision(kind=kind, escalation=state.faults[about]))


def test_within_its_retries_nobody_is_called() -> None:
    for outcome in (BROKEN, STALLED):
        state = after(outcome)
        assert (state.paused, state.letters, state.retry_at) == (False, (), NOW + timedelta(seconds=60))


def test_broken_gates_pause_the_queue_and_a_stall_is_tried_on_each_told_once() -> None:
    broken = after(BROKEN, BROKEN)
    assert (broken.paused, broken.retry_at, letters(broken)) == (True, None, ["gate_broken/shop/2"])
    stalled = after(*[STALLED] * 5)
    assert (stalled.paused, stalled.retry_at) == (False, NOW + STALLED_CYCLE)
    assert letters(stalled) == ["refinery_stalled/shop/2"]


def test_a_stall_is_over_when_merges_go_on_and_broken_gates_when_the_queue_is_resumed() -> None:
    assert letters(calmed(after(STALLED, STALLED), troubled=True)) == ["refinery_stalled/shop/2"]
    assert letters(calmed(after(STALLED, STALLED), troubled=False))[1:] == ["over: refinery_stalled/shop/2"]
    assert letters(resumed(after(BROKEN, BROKEN), "mended"))[1:] == ["over: gate_broken/shop/2"]
    assert letters(resumed(after(BROKEN), "early")) == []


@pytest.mark.parametrize("kind", [DecisionKind.RETRY, DecisionKind.REASSIGN])
def test_an_answer_resumes_what_it_is_about_and_trouble_counts_anew(kind: DecisionKind) -> None:
    state = answered(after(BROKEN, BROKEN), kind, about="gate_broken")
    assert (state.paused, state.faults, letters(state)) == (False, {}, ["gate_broken/shop/2"])
    assert not after(BROKEN, state=state).paused
    assert letters(after(BROKEN, BROKEN, state=state))[1:] == ["gate_broken/shop/4"]
    state = answered(after(STALLED, STALLED), kind, about="refinery_stalled")
    assert (state.stalls, state.retry_at, state.faults) == (0, None, {})


@pytest.mark.parametrize("kind", [DecisionKind.IGNORE, DecisionKind.ABANDON])
def test_an_answer_that_asks_for_nothing_leaves_the_queue_as_it_is_and_calls_nobody_again(kind: DecisionKind) -> None:
    broken, stalled = after(BROKEN, BROKEN), after(STALLED, STALLED)
    assert answered(broken, kind, about="gate_broken") == broken
    assert letters(after(STALLED, state=answered(stalled, kind, about="refinery_stalled"))) == letters(stalled)


def test_an_answer_about_what_is_over_or_another_s_changes_nothing() -> None:
    state = after(BROKEN, BROKEN)
    retry = Decision(kind=DecisionKind.RETRY, escalation=state.faults["gate_broken"])
    on = followed(state, retry)
    assert followed(on, retry) == on
    assert followed(state, Decision(kind=DecisionKind.RETRY, escalation="gate_broken/depot/2")) == state
    assert followed(state, Decision(kind=DecisionKind.RETRY)) == state


def test_an_answer_does_not_undo_a_pause_that_a_person_ordered_meanwhile() -> None:
    ordered = after(BROKEN, BROKEN).model_copy(update={"pause_reason": "audit", "paused_for": ""})
    state = answered(ordered, DecisionKind.RETRY, about="gate_broken")
    assert (state.paused, state.pause_reason, state.faults) == (True, "audit", {})
