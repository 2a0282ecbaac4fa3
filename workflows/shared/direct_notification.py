"""Telling people directly, for watchers who cannot leave it to the Mayor."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.notifications import NoticeActivities
from models.mayor.alerts import Notice
from workflows.shared import activity_options

ANNOUNCE = timedelta(seconds=70)
"""longer than a channel may take for one message"""


async def announced(notice: Notice) -> bool:
    """Send a notice through every channel that rules name for it; again, to those that refused before.

    Returns:
        Whether every channel has taken it.
    """
    try:
        await workflow.execute_activity_method(
            NoticeActivities.announce,
            notice,
            summary=f"directly: {notice.title}"[:200],
            **activity_options.pings(ANNOUNCE),
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.error("not everybody could be told: %s", error.cause)
        return False
    return True
