"""`gt job`: what becomes of slung beads, and orders about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument, OptionalRigOption, ReasonOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.job.messages import JobStatus
    from models.ledger.records import JobEvent, JobRow
    from services.town import Town

_group = new_app("Show and steer jobs: a job is one bead on its way to being merged.")
app = new_app("Jobs.")
app.add_typer(_group, name="job")


@command(_group, "list")
def list_jobs(
    call: Call,
    rig: OptionalRigOption = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that go on.")] = False,
) -> None:
    """List jobs as the ledger has them."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        if rig is not None:
            ledger.rig(names.valid_rig(rig))
        jobs = ledger.jobs(rig=rig, unfinished=unfinished)
    header = ("BEAD", "RIG", "STATE", "ATTEMPT", "POLECAT", "HOST", "MERGED", "UPDATED")
    rows = [
        (job.bead, job.rig, job.state, job.attempt, job.polecat, job.host, (job.merged_sha or "")[:8], job.updated_at)
        for job in jobs
    ]
    output.emit(call, output.documents(jobs), output.table(header, rows) if rows else "no jobs")


@command(_group, "show")
def show(call: Call, bead: BeadArgument) -> None:
    """Show a bead's job and its history."""
    names.valid_bead(bead)
    town = connect.open_town(call)
    row, events, ledger_failure = _recorded(town, bead)
    status, temporal_failure = _living(town, bead, row)
    if row is None and status is None:
        if ledger_failure is not None:
            raise ledger_failure
        raise GtError(ErrorCode.NOT_FOUND, f"{bead} was never slung", f"gt sling {bead} RIG")
    for failure in (ledger_failure, temporal_failure):
        if failure is not None:
            output.warn(f"{failure.message}; what is shown may be old or incomplete")
    shown = _merged_view(row, status)
    shown["web_url"] = town.web_url(names.polecat_id(shown["rig"], bead))
    shown["history"] = [
        {"at": output.document(event)["at"], "attempt": event.attempt, "event": event.event, "detail": event.detail}
        for event in events
    ]
    output.emit(call, shown, _text(shown, events))


@command(_group, "cancel")
def cancel(call: Call, bead: BeadArgument, reason: ReasonOption = "") -> None:
    """Stop the job; its work is parked and the bead can be slung again."""
    _order(call, "cancel", bead, reason)


@command(_group, "retry")
def retry(call: Call, bead: BeadArgument, reason: ReasonOption = "") -> None:
    """Start another attempt of a job that waits for a person."""
    _order(call, "retry", bead, reason)


@command(_group, "reassign")
def reassign(call: Call, bead: BeadArgument, reason: ReasonOption = "") -> None:
    """Give the job to another polecat."""
    _order(call, "reassign", bead, reason)


def _order(call: Call, order: str, bead: str, reason: str) -> None:
    names.valid_bead(bead)
    town = connect.open_town(call)
    from models.job.messages import JobOrder, SlingResult

    rig = _rig_of(town, bead)

    async def send(client: Client) -> SlingResult:
        handle = client.get_workflow_handle(names.dispatch_id(rig))
        job_order = JobOrder(bead=bead, reason=reason or f"asked for by {connect.person()}")
        return await connect.request(handle, order, job_order, SlingResult)

    try:
        answer = output.document(connect.converse(town, send))
    except GtError as error:
        if error.code is ErrorCode.NOT_FOUND:
            _refuse_ended(town, bead)
        raise
    text = f"{bead}: {order} was passed on to its job, which was {answer['state']}; see gt job show {bead}"
    output.emit(call, {**answer, "rig": rig, "order": order}, text)


def _refuse_ended(town: Town, bead: str) -> None:
    """A job that is over takes no orders; one that never was is not found."""
    with connect.open_ledger(town) as ledger:
        row = ledger.job(bead)
    if row is not None and row.state.final:
        raise GtError(ErrorCode.REFUSED, f"the job of {bead} is over: {row.state.value}", f"gt job show {bead}")


def _recorded(town: Town, bead: str) -> tuple[JobRow | None, list[JobEvent], GtError | None]:
    """What the ledger has of the job; the failure instead where it cannot be read."""
    try:
        with connect.open_ledger(town) as ledger:
            row = ledger.job(bead)
            if row is None:
                ledger.bead(bead)
            return row, ledger.job_events(bead), None
    except GtError as error:
        if error.code is ErrorCode.NOT_FOUND:
            raise
        return None, [], error


def _living(town: Town, bead: str, row: JobRow | None) -> tuple[JobStatus | None, GtError | None]:
    """What the job itself answers; None where there is none, the failure where it cannot be asked."""
    from models.job.messages import JobStatus
    from models.ledger.records import JobState

    if row is not None and row.state is JobState.MERGED:
        return None, None

    async def ask(client: Client) -> JobStatus | None:
        workflow_id = names.polecat_id(row.rig, bead) if row is not None else await _job_id(client, bead)
        if workflow_id is None:
            return None
        return await connect.ask(client.get_workflow_handle(workflow_id), "status", JobStatus)

    try:
        return connect.converse(town, ask), None
    except connect.WorkflowAbsent:
        return None, None
    except GtError as error:
        return None, None if row is not None and row.state.final else error


async def _job_id(client: Client, bead: str) -> str | None:
    """The bead's newest job, by search attribute; for when the ledger cannot tell its rig."""
    query = f"WorkflowType = '{names.WorkflowType.POLECAT}' AND GtBead = '{names.valid_bead(bead)}'"
    async for found in client.list_workflows(query, page_size=1):
        return found.id
    return None


def _rig_of(town: Town, bead: str) -> str:
    try:
        with connect.open_ledger(town) as ledger:
            return ledger.bead(bead).rig
    except GtError as error:
        if error.code is not ErrorCode.LEDGER_UNREACHABLE:
            raise
    workflow_id = connect.converse(town, lambda client: _job_id(client, bead))
    if workflow_id is None:
        raise GtError(ErrorCode.NOT_FOUND, f"{bead} has no job", "gt job list")
    return workflow_id.split("/")[1]


def _merged_view(row: JobRow | None, status: JobStatus | None) -> dict[str, Any]:
    """The row, with what the living job knows better laid over it."""
    shown: dict[str, Any] = {
        "bead": None,
        "rig": None,
        "state": None,
        "attempt": 0,
        "polecat": None,
        "host": None,
        "branch": None,
        "head_sha": None,
        "merged_sha": None,
        "restarts": 0,
        "reworks": 0,
        "waits_for": "",
        "unrecorded": None,
        "started_at": None,
        "updated_at": None,
    }
    if row is not None:
        known = output.document(row)
        shown |= {key: known[key] for key in shown if key in known}
        shown["waits_for"] = "room in its rig's Dispatcher" if row.waits_for_room else ""
    if status is not None:
        shown |= output.document(status)
    return shown


def _text(shown: dict[str, Any], events: list[JobEvent]) -> str:
    text = output.fields({key: value for key, value in shown.items() if key != "history"})
    if not events:
        return text
    rows = [(event.at, event.attempt, event.event, event.detail) for event in events]
    story = f"{text}\n\n{output.table(('AT', 'ATTEMPT', 'EVENT', 'DETAIL'), rows)}"
    last = events[-1].detail.strip()
    # A remote's or a hook's report is read line by line.
    return f"{story}\n\n{last}" if "\n" in last else story
