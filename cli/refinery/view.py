"""What `gt refinery` shows of a merge queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.frame import output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.refinery.answers import QueueHistory, QueueStats, QueueWhy, RefineryStatus
    from models.refinery.messages import QueueItem, QueueStatus

FOREIGN_SHOWN = 10
"""commits past the queue, of each rig"""


def queue(status: QueueStatus) -> str:
    state = f"paused: {status.pause_reason}" if status.paused else "running"
    head = f"{status.rig} to {status.target}: {state}" + (", ungated" if status.ungated else "")
    held = "".join(f"\nnothing is merged to {target}: {why}" for target, why in status.held_targets.items())
    held += "".join(f"\n{why}" for why in status.red_targets.values())
    more = "\nmore changes wait in the ledger, and come in when there is room" if status.more_in_ledger else ""
    return head + held + "\n" + (items(status.items) if status.items else "nothing waits") + more


def items(rows: Iterable[QueueItem]) -> str:
    header = ("ID", "BEAD", "POLECAT", "TARGET", "STATE", "POS", "TRIES", "WAITING", "REASON")
    cells: list[tuple[object, ...]] = [
        (
            item.id,
            item.bead,
            item.polecat,
            item.target,
            item.state.value,
            item.position,
            item.attempts,
            output.duration(item.waiting_s),
            item.reason,
        )
        for item in rows
    ]
    return output.table(header, cells)


def statuses(shown: Sequence[RefineryStatus]) -> str:
    header = ("RIG", "STATE", "TARGET", "WAITING", "HELD", "MERGING", "BATCH", "BAD", "WHY")
    cells: list[tuple[object, ...]] = [
        (
            each.rig,
            each.state,
            each.target,
            each.waiting,
            each.held,
            " ".join(each.merging),
            each.batch_size,
            percent(each.failure_rate),
            each.why,
        )
        for each in shown
    ]
    past = [
        (each.rig, one.target, one.sha[:12], one.polecat or one.author, one.subject)
        for each in shown
        for one in each.foreign[-FOREIGN_SHOWN:]
    ]
    seen = "\n\npast the queue:\n" + output.table(("RIG", "TARGET", "COMMIT", "BY", "SUBJECT"), past) if past else ""
    return (output.table(header, cells) if cells else "no rigs") + seen


def history(shown: QueueHistory) -> str:
    header = ("ID", "OUTCOME", "AT", "WAITED", "COMMIT", "GATE", "DETAIL")
    cells: list[tuple[object, ...]] = [
        (
            entry.id,
            entry.outcome.value,
            output.when(entry.at) if entry.at else None,
            output.duration(entry.waited_s),
            (entry.merged_sha or "")[:12],
            entry.gate,
            entry.detail,
        )
        for entry in shown.items
    ]
    return output.table(header, cells) if cells else "nothing has left the queue yet"


def why(told: QueueWhy) -> str:
    lines = [f"{told.id}: {told.state.value if told.state else 'unknown'}", *told.words]
    lines += [f"The whole log: {told.log_path}"] if told.log_path else []
    return "\n".join([*lines, f"next: {told.next_command}"] if told.next_command else lines)


def stats(told: QueueStats) -> str:
    facts = output.fields(
        {
            "landed": told.landed,
            "sent back": str(told.sent_back),
            "landed per hour": _number(told.landed_per_hour),
            "gate runs per landed change": _number(told.runs_per_landed),
            "wait p50": output.duration(told.wait_p50_s),
            "wait p95": output.duration(told.wait_p95_s),
            "failure rate": percent(told.failure_rate),
        }
    )
    header = ("GATE", "RUNS", "FAILED", "FLAKY", "CHANCE", "LAST FLAKE", "LOG")
    cells: list[tuple[object, ...]] = [
        (
            gate.gate,
            gate.runs,
            gate.failures,
            gate.flaky_runs,
            percent(gate.flakiness),
            gate.flaked_at[:12],
            gate.log_path,
        )
        for gate in told.gates
    ]
    return facts + ("\n\n" + output.table(header, cells) if cells else "")


def settings(rows: list[dict[str, Any]]) -> str:
    cells: list[tuple[object, ...]] = [(row["key"], row["value"], row["default"], row["origin"]) for row in rows]
    return output.table(("KEY", "VALUE", "DEFAULT", "ORIGIN"), cells)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
