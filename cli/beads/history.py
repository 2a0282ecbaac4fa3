"""`bd log`, `bd diff`: what was, out of Dolt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import connect, output, time_args
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument
from cli.session import agent_rights
from models import names

if TYPE_CHECKING:
    from models.ledger.history import BeadDifference, LogEntry

app = new_app("History.")

_MARKS = {"added": "+", "changed": "~", "removed": "-"}
_SHOWN = 60
"""characters of a value in text; JSON has all of it"""


@command(app, "log")
def log(call: Call, bead: BeadArgument) -> None:
    """Show who changed a bead, when and why, out of Dolt."""
    names.valid_bead(bead)
    agent_rights.require_bead(bead, "bd log")
    with connect.open_ledger(connect.open_town(call)) as ledger:
        entries = ledger.bead_history(bead)
    output.emit(call, output.documents(entries), "\n".join(line(entry) for entry in entries))


@command(app, "diff")
def diff(
    call: Call,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME|COMMIT", help="From when: a time, 2h ago, or a commit.")
    ] = "1d",
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME|COMMIT", help="To when; until now by default.")
    ] = None,
) -> None:
    """Show how beads differ from what they were, a day ago by default."""
    start, end = time_args.parse(since), None if until is None else time_args.parse(until)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        difference = ledger.difference(start, end)
    text = "\n".join(part for bead in difference.beads for part in _lines(bead))
    output.emit(call, output.document(difference), text or "nothing differs")


def line(entry: LogEntry) -> str:
    """One commit in one line."""
    return f"{output.when(entry.at)}  {entry.commit[:8]}  {entry.by}  {entry.message}"


def _lines(bead: BeadDifference) -> list[str]:
    lines = [f"{_MARKS[bead.kind]} {bead.bead}  {' '.join(bead.title.split())}".rstrip()]
    if bead.kind == "changed":
        lines += [f"    {field}: {_value(old)} → {_value(new)}" for field, (old, new) in bead.changes.items()]
    return lines


def _value(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    flat = " ".join(text.split()) or "-"
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
