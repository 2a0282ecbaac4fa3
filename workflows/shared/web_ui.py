"""What the Temporal Web UI shows of a workflow: its search attributes, summaries, current details."""

from __future__ import annotations

from temporalio import workflow

from activities.search_attributes import KEYS
from models.texts import one_line


class Labels:
    """The labels of the running workflow; writes to history only what has changed since it was started with some."""

    def __init__(self) -> None:
        started_with = workflow.info().typed_search_attributes
        self._shown = {name: value for name, key in KEYS.items() if (value := started_with.get(key))}

    def show(self, **values: str | None) -> None:
        """Set search attributes by role, state, rig, bead, polecat; None leaves one as it is."""
        changed = {name: value for name, value in values.items() if value and self._shown.get(name) != value}
        if changed:
            workflow.upsert_search_attributes([KEYS[name].value_set(value) for name, value in changed.items()])
            self._shown.update(changed)


def details(title: str, rows: dict[str, str | int | None], next_command: str = "") -> str:
    """Current details in Markdown: a heading, one row per fact that is known, the next command."""
    lines = [f"### {one_line(title)}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {_cell(str(value))} |" for name, value in rows.items() if value not in (None, "")]
    if next_command:
        lines += ["", f"Next: `{one_line(next_command)}`"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """One table cell: a pipe or a line break would end it."""
    return "<br>".join(one_line(line) for line in text.split("\n")).replace("|", "\\|")
