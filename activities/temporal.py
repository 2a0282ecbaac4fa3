"""Temporal itself as an outside system: reports to the Mayor, and workflows: which run, which answer, restarts."""

from __future__ import annotations

import asyncio

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.crash_points import crash_point
from models import names
from models.errors import ErrorCode
from models.job.messages import WorkflowIds
from models.mayor.escalations import Escalation, EscalationCleared
from models.supervision.messages import DeaconLook, Probe, RestartWorkflow, Wedged
from services.temporal import failing_workflows as rescuing
from services.temporal import long_lived, restarts, schedules

ASKED_AT_ONCE = 20


class TownActivities:
    """What a workflow cannot do from inside: signal-with-start, and asking for the state of others."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def tell_mayor(self, escalation: Escalation) -> None:
        """Hand an escalation to the Mayor, starting it where it does not run. Telling twice is one.

        Raises:
            RPCError: Temporal is unreachable; retrying helps.
        """
        await long_lived.tell_mayor(self._client, escalation)
        crash_point("mayor.told")

    @activity.defn
    async def clear_escalation(self, cleared: EscalationCleared) -> None:
        """Tell the Mayor that what was escalated is over by itself. Telling twice is one.

        Raises:
            RPCError: Temporal is unreachable; retrying helps.
        """
        await long_lived.tell_mayor(self._client, cleared)

    @activity.defn
    async def running_workflows(self, asked: WorkflowIds) -> WorkflowIds:
        """Which of these workflows run now, in the order asked.

        Raises:
            RPCError: Temporal is unreachable; retrying helps.
        """
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def runs(workflow_id: str) -> bool:
            async with turns:
                return await self._runs(workflow_id)

        running = await asyncio.gather(*(runs(workflow_id) for workflow_id in asked.ids))
        return WorkflowIds(ids=tuple(name for name, runs_now in zip(asked.ids, running, strict=True) if runs_now))

    @activity.defn
    async def look_at_deacon(self) -> DeaconLook:
        """Boot's first two steps: does a worker poll, does the Deacon run and answer.

        Raises:
            RPCError, TimeoutError: Temporal itself does not answer; retrying helps.
        """
        return await long_lived.look_at_deacon(self._client)

    @activity.defn
    async def look_at_mayor(self) -> Probe:
        """Whether the Mayor answers: a signal reaches one whose code fails as well.

        Raises:
            RPCError, TimeoutError: Temporal itself does not answer; retrying helps.
        """
        return await long_lived.probe(self._client, names.MAYOR_ID)

    @activity.defn
    async def restart(self, order: RestartWorkflow) -> None:
        """Restart a long-lived workflow from what it knew; a second time changes nothing.

        Raises:
            RPCError, TimeoutError: Temporal itself does not answer; retrying helps.
        """
        await restarts.restart(self._client, order)

    @activity.defn
    async def rescue(self, wedged: Wedged) -> bool:
        """Set a job or a merge going again whose code fails; a second time changes nothing.

        Returns:
            Whether its run was ended for it.

        Raises:
            RPCError, TimeoutError: Temporal or a dispatcher does not answer; retrying helps.
            WorkflowUpdateFailedError: its job cannot be begun again now, as while the ledger is down.
        """
        try:
            ended = await rescuing.rescue(self._client, wedged, "the Deacon: its code fails")
        except WorkflowUpdateFailedError as error:
            if not _is_final(error):
                raise
            activity.logger.warning("%s is not begun again: %s", wedged.workflow_id, error.cause)
            return True
        if ended:
            await schedules.verify_soon(self._client)
        return ended

    async def _runs(self, workflow_id: str) -> bool:
        try:
            description = await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return description.status is WorkflowExecutionStatus.RUNNING


def _is_final(refusal: WorkflowUpdateFailedError) -> bool:
    """Whether there is nothing to begin again: the bead is closed, or gone."""
    cause = refusal.cause
    return isinstance(cause, ApplicationError) and cause.type in {ErrorCode.REFUSED.value, ErrorCode.NOT_FOUND.value}
