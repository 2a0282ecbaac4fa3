"""`gt refinery`: a rig's merge queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import connect, output
from cli.command import Call, command, new_app
from cli.values import RigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import WorkflowHandle

    from models.merging import QueueItem, QueueStatus
    from services.town import Town

_group = new_app("Look at a rig's merge queue and steer it.")
app = new_app("Merge queues.")
app.add_typer(_group, name="refinery")

ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="An item's id, out of `gt refinery queue`.")]
ItemRigOption = Annotated[str | None, typer.Option("--rig", metavar="R", help="The item's rig; default: its bead's.")]


@command(_group, "queue")
def queue(call: Call, rig: RigOption) -> None:
    """Show the queue in the order in which it will be merged."""
    from models.merging import QueueStatus

    _emit_queue(call, _with_refinery(call, rig, lambda handle: connect.ask(handle, "queue", QueueStatus)))


@command(_group, "pause")
def pause(
    call: Call, rig: RigOption, reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = ""
) -> None:
    """Start no further merge until `resume`."""
    from models.merging import PauseRequest, QueueStatus

    request = PauseRequest(reason=reason, by=connect.person())
    _emit_queue(call, _with_refinery(call, rig, lambda handle: connect.request(handle, "pause", request, QueueStatus)))


@command(_group, "resume")
def resume(call: Call, rig: RigOption) -> None:
    """Merge again."""
    from models.merging import QueueStatus

    _emit_queue(call, _with_refinery(call, rig, lambda handle: connect.request(handle, "resume", None, QueueStatus)))


@command(_group, "process")
def process(call: Call, item: ItemArgument, rig: ItemRigOption = None) -> None:
    """Merge an item now, before all others; also releases a held one."""
    _steer(call, "process", item, rig)


@command(_group, "skip")
def skip(call: Call, item: ItemArgument, rig: ItemRigOption = None) -> None:
    """Hold an item until `process`."""
    _steer(call, "skip", item, rig)


@command(_group, "clear")
def clear(call: Call, rig: RigOption) -> None:
    """Return every item to its job: beads deferred, branches kept."""
    from models.merging import QueueCleared

    cleared = _with_refinery(call, rig, lambda handle: connect.request(handle, "clear", None, QueueCleared))
    document = {"rig": rig, **output.document(cleared)}
    output.emit(
        call, document, f"{len(cleared.returned)} returned: {' '.join(cleared.returned) or 'the queue was empty'}"
    )


def _steer(call: Call, update: str, item: str, rig: str | None) -> None:
    from models.merging import QueueItem, QueueItemRef

    bead = names.valid_bead(item.partition(".")[0])
    rig = rig or _rig_of(connect.open_town(call), bead)
    request = QueueItemRef(id=item)
    steered = _with_refinery(call, rig, lambda handle: connect.request(handle, update, request, QueueItem))
    output.emit(call, output.document(steered), _table([steered]))


def _rig_of(town: Town, bead: str) -> str:
    prefix = names.bead_prefix(bead)
    with connect.open_ledger(town) as ledger:
        rig = next((rig.name for rig in ledger.rigs() if rig.prefix == prefix), None)
    if rig is None:
        raise GtError(ErrorCode.NOT_FOUND, f"no rig has beads named {prefix}-…", "gt rig list")
    return rig


def _with_refinery(call: Call, rig: str, conversation: Callable[[WorkflowHandle[Any, Any]], Awaitable[Any]]) -> Any:
    """Talk to the rig's Refinery; an unknown rig is told from one whose Refinery does not run."""
    refinery = names.refinery_id(rig)
    town = connect.open_town(call)
    try:
        return connect.converse(town, lambda client: conversation(client.get_workflow_handle(refinery)))
    except connect.WorkflowAbsent:
        with connect.open_ledger(town) as ledger:
            ledger.rig(rig)
        raise GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"the Refinery of {rig} does not run", "gt up") from None


def _emit_queue(call: Call, status: QueueStatus) -> None:
    state = f"paused: {status.pause_reason}" if status.paused else "running"
    head = f"{status.rig} to {status.target}: {state}" + (", ungated" if status.ungated else "")
    output.emit(
        call, output.document(status), head + "\n" + (_table(status.items) if status.items else "nothing waits")
    )


def _table(items: Any) -> str:
    header = ("ID", "BEAD", "POLECAT", "STATE", "POS", "TRIES", "WAITING", "REASON")
    rows = [_row(item) for item in items]
    return output.table(header, rows)


def _row(item: QueueItem) -> tuple[object, ...]:
    waiting = output.duration(item.waiting_s)
    return (item.id, item.bead, item.polecat, item.state, item.position, item.attempts, waiting, item.reason)
