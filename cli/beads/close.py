"""`bd close`, `reopen`, `dep`: what other beads wait for. Dispatchers whose jobs wait are told of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from cli.beads.beads import show_bead
from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument
from models import names

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.ledger.beads import TreeNode
    from services.town import Town

app = new_app("Endings.")
dep = new_app("Which bead needs which.")
app.add_typer(dep, name="dep")

WAKE_S = 1.0
"""for telling a dispatcher at once what it would see itself within its next cycle"""

NeedsArgument = Annotated[str, typer.Argument(metavar="NEEDS", help="The bead that must be closed first.")]


@command(app, "close")
def close(
    call: Call,
    bead: BeadArgument,
    reason: Annotated[str, typer.Option("-r", "--reason", metavar="TEXT", help="Why it is over.")] = "closed by hand",
) -> None:
    """Close a bead by hand; refused while a job works on it."""
    names.valid_bead(bead)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        closed = ledger.close_bead(bead, reason)
        waiting = _rigs_with_waiting_jobs(ledger)
    show_bead(call, closed)
    _wake(town, waiting)


@command(app, "reopen")
def reopen(
    call: Call,
    bead: BeadArgument,
    reason: Annotated[str, typer.Option("-r", "--reason", metavar="TEXT", help="Why; kept in its history.")] = "",
) -> None:
    """Open a closed bead again; one that is not closed stays as it is."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        opened = ledger.reopen_bead(bead, reason)
    show_bead(call, opened)


@command(dep, "add")
def dep_add(call: Call, bead: BeadArgument, needs: NeedsArgument) -> None:
    """Let one bead wait until another is closed."""
    _change_dependency(call, bead, needs, add=True)


@command(dep, "remove")
def dep_remove(call: Call, bead: BeadArgument, needs: NeedsArgument) -> None:
    """Let a bead no longer wait for another."""
    _change_dependency(call, bead, needs, add=False)


@command(dep, "tree")
def dep_tree(call: Call, bead: BeadArgument) -> None:
    """Show what a bead needs, and what that needs, down to what needs nothing."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        tree = ledger.dependency_tree(bead)
    output.emit(call, output.document(tree), "\n".join(_lines(tree, "", "")))


def _lines(node: TreeNode, first: str, rest: str) -> list[str]:
    more = "  (shown above)" if node.repeated else ""
    lines = [f"{first}{node.id}  {node.status}  {' '.join(node.title.split())}{more}"]
    for number, need in enumerate(node.needs, start=1):
        last = number == len(node.needs)
        lines += _lines(need, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    return lines


def _change_dependency(call: Call, bead: str, needs: str, *, add: bool) -> None:
    names.valid_bead(bead)
    names.valid_bead(needs)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        if add:
            ledger.add_dependency(bead, needs)
        else:
            ledger.remove_dependency(bead, needs)
        changed = ledger.bead(bead)
        waiting = _rigs_with_waiting_jobs(ledger)
    show_bead(call, changed)
    _wake(town, waiting)


def _rigs_with_waiting_jobs(ledger: Ledger) -> set[str]:
    from models.ledger.records import JobState

    return {job.rig for job in ledger.jobs(unfinished=True) if job.state is JobState.WAITING}


def _wake(town: Town, rigs: set[str]) -> None:
    """Tell the dispatchers whose jobs wait that dependencies changed; without it they look within a minute."""
    if not rigs:
        return
    import asyncio

    async def tell() -> None:
        from services.temporal.client import connect as connect_client
        from services.temporal.client import wake_dispatchers

        await wake_dispatchers(await connect_client(town, timeout_s=WAKE_S), sorted(rigs))

    async def tell_in_time() -> None:
        await asyncio.wait_for(tell(), WAKE_S)

    with contextlib.suppress(Exception):
        asyncio.run(tell_in_time())
