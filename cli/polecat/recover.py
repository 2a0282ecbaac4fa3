"""`gt polecat recover`: jobs of the record are rebuilt where no workflow runs for them, or one whose code fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import DryRunOption
from cli.polecat.view import polecat_row
from models import names
from models.errors import ErrorCode, ExitCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from ledger.store import Ledger

app = new_app("Recovery.")

AT_ONCE = 8
"""jobs that are asked about or rebuilt at a time; a workflow takes ten updates"""
_HELD = ("hooked", "in_progress", "submitted")
"""states of a bead that only a job gives"""


class _Lost(NamedTuple):
    """An unfinished job of the record, or a bead that looks as if it had one."""

    bead: str
    rig: str
    state: str
    polecat: str | None = None
    attempt: int = 0

    @property
    def workflow_id(self) -> str:
        return names.polecat_id(self.rig, self.bead)


@command(app, "recover")
def recover(
    call: Call,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only what this polecat works on.")] = None,
    rig: Annotated[str | None, typer.Option("--rig", metavar="R", help="Only this rig.")] = None,
    all_rigs: Annotated[bool, typer.Option("--all", help="Every rig.")] = False,
    dry_run: DryRunOption = False,
) -> int:
    """Rebuild every unfinished job from Dolt and git; jobs that run are left alone, unless their code fails.

    An agent that still lives goes on, work that was handed in goes to the merge queue again, work
    that has landed is closed as merged, everything else is begun again above the highest attempt.
    """
    if name is None and rig is None and not all_rigs:
        raise GtError(ErrorCode.INVALID_VALUE, "what shall be recovered: NAME, --rig R or --all", "gt polecat list")
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        lost = _unfinished(ledger, name, None if rig is None else names.valid_rig(rig))
    found = connect.converse(town, lambda client: _recover(client, lost, dry_run)) if lost else []
    document = {"dry_run": dry_run, "jobs": found, **{action: _count(found, action) for action in _ACTIONS}}
    output.emit(call, document, _text(found))
    return ExitCode.FAILED if document["failed"] else ExitCode.DONE


_ACTIONS = ("rebuilt", "running", "failed")


def _count(found: list[dict[str, Any]], action: str) -> int:
    return sum(job["action"] == action for job in found)


def _unfinished(ledger: Ledger, name: str | None, rig: str | None) -> list[_Lost]:
    """Jobs with a polecat first: its name must be theirs again before a new one is given away.

    A job that waits for room never had a workflow, and its Dispatcher begins it by itself.
    """
    if rig is not None:
        ledger.rig(rig)
    only = polecat_row(ledger, name, rig) if name is not None else None
    rows = ledger.jobs(rig=rig, unfinished=True)
    jobs = [
        _Lost(row.bead, row.rig, row.state.value, row.polecat, row.attempt)
        for row in rows
        if not row.waits_for_room and (only is None or (row.rig, row.polecat) == (only.rig, only.name))
    ]
    known = {row.bead for row in rows}
    orphans = [
        _Lost(bead.id, bead.rig, bead.status.value)
        for bead in (ledger.beads(rig=rig) if only is None else [])
        if bead.status.value in _HELD and bead.id not in known
    ]
    return sorted([*jobs, *orphans], key=lambda job: (job.polecat is None, job.rig, job.bead))


async def _recover(client: Client, lost: list[_Lost], dry_run: bool) -> list[dict[str, Any]]:
    if not dry_run:
        await _start_what_never_ran(client, sorted({job.rig for job in lost}))
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(job: _Lost) -> dict[str, Any]:
        async with turns:
            action, detail = await _recover_one(client, job, dry_run)
        facts = {"bead": job.bead, "rig": job.rig, "polecat": job.polecat, "state": job.state, "attempt": job.attempt}
        return {**facts, "action": action, "detail": detail, "workflow_id": job.workflow_id}

    with_polecat = await asyncio.gather(*(one(job) for job in lost if job.polecat is not None))
    without = await asyncio.gather(*(one(job) for job in lost if job.polecat is None))
    if not dry_run:
        from services.temporal.schedules import verify_soon

        await verify_soon(client)
    return [*with_polecat, *without]


async def _start_what_never_ran(client: Client, rigs: list[str]) -> None:
    """A new Temporal knows of no dispatcher, Refinery or Witness. One that a person stopped stays stopped."""
    from services.temporal import long_lived
    from services.temporal.client import start_town_workflows

    await start_town_workflows(client)
    for rig in rigs:
        for workflow_id in (names.dispatch_id(rig), names.refinery_id(rig), names.witness_id(rig)):
            if not await _is_known(client, workflow_id):
                await long_lived.start(client, workflow_id)


async def _recover_one(client: Client, job: _Lost, dry_run: bool) -> tuple[str, str]:
    from temporalio.client import WorkflowExecutionStatus

    from models.job.messages import JobOrder, SlingResult
    from models.supervision.messages import Wedged
    from services.temporal import failing_workflows

    described = await _described(client, job.workflow_id)
    runs = described is not None and described.status is WorkflowExecutionStatus.RUNNING
    fails = described is not None and failing_workflows.stands_still(described)
    if runs and not fails:
        return "running", "its job runs"
    plan = ("its code failed: " if fails else "") + _PLANS.get(job.state, _PLANS[""])
    if dry_run:
        return "rebuilt", f"would be: {plan}"
    try:
        if fails:
            await failing_workflows.end(
                client, Wedged(workflow_id=job.workflow_id, run_id=described.run_id), "gt polecat recover"
            )
        dispatcher = client.get_workflow_handle(names.dispatch_id(job.rig))
        await connect.request(dispatcher, "rebuild", JobOrder(bead=job.bead), SlingResult)
    except GtError as error:
        return "failed", f"{error.message}; {error.hint}".removesuffix("; ")
    return "rebuilt", plan


_PLANS = {
    "starting": "its agent is looked for, else another attempt begins",
    "working": "its agent is looked for, else another attempt begins",
    "submitted": "its work goes to the merge queue again",
    "blocked": "it waits for a person",
    "": "it waits for a slot",
}
"""what becomes of a job, by the state that the record has it in"""


async def _is_known(client: Client, workflow_id: str) -> bool:
    return await _described(client, workflow_id) is not None


async def _described(client: Client, workflow_id: str) -> Any:
    from temporalio.service import RPCError, RPCStatusCode

    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def _text(found: list[dict[str, Any]]) -> str:
    if not found:
        return "no unfinished jobs"
    rows = [
        (job["bead"], job["rig"], job["polecat"], job["attempt"], job["state"], job["action"], job["detail"])
        for job in found
    ]
    return output.table(("BEAD", "RIG", "POLECAT", "ATTEMPT", "WAS", "NOW", "DETAIL"), rows)
