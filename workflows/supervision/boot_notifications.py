"""Boot while the Mayor does not work either: nobody else is left to tell people that the Deacon is down."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.temporal import TownActivities
    from models import names
    from models.mayor.alerts import AlertType, Edge, Notice, Priority
    from models.mayor.escalations import Escalation
    from models.supervision.messages import BootAnnouncement, Probe, ProbeResult
    from policies.supervision.watchdog import LOOKS_TO_ACCUSE
    from workflows.shared import activity_options

from workflows.shared.direct_notification import announced as taken

BETWEEN_LOOKS = timedelta(seconds=10)
MAYOR_LOOK = timedelta(seconds=15)


async def deaf_mayor() -> Probe | None:
    """How the Mayor was found twice; None: he answers, or nothing is known of him."""
    found = await _look_at_mayor()
    for _ in range(LOOKS_TO_ACCUSE - 1):
        if found is None or found.result is ProbeResult.ANSWERS:
            return None
        await workflow.sleep(BETWEEN_LOOKS, summary="the Mayor may be busy")
        found = await _look_at_mayor()
    return None if found is None or found.result is ProbeResult.ANSWERS else found


async def _look_at_mayor() -> Probe | None:
    try:
        return await workflow.execute_activity_method(
            TownActivities.look_at_mayor, summary="does the Mayor answer?", **activity_options.pings(MAYOR_LOOK)
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("the Mayor could not be looked at: %s", error.cause)
        return None


async def tell_people(escalation: str, report: Escalation, deaf: Probe) -> bool:
    """Announce an open escalation; a second time reaches those channels only that refused before.

    Returns:
        Whether every channel has taken it.
    """
    body = f"the Mayor, who would tell it, {condition(deaf)}, so Boot tells it directly; tried: {report.tried}"
    return await taken(_notice(escalation, Edge.START, Priority.CRITICAL, report.message, body))


async def tell_people_over(announced: BootAnnouncement, reason: str) -> BootAnnouncement:
    """What was announced is over. Returns: what is still to be told to be over."""
    if not announced.escalation:
        return announced
    end = _notice(announced.escalation, Edge.END, Priority.LOW, f"over: {announced.escalation}", reason)
    return BootAnnouncement() if await taken(end) else announced


def _notice(escalation: str, edge: Edge, priority: Priority, title: str, body: str) -> Notice:
    return Notice(
        id=f"boot:{escalation}:{edge}",
        condition=f"boot:{escalation}",
        type=AlertType.DEACON_DOWN,
        priority=priority,
        edge=edge,
        title=title,
        body=body,
        source=names.BOOT_ID,
        command="gt boot status",
        at=workflow.now(),
    )


def condition(found: Probe) -> str:
    """As the end of a sentence that begins with «the Deacon»."""
    said = {
        ProbeResult.ANSWERS: "answers",
        ProbeResult.ABSENT: "does not run",
        ProbeResult.WEDGED: "runs into a fault of its code",
        ProbeResult.SILENT: "does not answer",
    }
    return f"{said[found.result]}{f' ({found.detail})' if found.detail else ''}"
