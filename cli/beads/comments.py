"""`bd label`, `comment`, `comments`: what people say about beads."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.beads.beads import comment_documents, show_bead
from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument
from cli.session import agent_rights
from models import names
from models.errors import ErrorCode, GtError

app = new_app("Words.")
label = new_app("Labels of beads.")
app.add_typer(label, name="label")

LabelsArgument = Annotated[list[str], typer.Argument(metavar="LABEL…", help="One word each.")]


@command(label, "add")
def label_add(call: Call, bead: BeadArgument, labels: LabelsArgument) -> None:
    """Label a bead."""
    _change(call, bead, add=labels)


@command(label, "remove")
def label_remove(call: Call, bead: BeadArgument, labels: LabelsArgument) -> None:
    """Take labels off a bead."""
    _change(call, bead, remove=labels)


@command(label, "list")
def label_list(call: Call) -> None:
    """List the labels in use, and how many beads have each."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        counts = ledger.labels()
    document = [{"label": name, "beads": count} for name, count in counts.items()]
    output.emit(call, document, output.table(("LABEL", "BEADS"), list(counts.items())) if counts else "no labels")


@command(app, "comment")
def comment(
    call: Call,
    bead: BeadArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - reads it from standard input.")],
) -> None:
    """Say something about a bead."""
    names.valid_bead(bead)
    agent_rights.require_bead(bead, "bd comment")
    town = connect.open_town(call)
    said = connect.without_secrets(town, read_text(text))
    with connect.open_ledger(town) as ledger:
        told = ledger.add_comment(bead, connect.writer(), said)
    output.emit(call, output.document(told), f"{bead}: said")


@command(app, "comments")
def comments(call: Call, bead: BeadArgument) -> None:
    """Show what was said about a bead, oldest first."""
    names.valid_bead(bead)
    agent_rights.require_bead(bead, "bd comments")
    from ledger import queries

    said = connect.ask_ledger(connect.open_town(call), lambda ask: queries.comments(ask, bead))
    text = "\n\n".join(f"{one.author}, {output.when(one.at)}:\n{one.text}" for one in said)
    output.emit(call, comment_documents(said), text or "no comments")


def read_text(text: str) -> str:
    """The text, or what standard input says for `-`.

    Raises:
        GtError: INVALID_VALUE for an input that is no UTF-8.
    """
    if text != "-":
        return text
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise GtError(ErrorCode.INVALID_VALUE, "standard input is not valid UTF-8") from None


def _change(call: Call, bead: str, add: list[str] | None = None, remove: list[str] | None = None) -> None:
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        ledger.change_labels(bead, add=add or (), remove=remove or ())
        changed = ledger.bead(bead)
    show_bead(call, changed)
