"""How jobs stand, asked of the jobs themselves."""

from __future__ import annotations

import asyncio
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.job.messages import JobStatus
from models.upkeep.cleanup import JobsAsked, JobStandings

AT_ONCE: Final = 20


class StandingActivities:
    """Questions to jobs that a workflow cannot put: queries."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def job_standings(self, asked: JobsAsked) -> JobStandings:
        """How each of these jobs stands; those that do not run are left out.

        Raises:
            RPCError: Temporal is unreachable, or a job's code fails; retrying helps.
        """
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(bead: str) -> JobStatus | None:
            async with turns:
                return await self._standing(names.polecat_id(asked.rig, bead))

        found = await asyncio.gather(*(one(bead) for bead in asked.beads))
        return JobStandings(
            jobs={bead: status for bead, status in zip(asked.beads, found, strict=True) if status is not None}
        )

    async def _standing(self, workflow_id: str) -> JobStatus | None:
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            description = await handle.describe()
            if description.status is not WorkflowExecutionStatus.RUNNING:
                return None
            status = await handle.query("status", result_type=JobStatus)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        # It may have ended between the two questions: a job that is over holds nothing.
        return None if status.state.final else status
