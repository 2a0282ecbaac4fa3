"""`bd`: beads, the units of work. Works on the ledger alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from cli import connect, output
from cli.command import Call, command, new_app, new_program
from cli.values import BeadArgument, BeadKind, BeadState, LimitOption, OptionalRigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.records import Bead
    from services.town import Town

app = new_program("Work on beads: the units of work, kept in Dolt.")
dep = new_app("Which bead needs which.")
app.add_typer(dep, name="dep")

WAKE_S = 1.0
"""for telling a dispatcher at once what it would see itself within its next cycle"""

DescriptionOption = Annotated[str | None, typer.Option("-d", "--description", metavar="TEXT", help="Description.")]
PriorityOption = Annotated[int | None, typer.Option("-p", "--priority", min=0, max=4, help="0 is the most urgent.")]
KindOption = Annotated[BeadKind | None, typer.Option("-t", "--type", help="Kind of work.")]


@command(app, "create")
def create(
    call: Call,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done, in one line.")],
    rig: Annotated[str, typer.Option("--rig", metavar="R", help="The rig it belongs to.")],
    description: DescriptionOption = None,
    priority: PriorityOption = None,
    type: KindOption = None,
    dep: Annotated[
        list[str] | None, typer.Option("--dep", metavar="ID", help="A bead that must be closed first.")
    ] = None,
) -> None:
    """Create a bead."""
    names.valid_rig(rig)
    needs = tuple(names.valid_bead(bead) for bead in dep or ())
    town = connect.open_town(call)
    from models.records import BeadType, NewBead

    new = NewBead(
        rig=rig,
        title=title,
        description=description or "",
        priority=2 if priority is None else priority,
        type=BeadType(type or BeadType.TASK),
        dependencies=needs,
    )
    with connect.open_ledger(town) as ledger:
        bead = ledger.create_bead(new)
    output.emit(call, output.document(bead), f"{bead.id}  {bead.title}")


@command(app, "list")
def list_beads(
    call: Call,
    rig: OptionalRigOption = None,
    status: Annotated[BeadState | None, typer.Option("--status", help="Only beads of this status.")] = None,
    limit: LimitOption = None,
) -> None:
    """List beads, oldest first."""
    from models.records import BeadStatus

    with connect.open_ledger(connect.open_town(call)) as ledger:
        _require_rig(ledger, rig)
        beads = ledger.beads(rig=rig, status=BeadStatus(status) if status else None, limit=limit)
    _emit_beads(call, beads)


@command(app, "ready")
def ready(call: Call, rig: OptionalRigOption = None, limit: LimitOption = None) -> None:
    """List open beads that wait for no other bead, the most urgent first."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        _require_rig(ledger, rig)
        beads = ledger.ready(rig=rig, limit=limit)
    _emit_beads(call, beads)


@command(app, "show")
def show(call: Call, bead: BeadArgument) -> None:
    """Show one bead."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        found = ledger.bead(bead)
    _emit_bead(call, found)


@command(app, "update")
def update(
    call: Call,
    bead: BeadArgument,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="New title.")] = None,
    description: DescriptionOption = None,
    priority: PriorityOption = None,
    type: KindOption = None,
    status: Annotated[BeadState | None, typer.Option("--status", help="New status; closing is `bd close`.")] = None,
    assignee: Annotated[
        str | None, typer.Option("--assignee", metavar="WHO", help="Who works on it; empty: nobody.")
    ] = None,
) -> None:
    """Change a bead; what is not named stays."""
    names.valid_bead(bead)
    given = {
        "title": title,
        "description": description,
        "priority": priority,
        "type": type,
        "status": status,
        "assignee": assignee,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        raise GtError(ErrorCode.INVALID_VALUE, "nothing to change was named", "bd update --help")
    town = connect.open_town(call)
    from pydantic import ValidationError

    from models.records import BeadChanges

    try:
        changes = BeadChanges.model_validate(
            {name: str(value) if name != "priority" else value for name, value in given.items()}
        )
    except ValidationError as error:
        raise GtError(ErrorCode.INVALID_VALUE, str(error.errors()[0]["msg"])) from None
    with connect.open_ledger(town) as ledger:
        changed = ledger.update_bead(bead, changes)
    _emit_bead(call, changed)


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
    _emit_bead(call, closed)
    _wake(town, waiting)


@command(app, "log")
def log(call: Call, bead: BeadArgument) -> None:
    """Show the bead's history, out of Dolt."""
    names.valid_bead(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        entries = ledger.bead_history(bead)
    lines = [f"{output.when(entry.at)}  {entry.commit[:8]}  {entry.message}" for entry in entries]
    output.emit(call, output.documents(entries), "\n".join(lines))


@command(dep, "add")
def dep_add(
    call: Call,
    bead: BeadArgument,
    needs: Annotated[str, typer.Argument(metavar="NEEDS", help="The bead that must be closed first.")],
) -> None:
    """Let one bead wait until another is closed."""
    _change_dependency(call, bead, needs, add=True)


@command(dep, "remove")
def dep_remove(
    call: Call,
    bead: BeadArgument,
    needs: Annotated[str, typer.Argument(metavar="NEEDS", help="The bead that it waits for.")],
) -> None:
    """Let a bead no longer wait for another."""
    _change_dependency(call, bead, needs, add=False)


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
    _emit_bead(call, changed)
    _wake(town, waiting)


def _require_rig(ledger: Ledger, rig: str | None) -> None:
    if rig is not None:
        ledger.rig(names.valid_rig(rig))


def _rigs_with_waiting_jobs(ledger: Ledger) -> set[str]:
    from models.records import JobState

    return {job.rig for job in ledger.jobs(unfinished=True) if job.state is JobState.WAITING}


def _wake(town: Town, rigs: set[str]) -> None:
    """Tell the dispatchers whose jobs wait that dependencies changed; without it they look within a minute."""
    if not rigs:
        return

    async def tell() -> None:
        from services.temporal import connect as connect_client

        client = await connect_client(town, timeout_s=WAKE_S)
        for rig in sorted(rigs):
            await client.get_workflow_handle(names.dispatch_id(rig)).signal("wake")

    async def tell_in_time() -> None:
        await asyncio.wait_for(tell(), WAKE_S)

    with contextlib.suppress(Exception):
        asyncio.run(tell_in_time())


def _emit_bead(call: Call, bead: Bead) -> None:
    shown = output.document(bead)
    text = output.fields({name: value for name, value in shown.items() if name not in {"dependencies", "description"}})
    if bead.dependencies:
        text += "\n" + output.fields({"needs": " ".join(bead.dependencies)})
    if bead.description:
        text += f"\n\n{bead.description}"
    output.emit(call, shown, text)


def _emit_beads(call: Call, beads: list[Bead]) -> None:
    rows = [(bead.id, bead.rig, bead.status, bead.priority, bead.type, bead.assignee, bead.title) for bead in beads]
    header = ("ID", "RIG", "STATUS", "P", "TYPE", "ASSIGNEE", "TITLE")
    output.emit(call, output.documents(beads), output.table(header, rows) if rows else "no beads")
