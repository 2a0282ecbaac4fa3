"""When a Refinery whose merges cannot finish tries again, whom it calls, and how it takes the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.job.messages import Decision, DecisionKind, Verdict, VerdictKind
from models.refinery.messages import MergeOutcome
from models.settings import MergeQueueSettings
from workflows.refinery.stalls import STALLED_CYCLE, calmed, followed, resumed, tried_at_once, weighed, windowed
from workflows.refinery.state import RefineryState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BROKEN = MergeOutcome(could_not_run="test was killed")
STALLED = MergeOutcome(stalled="the remote refuses")
VERDICT = Verdict(merge_request="sh-1.1", bead="sh-1", attempt=1, kind=VerdictKind.MERGED, merged_sha="a" * 40)


OWN = ""
"""The rig's own branch, as long as a Refinery has read no facts."""


def after(
    *outcomes: MergeOutcome, state: RefineryState | None = None, retry_count: int = 1, target: str = OWN
) -> RefineryState:
    state = state or RefineryState(rig="shop")
    settings = MergeQueueSettings(retry_count=retry_count, retry_delay=60)
    for outcome in outcomes:
        state = state.model_copy(update={"merges": state.merges + 1})
        state = weighed(state, target, outcome, settings, troubled=False, now=NOW)
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
        assert (state.paused, state.letters, state.trouble(OWN).retry_at) == (False, (), NOW + timedelta(seconds=60))


def test_broken_gates_pause_the_queue_and_a_stall_is_tried_on_each_told_once() -> None:
    broken = after(BROKEN, BROKEN)
    assert (broken.paused, broken.troubles, letters(broken)) == (True, {}, ["gate_broken/shop/2"])
    stalled = after(*[STALLED] * 5)
    assert (stalled.paused, stalled.trouble(OWN).retry_at) == (False, NOW + STALLED_CYCLE)
    assert letters(stalled) == ["refinery_stalled/shop/2"]


def test_a_stall_is_over_when_merges_go_on_and_broken_gates_when_the_queue_is_resumed() -> None:
    assert letters(calmed(after(STALLED, STALLED), OWN, troubled=True)) == ["refinery_stalled/shop/2"]
    assert letters(calmed(after(STALLED, STALLED), OWN, troubled=False))[1:] == ["over: refinery_stalled/shop/2"]
    assert letters(resumed(after(BROKEN, BROKEN), "mended"))[1:] == ["over: gate_broken/shop/2"]
    assert letters(resumed(after(BROKEN), "early")) == []


@pytest.mark.parametrize("kind", [DecisionKind.RETRY, DecisionKind.REASSIGN])
def test_an_answer_resumes_what_it_is_about_and_trouble_counts_anew(kind: DecisionKind) -> None:
    state = answered(after(BROKEN, BROKEN), kind, about="gate_broken")
    assert (state.paused, state.faults, letters(state)) == (False, {}, ["gate_broken/shop/2"])
    assert not after(BROKEN, state=state).paused
    assert letters(after(BROKEN, BROKEN, state=state))[1:] == ["gate_broken/shop/4"]
    state = answered(after(STALLED, STALLED), kind, about="refinery_stalled")
    assert (state.troubles, state.faults) == ({}, {})


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


# --- several targets ----------------------------------------------------------------------------


def test_trouble_of_another_target_holds_that_one_alone_and_is_a_fault_of_its_own() -> None:
    broken = after(BROKEN, BROKEN, target="next", state=after(STALLED, STALLED))
    assert (broken.paused, broken.trouble("next").held) == (False, "gates could not run: test was killed")
    assert letters(broken) == ["refinery_stalled/shop/2", "gate_broken/shop/4"]
    told = [letter.escalation for letter in broken.letters if letter.escalation]
    assert [each.subject for each in told] == ["", "shop/next"]
    assert told[1].message.startswith("next: test was killed")
    late = NOW + STALLED_CYCLE + timedelta(seconds=1)
    assert [broken.resting(NOW), broken.resting(late)] == [{OWN, "next"}, {"next"}]
    assert broken.next_try([OWN, "next"], NOW) == NOW + STALLED_CYCLE
    assert broken.next_try(["next"], NOW) is broken.next_try([OWN], late) is None


def test_landings_on_one_target_say_nothing_of_another_one() -> None:
    landed = MergeOutcome(verdicts=(VERDICT,))
    both = after(landed, state=after(STALLED, STALLED, target="next"))
    assert both.resting(NOW) == {"next"}
    assert letters(both) == ["refinery_stalled/shop/2"]
    assert letters(after(landed, target="next", state=both))[1:] == ["over: refinery_stalled/shop/2"]
    assert after(landed, target="next", state=both).troubles == {}


def test_an_answer_about_another_target_lets_that_one_go_on_and_a_resumed_queue_all() -> None:
    held = after(BROKEN, BROKEN, target="next")
    assert answered(held, DecisionKind.IGNORE, about="gate_broken/next") == held
    on = answered(held, DecisionKind.RETRY, about="gate_broken/next")
    assert (on.troubles, on.faults, len(on.letters)) == ({}, {}, 1)
    both = resumed(after(BROKEN, BROKEN, state=held), "mended")
    assert (both.paused, both.troubles, both.faults) == (False, {}, {})
    assert letters(both)[2:] == ["over: gate_broken/shop/2", "over: gate_broken/shop/4"]


def test_a_stall_halves_the_batches_of_its_own_target() -> None:
    state = windowed(RefineryState(rig="shop"), "next", 8, 10, stalled=True)
    state = windowed(state, "next", 4, 10, stalled=True)
    assert (state.trouble("next").window, state.trouble(OWN).window) == (2, 0)
    state = windowed(state, "next", 2, 10, stalled=False)
    assert state.trouble("next").window == 4
    assert windowed(windowed(state, "next", 4, 10, stalled=False), "next", 8, 10, stalled=False).troubles == {}


def test_what_a_person_wants_tried_is_not_waited_for() -> None:
    state = tried_at_once(after(STALLED, target="next", state=after(STALLED)), "next")
    assert state.resting(NOW) == {OWN}
