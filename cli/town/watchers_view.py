"""What people read of the watchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.frame import output

if TYPE_CHECKING:
    from datetime import datetime

    from models.supervision.messages import BootReport, BootStep, WitnessRecovered

NOT_NEEDED = "not needed"
"""the detail of a step of Boot's that there was no reason for"""


def status(document: dict[str, Any]) -> str:
    """A watcher's document as lines, then tables of whom it watches."""
    plain = {
        name: _shown(value)
        for name, value in document.items()
        if name not in {"watched", "checks", "deacon", "health", "heartbeat_age_s", "progress_age_s"}
    }
    parts = [output.fields(plain)]
    if document.get("deacon"):
        seen = document["deacon"]
        parts.append(f"the Deacon sees it as {seen['condition']}{': ' if seen['reason'] else ''}{seen['reason']}")
    if document.get("watched"):
        parts.append(_watched(document["watched"]))
    if document.get("checks"):
        parts.append(_checks(document["checks"]))
    return "\n\n".join(parts)


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _watched(rows: list[dict[str, Any]]) -> str:
    header = ("WATCHED", "CONDITION", "PING", "PATROL", "RESTARTS", "REASON")
    cells = [
        (
            row["workflow_id"],
            row["condition"],
            output.duration(row["ping_age_s"]),
            output.duration(row["patrol_age_s"]),
            row["restarts"],
            row["reason"],
        )
        for row in rows
    ]
    return output.table(header, cells)


def _checks(rows: list[dict[str, Any]]) -> str:
    cells = [(row["name"], row["subject"], "well" if row["ok"] else "ALARM", row["detail"]) for row in rows]
    return output.table(("CHECK", "OF", "STATE", "DETAIL"), cells)


def recovered(done: WitnessRecovered) -> str:
    """The four results of `recover`."""
    verdicts = ", ".join(f"{count} {kind}" for kind, count in done.verdicts.items()) or "no polecat works"
    unchecked = f"; not checked: {', '.join(done.unchecked)}" if done.unchecked else ""
    return "\n".join(
        (
            f"1. configuration: {'reloaded' if done.settings_read else 'unreadable, the last known one holds'}",
            f"2. polecats: {verdicts}{unchecked}",
            f"3. patrol: {', '.join(done.patrols) or 'nothing to watch'}",
            f"4. backlog: {done.backlog} told again",
        )
    )


def steps(report: BootReport) -> str:
    """Boot's four steps."""
    lines = [f"{number}. {step.name}: {_outcome(step)}" for number, step in enumerate(report.steps, start=1)]
    return "\n".join((*lines, "the Deacon is well" if report.healthy else "the Deacon is not well"))


def _outcome(step: BootStep) -> str:
    if step.detail == NOT_NEEDED:
        return step.detail
    return ("yes" if step.ok else "no") + (f" ({step.detail})" if step.detail else "")


def boot(paused: bool, next_at: datetime | None, last: BootReport | None) -> str:
    """Boot's Schedule and its last look."""
    head = "paused" if paused else f"next look at {output.when(next_at)}" if next_at else "no next look is planned"
    if last is None:
        return f"{head}\nno look has ended yet"
    return f"{head}\nlast look at {output.when(last.at)}:\n{steps(last)}"
