"""What a Refinery makes of merges that cannot finish: when it tries again, whom it calls, how it takes the answer.

Pure: each function returns the state that follows; its `letters` are what the Mayor is to hear of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models import names
    from models.alerts import AlertType
    from models.errors import Level
    from models.escalations import Escalation, EscalationCleared, Letter
    from models.jobs import Decision, DecisionKind
    from models.merging import MergeOutcome
    from models.settings import MergeQueueSettings
    from workflows.refinery_state import RefineryState

STALLED_CYCLE = timedelta(minutes=10)
"""between tries once a person was called"""
GOES_ON = frozenset({DecisionKind.RETRY, DecisionKind.REASSIGN})
"""decisions that let the queue go on; a merge leaves out a lost host by itself"""
BROKEN, STALLED = AlertType.GATE_BROKEN.value, AlertType.REFINERY_STALLED.value


def weighed(
    state: RefineryState, outcome: MergeOutcome, settings: MergeQueueSettings, *, troubled: bool, now: datetime
) -> RefineryState:
    """Decide after a merge when to merge again, and whether a person must know.

    Args:
        troubled: something waits that stalled alone.
    """
    if outcome.verdicts:
        state = calmed(state, troubled=troubled)
    retry_at = now + timedelta(seconds=settings.retry_delay)
    if outcome.could_not_run:
        state = _amended(state, broken=state.broken + 1, retry_at=retry_at)
        if state.broken > settings.retry_count:
            state = _told(state, BROKEN, outcome.could_not_run, "gt refinery resume", now)
            state = _amended(
                state,
                paused=True,
                pause_reason=f"gates could not run: {outcome.could_not_run}",
                paused_for=state.faults[BROKEN],
                above_priority=None,
                drain_upto=None,
            )
            state = calmed(state, troubled=troubled)
    elif outcome.stalled:
        state = _amended(state, stalls=state.stalls + 1, retry_at=retry_at)
        if state.stalls > settings.retry_count:
            state = _told(state, STALLED, outcome.stalled, "gt refinery queue", now)
            state = _amended(state, retry_at=now + STALLED_CYCLE)
    return state


def calmed(state: RefineryState, *, troubled: bool) -> RefineryState:
    """No trouble is counted any more; a stall is over unless something still stalls by itself."""
    state = _amended(state, broken=0, stalls=0, retry_at=None)
    return state if troubled else _over(state, STALLED, "merges go on")


def resumed(state: RefineryState, reason: str) -> RefineryState:
    """Merge again, and forget earlier trouble."""
    state = _amended(
        state, paused=False, pause_reason="", paused_for="", above_priority=None, drain_upto=None, window=0
    )
    return calmed(_over(state, BROKEN, reason), troubled=False)


def followed(state: RefineryState, decision: Decision) -> RefineryState:
    """Take the answer to one of this Refinery's escalations; told again, or about one that is over, it changes nothing.

    `retry` and `reassign` let the queue go on, unless somebody has paused it meanwhile. After the
    others what is paused stays so until `resume`, and what stalls is tried as before; of neither people hear again.
    """
    kind = next((kind for kind, escalation in state.faults.items() if escalation == decision.escalation), None)
    if kind is None or decision.kind not in GOES_ON:
        return state
    # The Mayor knows that it is over: no letter says so.
    state = _amended(state, faults={other: known for other, known in state.faults.items() if other != kind})
    if kind == BROKEN and state.paused_for == decision.escalation:
        return resumed(state, decision.reason)
    return calmed(state, troubled=True)


def _told(state: RefineryState, kind: str, message: str, command: str, now: datetime) -> RefineryState:
    """Escalate what keeps the rig from merging, once while it lasts; `command` helps once the cause is gone."""
    if kind in state.faults:
        return state
    escalation = Escalation(
        id=f"{kind}/{state.rig}/{state.merges}",
        kind=kind,
        level=Level.L3.value,
        source=names.refinery_id(state.rig),
        rig=state.rig,
        message=f"{message} ({command} --rig {state.rig})",
        tried=f"{state.merges} merges; the last ones in a row ended so",
        opened_at=now,
    )
    return _amended(
        state,
        faults={**state.faults, kind: escalation.id},
        letters=(*state.letters, Letter(escalation=escalation)),
    )


def _over(state: RefineryState, kind: str, reason: str) -> RefineryState:
    if kind not in state.faults:
        return state
    letter = Letter(cleared=EscalationCleared(id=state.faults[kind], reason=reason))
    return _amended(
        state,
        faults={other: known for other, known in state.faults.items() if other != kind},
        letters=(*state.letters, letter),
    )


def _amended(state: RefineryState, **changes: object) -> RefineryState:
    return state.model_copy(update=changes)
