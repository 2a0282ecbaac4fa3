"""`gt polecat restart|stop|nudge`: orders about what a polecat does now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.host_requests import ask_host
from cli.frame.options import DryRunOption, ReasonOption
from cli.polecat.view import NameArgument, PolecatRigOption, polecat_row
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.job.messages import JobStatus
    from models.ledger.records import PolecatRow
    from services.town import Town

app = new_app("Orders.")


@command(app, "restart")
def restart(
    call: Call,
    name: NameArgument,
    rig: PolecatRigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """End the polecat's session and begin another attempt of its job, in the same worktree with all that is in it."""
    town, row = _known(call, name, rig)
    status = _job(town, row)
    if status.state.value == "submitted":
        where = names.polecat_address(row.rig, row.name)
        hint = f"gt refinery queue --rig {row.rig}"
        raise GtError(ErrorCode.REFUSED, f"{where} has handed in {row.bead}: it waits to be merged", hint)
    _order(call, town, row, status, "retry", reason, dry_run, f"attempt {status.attempt + 1} of {row.bead} begins")


@command(app, "stop")
def stop(
    call: Call,
    name: NameArgument,
    rig: PolecatRigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """End the polecat's job: its work is parked and its bead deferred, until it is slung again."""
    town, row = _known(call, name, rig)
    status = _job(town, row)
    _order(call, town, row, status, "cancel", reason, dry_run, f"{row.bead} is deferred and its work parked")


@command(app, "nudge")
def nudge(
    call: Call,
    name: NameArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is typed, followed by Enter.")],
    rig: PolecatRigOption = None,
) -> None:
    """Type a text into a polecat's session, for an agent that waits for a word."""
    from models.supervision.host_requests import Nudge

    town, row = _known(call, name, rig)
    ask_host(town, row.host, Nudge(rig=row.rig, polecat=row.name, text=text), f"gt polecat nudge {name} TEXT")
    document = {"rig": row.rig, "polecat": row.name, "host": row.host, "text": text}
    output.emit(call, document, f"told {names.polecat_address(row.rig, row.name)}")


def _known(call: Call, name: str, rig: str | None) -> tuple[Town, PolecatRow]:
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        return town, polecat_row(ledger, name, rig)


def _job(town: Town, row: PolecatRow) -> JobStatus:
    """How the polecat's job stands; REFUSED where it works on nothing."""
    from models.job.messages import JobStatus

    where = names.polecat_address(row.rig, row.name)
    nothing = GtError(ErrorCode.REFUSED, f"{where} works on nothing now", "gt polecat list")
    if row.bead is None:
        raise nothing
    job_id = names.polecat_id(row.rig, row.bead)
    try:
        return connect.converse(
            town, lambda client: connect.ask(client.get_workflow_handle(job_id), "status", JobStatus)
        )
    except connect.WorkflowAbsent:
        message = f"{row.bead}, which {where} works on, has no running job"
        raise GtError(ErrorCode.REFUSED, message, f"gt polecat recover {row.name} --rig {row.rig}") from None


def _order(
    call: Call, town: Town, row: PolecatRow, status: JobStatus, order: str, reason: str, dry_run: bool, outcome: str
) -> None:
    document: dict[str, Any] = {
        "rig": row.rig,
        "polecat": row.name,
        "bead": row.bead,
        "attempt": status.attempt,
        "was": status.state.value,
        "order": order,
        "dry_run": dry_run,
    }
    if dry_run:
        output.emit(call, document, f"would be: {outcome}")
        return
    _send(town, row, order, reason or f"asked for by {connect.person()}")
    output.emit(call, document, f"{outcome}; see gt job show {row.bead}")


def _send(town: Town, row: PolecatRow, order: str, reason: str) -> None:
    from models.job.messages import JobOrder, SlingResult

    assert row.bead is not None
    told = JobOrder(bead=row.bead, reason=reason)

    async def send(client: Client) -> SlingResult:
        return await connect.request(client.get_workflow_handle(names.dispatch_id(row.rig)), order, told, SlingResult)

    connect.converse(town, send)
