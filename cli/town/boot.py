"""`gt boot`: who looks at the Deacon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.town import watchers_view
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.supervision.messages import BootReport
    from services.temporal.schedules import Started

app = new_app("Boot.")
_group = new_app("The look at the Deacon, every five minutes.")
app.add_typer(_group, name="boot")

LOOK_S = 300.0
"""how long a look may take: a Deacon that does not answer gets some time"""


@command(_group, "status")
def boot_status(call: Call) -> int:
    """Show Boot's Schedule and what its last look found; exit 1 when the Deacon was not well."""
    from services.temporal import schedules

    async def look(client: Client) -> tuple[schedules.ScheduleState | None, BootReport | None]:
        known = await schedules.look_at(client, names.BOOT_ID)
        return known, await _last_report(client, known.started) if known else None

    known, last = connect.converse(connect.open_town(call), look)
    if known is None:
        raise GtError(ErrorCode.NOT_FOUND, "Boot is not scheduled", "gt up")
    document = {
        "paused": known.paused,
        "note": known.note,
        "next_at": output.when(known.next_at) if known.next_at else None,
        "last": output.document(last) if last else None,
    }
    output.emit(call, document, watchers_view.boot(known.paused, known.next_at, last))
    return 0 if last is None or last.healthy else 1


@command(_group, "run")
def boot_run(call: Call) -> int:
    """Let Boot look now, and print its four steps; exit 1 when the Deacon is not well after that."""
    from models.supervision.messages import BootReport
    from services.temporal import schedules

    async def run(client: Client) -> BootReport:
        import asyncio

        await schedules.keep_schedules(client)
        started = await schedules.run_now(client, names.BOOT_ID)
        output.say(f"{started.workflow_id} looks at the Deacon…")
        handle = client.get_workflow_handle(started.workflow_id, run_id=started.run_id, result_type=BootReport)
        return await asyncio.wait_for(handle.result(), LOOK_S)

    report = connect.converse(connect.open_town(call), run)
    output.emit(call, output.document(report), watchers_view.steps(report))
    return 0 if report.healthy else 1


async def _last_report(client: Client, started: tuple[Started, ...]) -> BootReport | None:
    """The newest look that has ended; its history may have expired."""
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError, RPCStatusCode

    from models.supervision.messages import BootReport

    for start in reversed(started):
        handle = client.get_workflow_handle(start.workflow_id, run_id=start.run_id, result_type=BootReport)
        try:
            described = await handle.describe()
            if described.status is WorkflowExecutionStatus.COMPLETED:
                report: BootReport = await handle.result()
                return report
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return None
