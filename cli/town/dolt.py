"""`gt dolt`: the ledger's database."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.beads.history import line
from cli.frame import connect, output
from cli.frame.command import Call, command, new_app

app = new_app("Dolt.")
dolt = new_app("The ledger's database, and its history.")
app.add_typer(dolt, name="dolt")


@command(dolt, "log")
def log(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 20,
) -> None:
    """Show the ledger's commits, newest first: who changed what, and why."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        entries = ledger.log(limit)
    output.emit(call, output.documents(entries), "\n".join(line(entry) for entry in entries))


@command(dolt, "gc")
def gc(call: Call) -> None:
    """Give back the room of what no commit holds; rows and history stay, and work goes on meanwhile."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        ledger.collect_garbage()
    output.emit(call, {"collected": True}, "garbage collected")
