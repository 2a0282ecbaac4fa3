"""What people see of a merge queue: rows, history, why, figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models import names
    from models.job.messages import VerdictKind
    from models.refinery.answers import FlakyGate, HistoryEntry, QueueHistory, QueueStats, QueueWhy, RefineryStatus
    from models.refinery.messages import QueueItem, QueueItemState
    from models.settings import MergeQueueSettings
    from policies.refinery.batching import batch_size
    from policies.refinery.merge_rates import CONFIRM_ABOVE, failure_rate, flakiness
    from workflows.shared.web_ui import details

from workflows.refinery.queue import MergeQueue, Scope
from workflows.refinery.stalls import red_words
from workflows.refinery.state import Decided, QueueEntry, RefineryState

HISTORY_SHOWN = 200
IN_LEDGER = "more changes than there is room for wait in the ledger, it may be one of them"
NONE_RED: Mapping[str, str] = MappingProxyType({})
_WENT_BACK = {
    VerdictKind.MERGED: "It is merged",
    VerdictKind.FAILED: "It went back to its polecat, MERGE_FAILED",
    VerdictKind.CONFLICT: "It went back to its polecat, REWORK_REQUEST: it does not apply to the target",
    VerdictKind.RETURNED: "It was returned to its job",
}


def listing(queue: MergeQueue, now: datetime, red: Mapping[str, str] = NONE_RED) -> tuple[QueueItem, ...]:
    """What is being merged, then the order of the rest, then what is held.

    Args:
        red: see `red_targets`.
    """
    merging = [entry for entry in queue.entries if entry.merging or entry.unsure]
    held = [entry for entry in queue.entries if entry.held and not (entry.merging or entry.unsure)]
    rows = enumerate([*merging, *queue.in_order(now), *held], start=1)
    return tuple(_row(entry, place, now, red.get(entry.request.target, "")) for place, entry in rows)


def red_targets(state: RefineryState) -> dict[str, str]:
    """By target that fails its gates by itself, what fails there."""
    return {target: red_words(target, red) for target, red in state.red.items()}


def _row(entry: QueueEntry, place: int, now: datetime, red: str) -> QueueItem:
    needs = entry.needs or ()
    waits_for_target = bool(red) and entry.state in {QueueItemState.WAITING, QueueItemState.RETRYING}
    return QueueItem(
        id=entry.request.id,
        bead=entry.request.bead,
        polecat=entry.request.polecat,
        target=entry.request.target,
        state=QueueItemState.TARGET_RED if waits_for_target else entry.state,
        position=place,
        attempts=entry.attempts,
        waiting_s=max((now - entry.request.submitted_at).total_seconds(), 0.0),
        reason=(red if waits_for_target else entry.reason)
        or (f"needs {', '.join(needs)}" if needs and not entry.merging else ""),
    )


def status(queue: MergeQueue, state: RefineryState, mood: str) -> RefineryStatus:
    """What the Refinery does; `mood` is what it does while nothing is being merged."""
    merging = tuple(entry.request.bead for entry in queue.entries if entry.merging)
    held = sum(entry.held and not entry.merging for entry in queue.entries)
    facts = state.facts
    settings = facts.settings.merge_queue if facts else MergeQueueSettings()
    rate = failure_rate(state.seen.changes)
    return RefineryStatus(
        rig=state.rig,
        state="merging" if merging else mood,
        why=state.pause_reason
        or "; ".join(f"{name}: {each.held}" for name, each in state.troubles.items() if each.held)
        or "; ".join(red_targets(state).values()),
        target=state.branch,
        ungated=bool(facts and not facts.rig.gates),
        waiting=len(queue.entries) - len(merging) - held,
        held=held,
        merging=merging,
        merge=running_merge(queue, state),
        merges=state.merges,
        above_priority=state.above_priority,
        failure_rate=rate,
        batch_size=batch_size(rate, settings.min_batch, settings.max_batch, settings.max_concurrent),
        runners=settings.max_concurrent,
        foreign=state.foreign,
    )


def running_merge(queue: MergeQueue, state: RefineryState) -> str | None:
    """The workflow id of the merge under way; None: nothing is being merged."""
    return names.merge_id(state.rig, state.merges) if any(entry.merging for entry in queue.entries) else None


def flaky_gates(state: RefineryState) -> tuple[str, ...]:
    """Gates that were seen to lie and whose lies still weigh."""
    records = (record for record in state.seen.gates if record.flaky_runs and flakiness(record) > CONFIRM_ABOVE)
    return tuple(record.gate for record in records)


def shown(status: RefineryStatus) -> str:
    """The current details of the Refinery in the Web UI."""
    rows: dict[str, str | int | None] = {
        "state": status.state,
        "why": status.why,
        "target": status.target,
        "gates": "none: changes land ungated" if status.ungated else None,
        "merging": ", ".join(status.merging),
        "waiting": status.waiting,
        "held": status.held or None,
        "merges": status.merges,
    }
    command = {"stopped": "start", "paused": "resume"}.get(status.state, "queue")
    return details(f"Refinery of {status.rig}", rows, f"gt refinery {command} --rig {status.rig}")


def history(queue: MergeQueue, rig: str) -> QueueHistory:
    """What has left the queue, the latest first."""
    latest = list(reversed(queue.decided))[:HISTORY_SHOWN]
    return QueueHistory(rig=rig, items=tuple(map(_history_entry, latest)))


def _history_entry(decided: Decided) -> HistoryEntry:
    verdict = decided.verdict
    at = decided.at or decided.submitted_at
    return HistoryEntry(
        id=verdict.merge_request,
        bead=verdict.bead,
        outcome=verdict.kind,
        at=decided.at,
        waited_s=max((at - decided.submitted_at).total_seconds(), 0.0),
        merged_sha=verdict.merged_sha,
        gate=verdict.gate,
        detail=verdict.detail.strip().partition("\n")[0],
    )


def why(queue: MergeQueue, state: RefineryState, item: str, scope: Scope, now: datetime) -> QueueWhy:
    """In plain words: what an item waits for, or what became of it."""
    entry = queue.entry_of(item)
    if entry is not None:
        return _why_it_waits(queue, state, entry, scope, now)
    decided = queue.decision_on(item)
    if decided is not None:
        return _why_it_left(decided)
    return QueueWhy(id=item, words=(IN_LEDGER,) if queue.waits_in_ledger else ())


def _why_it_waits(queue: MergeQueue, state: RefineryState, entry: QueueEntry, scope: Scope, now: datetime) -> QueueWhy:
    row = next(row for row in listing(queue, now, red_targets(state)) if row.id == entry.request.id)
    place = row.position
    command = f"gt refinery queue --rig {state.rig}"
    words: list[str] = []
    needs, trouble = entry.needs or (), state.trouble(entry.request.target)
    if entry.unsure:
        words.append("It is wanted back.")
    elif entry.merging:
        words.append(f"It is being merged, as part of merge {state.merges}.")
    elif entry.held:
        words.append("A person has put it on hold.")
        command = f"gt refinery process {entry.request.id}"
    elif state.stopped:
        words.append("The Refinery is stopped.")
        command = f"gt refinery start --rig {state.rig}"
    elif state.paused and not (state.above_priority is not None and scope.covers(entry)):
        words.append(f"The queue is paused: {state.pause_reason or 'no reason was given'}.")
        command = f"gt refinery resume --rig {state.rig}"
    elif needs:
        words.append(f"It needs {', '.join(needs)}, not merged yet.")
        command = f"bd show {needs[0]}"
    elif trouble.held:
        words.append(f"Nothing is merged to {entry.request.target}: {trouble.held}.")
        command = f"gt refinery resume --rig {state.rig}"
    elif trouble.red is not None:
        words.append(f"{red_words(entry.request.target, trouble.red)}. Nobody is blamed, and it keeps its place.")
        if entry.tried_on == trouble.red.sha:
            words.append("It was tried there as you asked, and failed too.")
        words.append("It goes on once the target passes; should this change mend it, have it tried.")
        command = f"gt refinery process {entry.request.id}"
    elif trouble.retry_at is not None and trouble.retry_at > now:
        words.append(f"The queue tries again at {trouble.retry_at:%H:%M:%S} UTC.")
    elif state.facts is None:
        words.append("The Refinery has not been able to read the rig's settings yet.")
        command = "gt status"
    elif place > 1:
        words.append(f"{place - 1} are before it.")
    else:
        words.append("It is next.")
    if entry.reason:
        words.append(f"The last merge with it did not finish: {entry.reason}")
    return QueueWhy(
        id=entry.request.id,
        known=True,
        bead=entry.request.bead,
        state=row.state,
        position=place,
        words=tuple(words),
        next_command=command,
    )


def _why_it_left(decided: Decided) -> QueueWhy:
    verdict = decided.verdict
    ended = f"{_WENT_BACK[verdict.kind]}{f' as {verdict.merged_sha}' if verdict.merged_sha else ''}."
    words = [ended]
    if verdict.files:
        words.append(f"Conflicting files: {', '.join(verdict.files[:20])}.")
    if verdict.rivals:
        words.append(f"On the other side: what {', '.join(verdict.rivals)} landed.")
    if verdict.detail.strip():
        words.append(verdict.detail.strip())
    return QueueWhy(
        id=verdict.merge_request,
        known=True,
        bead=verdict.bead,
        state=verdict.kind,
        words=tuple(words),
        log_path=verdict.log_path,
        next_command=f"gt job show {verdict.bead}",
    )


def stats(queue: MergeQueue, state: RefineryState, now: datetime) -> QueueStats:
    """Figures over the remembered merges and verdicts."""
    landed = sum(note.landed for note in state.noted)
    runs = sum(note.gate_runs for note in state.noted)
    hours = (now - state.noted[0].at).total_seconds() / 3600 if state.noted else 0.0
    waits = sorted(
        (each.at - each.submitted_at).total_seconds()
        for each in queue.decided
        if each.verdict.kind is VerdictKind.MERGED and each.at is not None
    )
    return QueueStats(
        rig=state.rig,
        landed=landed,
        sent_back=sum(note.sent_back for note in state.noted),
        gate_runs=runs,
        hours=hours,
        landed_per_hour=landed / hours if hours > 0 else None,
        runs_per_landed=runs / landed if landed else None,
        wait_p50_s=percentile(waits, 0.50),
        wait_p95_s=percentile(waits, 0.95),
        failure_rate=failure_rate(state.seen.changes),
        gates=tuple(
            FlakyGate(
                gate=record.gate,
                runs=record.runs,
                failures=record.failures,
                flaky_runs=record.flaky_runs,
                flakiness=flakiness(record),
                flaked_at=record.flaked_at,
                flaked_on=record.flaked_on,
                log_path=record.log_path,
            )
            for record in state.seen.gates
        ),
    )


def percentile(ascending: list[float], share: float) -> float | None:
    """The value that `share` of them do not exceed (nearest rank); None of none."""
    if not ascending:
        return None
    return ascending[max(math.ceil(share * len(ascending)), 1) - 1]
