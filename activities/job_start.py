"""A job's beginning: what the record says of its bead, and the workflow that works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.search_attributes import attributes
from models import names
from models.errors import ErrorCode, GtError
from models.job.messages import Admission, JobBegin, JobStarted, SlingRequest, SlotGrant, StartJob
from models.ledger.records import JobState
from models.names import WorkflowType
from models.supervision.messages import TASK_TIMEOUT
from policies.dispatch.room import job_bytes

ENDING_TRIES = 10
"""seconds to wait for the bead's last job to end, when it has said that it does"""
DESCRIPTION_LENGTH = 200_000
"""characters that a job carries; Temporal takes no payload above 2 MB"""
SUMMARY_BYTES = 200
_BEGUN_BY = "begun by"
"""of the memo: the key of the order that has started a run, so that a repeat knows its own"""
_SLOT = "slot"
"""of the memo: what the run began with"""


class _Running(NamedTuple):
    """The workflow of a bead's job."""

    mine: bool
    """this order has started it, now or in an earlier try"""
    slot: SlotGrant | None = None
    """with which it began, where it is mine"""


class JobStartActivities:
    """Starts jobs.

    Args:
        admit: asks the record whether a bead may be worked on.
    """

    def __init__(self, client: Client, admit: Callable[[SlingRequest], Awaitable[Admission]]) -> None:
        self._client = client
        self._admit = admit

    @activity.defn
    async def start_job(self, order: StartJob) -> JobStarted:
        """Admit a bead and start its job's workflow, or find the one that runs already.

        Raises:
            GtError: what the record says against it; REFUSED while the bead's last job has not ended after all.
        """
        admission = await self._admit(order.sling)
        bead, unfinished = admission.bead, admission.unfinished is not None
        more = job_bytes(admission.rig.whereabouts, admission.open_dependencies)
        no_room = not unfinished and order.room is not None and more > order.room
        if no_room or (unfinished and order.goes_on is None):
            earlier = await self._running(order)
            if earlier is None or not earlier.mine:
                return JobStarted(admission=admission)
            return JobStarted(admission=admission, runs=True, new=True, slot=earlier.slot)
        carried = admission if order.goes_on else admission.homeless()
        carried = carried.model_copy(
            update={"bead": bead.model_copy(update={"description": _clipped(bead.description, bead.id)})}
        )
        slot = order.slot if admission.needs_slot_alone else None
        grant = slot.model_copy(update={"attempt": admission.highest_attempt + 1}) if slot else None
        running = await self._start(order, JobBegin(admission=carried, grant=grant))
        return JobStarted(admission=admission, runs=True, new=running.mine, slot=running.slot)

    async def _start(self, order: StartJob, begin: JobBegin) -> _Running:
        bead, rig, grant = begin.admission.bead, begin.admission.rig.name, begin.grant
        shown = attributes(
            role="polecat",
            state=(JobState.STARTING if grant else JobState.WAITING).value,
            rig=rig,
            bead=bead.id,
            polecat=grant.polecat if grant else None,
        )
        for _ in range(ENDING_TRIES):
            try:
                await self._client.start_workflow(
                    WorkflowType.POLECAT.value,
                    begin,
                    id=names.polecat_id(rig, bead.id),
                    task_queue=names.TOWN_QUEUE,
                    task_timeout=TASK_TIMEOUT,
                    static_summary=f"{bead.id} {bead.title}".encode()[:SUMMARY_BYTES].decode(errors="ignore"),
                    search_attributes=shown,
                    memo={_BEGUN_BY: order.key} | ({_SLOT: grant} if grant else {}),
                    priority=Priority(fairness_key=rig),
                )
            except WorkflowAlreadyStartedError:
                running = await self._running(order)
                if running is not None and (running.mine or not order.ending):
                    return running
                await asyncio.sleep(1)
            else:
                return _Running(mine=True, slot=grant)
        message = f"the last job of {bead.id} has ended but is not recorded yet"
        raise GtError(ErrorCode.REFUSED, message, f"gt job show {bead.id}")

    async def _running(self, order: StartJob) -> _Running | None:
        """The workflow of the bead's job; None where none runs."""
        handle = self._client.get_workflow_handle(names.polecat_id(order.sling.rig, order.sling.bead))
        try:
            found = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return None
        if await found.memo_value(_BEGUN_BY, "") != order.key:
            return _Running(mine=False)
        return _Running(mine=True, slot=await found.memo_value(_SLOT, None, type_hint=SlotGrant))


def _clipped(description: str, bead: str) -> str:
    if len(description) <= DESCRIPTION_LENGTH:
        return description
    return f"{description[:DESCRIPTION_LENGTH]}…\n\n(cut here; `bd show {bead}` has all of it)"
