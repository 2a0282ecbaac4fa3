"""What the Temporal Web UI shows of a workflow: search attributes, summaries, current details."""

from __future__ import annotations

from typing import Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from models.texts import one_line

RIG: Final = SearchAttributeKey.for_keyword("GtRig")
BEAD: Final = SearchAttributeKey.for_keyword("GtBead")
POLECAT: Final = SearchAttributeKey.for_keyword("GtPolecat")
ROLE: Final = SearchAttributeKey.for_keyword("GtRole")
STATE: Final = SearchAttributeKey.for_keyword("GtState")

_KEYS: Final = {"role": ROLE, "state": STATE, "rig": RIG, "bead": BEAD, "polecat": POLECAT}

SEARCH_ATTRIBUTES: Final = (RIG, BEAD, POLECAT, ROLE, STATE)
"""What a namespace must have registered before any of our workflows starts."""


def attributes(
    *,
    role: str,
    state: str,
    rig: str | None = None,
    bead: str | None = None,
    polecat: str | None = None,
) -> TypedSearchAttributes:
    """Search attributes to start a workflow with; what is None stays unset."""
    values = ((ROLE, role), (STATE, state), (RIG, rig), (BEAD, bead), (POLECAT, polecat))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in values if value is not None])


class Labels:
    """The labels of the running workflow; writes to history only what has changed since it was started with some."""

    def __init__(self) -> None:
        started_with = workflow.info().typed_search_attributes
        self._shown = {name: value for name, key in _KEYS.items() if (value := started_with.get(key))}

    def show(self, **values: str | None) -> None:
        """Set search attributes by role, state, rig, bead, polecat; None leaves one as it is."""
        changed = {name: value for name, value in values.items() if value and self._shown.get(name) != value}
        if changed:
            workflow.upsert_search_attributes([_KEYS[name].value_set(value) for name, value in changed.items()])
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
