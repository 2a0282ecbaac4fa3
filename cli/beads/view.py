"""How beads are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.frame import output
from cli.frame.command import Call

if TYPE_CHECKING:
    from models.ledger.beads import Comment
    from models.ledger.records import Bead

_OWN_LINES = frozenset({"dependencies", "labels", "description", "comments", "as_of"})


def show(call: Call, bead: Bead, **more: Any) -> None:
    """Print one bead; `more` are further keys of its document."""
    shown = output.document(bead) | more
    text = output.fields({name: value for name, value in shown.items() if name not in _OWN_LINES})
    lists = {"needs": " ".join(bead.dependencies), "labels": " ".join(bead.labels)}
    if any(lists.values()):
        text += "\n" + output.fields(lists)
    if bead.description:
        text += f"\n\n{bead.description}"
    for comment in more.get("comments", ()):
        text += f"\n\n{comment['author']}, {comment['at']}:\n{comment['text']}"
    output.emit(call, shown, text)


def table(call: Call, beads: list[Bead], nothing: str = "no beads") -> None:
    """Print many beads."""
    # Only what is asked for: there may be ten thousand.
    if call.json:
        output.emit(call, output.documents(beads), "")
        return
    rows = [(bead.id, bead.rig, bead.status, bead.priority, bead.type, bead.assignee, bead.title) for bead in beads]
    header = ("ID", "RIG", "STATUS", "P", "TYPE", "ASSIGNEE", "TITLE")
    output.emit(call, None, output.table(header, rows) if rows else nothing)


def comments(said: list[Comment]) -> list[dict[str, Any]]:
    """Comments as JSON values; the bead is named once, outside."""
    return [{key: value for key, value in output.document(one).items() if key != "bead"} for one in said]
