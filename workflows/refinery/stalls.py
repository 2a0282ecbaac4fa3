"""What a Refinery makes of merges that cannot finish: when it tries again, whom it calls, how it takes the answer.

Each target has its troubles to itself: what keeps one from being merged to keeps no other one.
Pure: each function returns the state that follows; its `letters` are what the Mayor is to hear of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models import names
    from models.errors import Level
    from models.job.messages import Decision, DecisionKind
    from models.ledger.records import Rig
    from models.mayor.alerts import AlertType, Priority
    from models.mayor.escalations import Escalation, EscalationCleared, Letter
    from models.refinery.messages import ForeignCommit, MergeOutcome, Rewound, TargetRed
    from models.settings import MergeQueueSettings
    from workflows.refinery.state import RefineryState, Trouble

STALLED_CYCLE = timedelta(minutes=10)
"""between tries once a person was called"""
GOES_ON = frozenset({DecisionKind.RETRY, DecisionKind.REASSIGN})
"""decisions that let the queue go on; a merge leaves out a lost host by itself"""
REWINDS_KEPT = 50
FOREIGN_KEPT = 50
FOREIGN = AlertType.FOREIGN_COMMIT.value
RENAMED = AlertType.TARGET_RENAMED.value
REWOUND = AlertType.TARGET_REWOUND.value
LOOK_CYCLE = timedelta(seconds=60)
"""how often it is looked whether a red target has moved"""
GATED_AGAIN_FIRST, GATED_AGAIN_LAST = timedelta(minutes=5), timedelta(hours=1)
"""after this long a red target that has not moved is gated again, twice as late each time, and at the latest: what
gates run in may have been mended"""
TARGET_RED = "target_red"
"""a fault that is told as `gate_broken`: the gate is broken on the target itself"""
BROKEN, STALLED = AlertType.GATE_BROKEN.value, AlertType.REFINERY_STALLED.value


def weighed(
    state: RefineryState,
    target: str,
    outcome: MergeOutcome,
    settings: MergeQueueSettings,
    *,
    troubled: bool,
    now: datetime,
) -> RefineryState:
    """Decide after a merge to `target` when to merge to it again, and whether a person must know.

    Args:
        troubled: something waits for this target that stalled alone.
    """
    if outcome.verdicts:
        state = calmed(state, target, troubled=troubled)
    if outcome.target_cleared:
        state = _marked(state, target, red=None, reds=0, look_at=None, retry_at=None)
        state = _over(state, _fault(state, TARGET_RED, target), f"{target} passes its gates")
    trouble, retry_at = state.trouble(target), now + timedelta(seconds=settings.retry_delay)
    if outcome.target_red:
        state = _red(state, target, outcome.target_red, now)
    elif outcome.could_not_run:
        state = _marked(state, target, broken=trouble.broken + 1, retry_at=retry_at)
        if trouble.broken >= settings.retry_count:
            state = calmed(_held(state, target, outcome.could_not_run, now), target, troubled=troubled)
    elif outcome.stalled:
        state = _marked(state, target, stalls=trouble.stalls + 1, retry_at=retry_at)
        if trouble.stalls >= settings.retry_count:
            state = _told(state, STALLED, target, outcome.stalled, "gt refinery queue", now)
            state = _marked(state, target, retry_at=now + STALLED_CYCLE)
    return state


def windowed(state: RefineryState, target: str, size: int, best: int, *, stalled: bool) -> RefineryState:
    """A stall halves the next batch, so that one change that troubles the remote is soon alone.

    Args:
        size: of the batch that was merged, or was to be.
        best: the size of batches without any trouble.
    """
    window = max(size // 2, 1) if stalled else state.trouble(target).window * 2
    return _marked(state, target, window=window if window < best else 0)


def tried_at_once(state: RefineryState, target: str) -> RefineryState:
    """A person wants something tried that waits for this target."""
    return _marked(state, target, retry_at=None)


def looked(state: RefineryState, target: str, tip: str, now: datetime) -> RefineryState:
    """A red target was looked at: where it stands elsewhere by now it is gated at once.

    Args:
        tip: where it stands; "" where that could not be found out.
    """
    red = state.trouble(target).red
    if red is not None and tip and tip != red.sha:
        return _marked(state, target, look_at=None, retry_at=None)
    return _marked(state, target, look_at=now + LOOK_CYCLE)


def gated_anew(state: RefineryState) -> RefineryState:
    """The gates, or what they run in, are others now: a red target is gated again at once."""
    for target in state.red:
        state = _marked(state, target, look_at=None, retry_at=None)
    return state


def calmed(state: RefineryState, target: str, *, troubled: bool) -> RefineryState:
    """No trouble of this target is counted any more; a stall is over unless something still stalls by itself."""
    state = _marked(state, target, broken=0, stalls=0, retry_at=None)
    return state if troubled else _over(state, _fault(state, STALLED, target), "merges go on")


def resumed(state: RefineryState, reason: str) -> RefineryState:
    """Merge again, to every target, and forget earlier trouble."""
    state = _amended(
        state, paused=False, pause_reason="", paused_for="", above_priority=None, drain_upto=None, troubles={}
    )
    for fault in state.faults:
        state = _over(state, fault, reason if fault.partition("/")[0] in {BROKEN, TARGET_RED} else "merges go on")
    return state


def followed(state: RefineryState, decision: Decision) -> RefineryState:
    """Take the answer to one of this Refinery's escalations; told again, or about one that is over, it changes nothing.

    `retry` and `reassign` let the queue go on, unless somebody has paused it meanwhile. After the
    others what is paused stays so until `resume`, and what stalls is tried as before; of neither people hear again.
    """
    fault = next((fault for fault, escalation in state.faults.items() if escalation == decision.escalation), None)
    if fault is None or decision.kind not in GOES_ON:
        return state
    # The Mayor knows that it is over: no letter says so.
    state = _amended(state, faults={other: known for other, known in state.faults.items() if other != fault})
    kind, _, elsewhere = fault.partition("/")
    if kind == BROKEN and not elsewhere and state.paused_for == decision.escalation:
        return resumed(state, decision.reason)
    target = elsewhere or state.branch
    if kind == TARGET_RED:
        return _marked(state, target, look_at=None, retry_at=None)
    if kind == BROKEN:
        state = _marked(state, target, held="")
    return calmed(state, target, troubled=True)


def rewound(state: RefineryState, rewinds: tuple[Rewound, ...], now: datetime) -> RefineryState:
    """Tell people once of each time that a target lost commits. It is over when somebody has seen it."""
    for each in rewinds:
        known = f"{REWOUND}/{state.rig}/{each.target}/{each.left_sha[:12] or 'root'}"
        if known in state.rewinds:
            continue
        commits = "\n".join(each.commits)
        what = "commit that it had" if each.removed == 1 else "commits that it had"
        escalation = Escalation(
            id=known,
            kind=REWOUND,
            level=Level.L2.value,
            source=names.refinery_id(state.rig),
            rig=state.rig,
            subject=known,
            message=f"{each.target} was rewound or rewritten on the remote: it lost {each.removed} {what}. "
            "What lands from now on lands without them; what cannot goes back to its agent.",
            evidence=f"now at {each.target_sha}, left at {each.left_sha or 'no common commit'}; removed:\n{commits}",
            opened_at=now,
        )
        letters, rewinds_told = (*state.letters, Letter(escalation=escalation)), (*state.rewinds, known)
        state = _amended(state, letters=letters, rewinds=rewinds_told[-REWINDS_KEPT:])
    return state


def _red(state: RefineryState, target: str, red: TargetRed, now: datetime) -> RefineryState:
    """Gate the target itself again after a while, and call a person the first time."""
    reds = state.trouble(target).reds + 1
    pause = min(GATED_AGAIN_FIRST * 2 ** min(reds - 1, 10), GATED_AGAIN_LAST)
    state = _marked(state, target, red=red, reds=reds, retry_at=now + pause, look_at=now + LOOK_CYCLE)
    evidence = "\n".join(part for part in (red.tail, f"log: {red.log_path}" if red.log_path else "") if part)
    return _told(
        state,
        TARGET_RED,
        target,
        f"{red_words(target, red)}; nobody is blamed, and the changes for {target} wait in their places. "
        "It goes on by itself once that passes; a change that mends it: gt refinery process ITEM",
        "gt refinery queue",
        now,
        evidence=evidence,
    )


def red_words(target: str, red: TargetRed) -> str:
    """Why nothing is merged to a red target, in one line."""
    return f"{TARGET_RED}: {target} itself is red at {red.sha[:12]}: {red.why}"


def passed_by(state: RefineryState, foreign: tuple[ForeignCommit, ...], now: datetime) -> RefineryState:
    """Remember what came to a target past the queue, and tell people: urgently of what a polecat of ours has pushed."""
    known = {each.sha for each in state.foreign}
    new = tuple(each for each in foreign if each.sha not in known)
    letters = state.letters
    for each in new:
        if each.polecat:
            of = f" (work on {each.bead})" if each.bead else ""
            message = f"{each.polecat} has pushed to {each.target} past the queue{of}: {_in_short(each)} landed ungated"
            letters = (*letters, _foreign_letter(state, (each,), message, Priority.HIGH, now))
    strange = tuple(each for each in new if not each.polecat)
    if strange:
        count = "a commit that is" if len(strange) == 1 else f"{len(strange)} commits that are"
        message = f"{strange[-1].target} has {count} no landing of the town: {_in_short(strange[-1])}"
        letters = (*letters, _foreign_letter(state, strange, message, Priority.LOW, now))
    return _amended(state, foreign=(*state.foreign, *new)[-FOREIGN_KEPT:], letters=letters)


def _foreign_letter(
    state: RefineryState, commits: tuple[ForeignCommit, ...], message: str, severity: Priority, now: datetime
) -> Letter:
    name = f"{FOREIGN}/{state.rig}/{commits[-1].sha[:12]}"
    listed = "\n".join(f"{_in_short(each)}, author: {each.author}" for each in commits)
    return Letter(
        escalation=Escalation(
            id=name,
            kind=FOREIGN,
            level=Level.L2.value,
            severity=severity.value,
            source=names.refinery_id(state.rig),
            rig=state.rig,
            subject=name,
            message=message,
            evidence=f"{listed}\nto take it off again: git revert {commits[-1].sha}",
            opened_at=now,
        )
    )


def _in_short(commit: ForeignCommit) -> str:
    return f"{commit.sha[:12]} {commit.subject}"


def left(state: RefineryState, rig: Rig) -> RefineryState:
    """The rig is elsewhere from now on: what kept merges to its old branch from finishing is over."""
    before, facts = state.branch, state.facts
    state = _over(calmed(state, before, troubled=False), _fault(state, TARGET_RED, before), "the rig is elsewhere now")
    troubles = {target: trouble for target, trouble in state.troubles.items() if target != before}
    return _amended(state, troubles=troubles, facts=facts.model_copy(update={"rig": rig}) if facts else None)


def renamed(state: RefineryState, before: str, branch: str, now: datetime) -> RefineryState:
    """Tell people that the rig follows a branch that was renamed on the remote."""
    known = f"{RENAMED}/{state.rig}/{before}/{branch}"
    escalation = Escalation(
        id=known,
        kind=RENAMED,
        level=Level.L2.value,
        severity="low",
        source=names.refinery_id(state.rig),
        rig=state.rig,
        subject=known,
        message=f"{before} was renamed to {branch} on the remote; {state.rig} lands on {branch} from now on "
        f"(gt rig set {state.rig} --branch B for another)",
        opened_at=now,
    )
    return _amended(state, letters=(*state.letters, Letter(escalation=escalation)))


def overdue(state: RefineryState, target: str, words: str, now: datetime) -> RefineryState:
    """Call a person about what the merge under way waits for, once while it lasts."""
    return _told(state, STALLED, target, words, "gt refinery queue", now)


def _held(state: RefineryState, target: str, why: str, now: datetime) -> RefineryState:
    """Merge nothing more until somebody answers: to this target, or to none where it is the rig's own branch."""
    state = _told(state, BROKEN, target, why, "gt refinery resume", now)
    reason = f"gates could not run: {why}"
    if target != state.branch:
        return _marked(state, target, held=reason)
    return _amended(
        state,
        paused=True,
        pause_reason=reason,
        paused_for=state.faults[BROKEN],
        above_priority=None,
        drain_upto=None,
    )


def _fault(state: RefineryState, kind: str, target: str) -> str:
    """How a fault of this kind is named in `faults`."""
    return kind if target == state.branch else f"{kind}/{target}"


def _told(
    state: RefineryState, kind: str, target: str, message: str, command: str, now: datetime, evidence: str = ""
) -> RefineryState:
    """Escalate what keeps the rig from merging, once while it lasts; `command` helps once the cause is gone."""
    fault, elsewhere = _fault(state, kind, target), target != state.branch
    if fault in state.faults:
        return state
    escalation = Escalation(
        id=f"{kind}/{state.rig}/{state.merges}",
        kind=BROKEN if kind == TARGET_RED else kind,
        level=Level.L3.value,
        source=names.refinery_id(state.rig),
        rig=state.rig,
        subject=f"{state.rig}/{target}" if elsewhere else "",
        message=f"{f'{target}: ' if elsewhere else ''}{message} ({command} --rig {state.rig})",
        evidence=evidence,
        tried=f"{state.merges} merges; the last ones in a row ended so",
        opened_at=now,
    )
    return _amended(
        state,
        faults={**state.faults, fault: escalation.id},
        letters=(*state.letters, Letter(escalation=escalation)),
    )


def _over(state: RefineryState, fault: str, reason: str) -> RefineryState:
    if fault not in state.faults:
        return state
    letter = Letter(cleared=EscalationCleared(id=state.faults[fault], reason=reason))
    return _amended(
        state,
        faults={other: known for other, known in state.faults.items() if other != fault},
        letters=(*state.letters, letter),
    )


def _marked(state: RefineryState, target: str, **changes: object) -> RefineryState:
    """Change what is known of a target's trouble; none is not kept."""
    trouble = state.trouble(target).model_copy(update=changes)
    others = {name: known for name, known in state.troubles.items() if name != target}
    return _amended(state, troubles=others if trouble == Trouble() else {**others, target: trouble})


def _amended(state: RefineryState, **changes: object) -> RefineryState:
    return state.model_copy(update=changes)
