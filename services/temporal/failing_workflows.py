"""Jobs and merges whose code fails, and how each is set going again without losing what it had done.

A job is ended and rebuilt from the record, as after a loss of Temporal's database; a merge is ended,
and its Refinery begins it again.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.job.messages import JobOrder, SlingResult
from models.names import WorkflowType
from models.supervision.messages import Wedged
from services.temporal.updates import accepted

PROBLEM = "category=WorkflowTaskFailed"
"""Of the search attribute TemporalReportedProblems. A town's server sets it after two failures in a row
(services/supervisor/programs.py), some ten seconds; another one after as many as it is told, five unless told
otherwise."""
QUERY = (
    f"TemporalReportedProblems = '{PROBLEM}' AND ExecutionStatus = 'Running' "
    f"AND WorkflowType IN ('{WorkflowType.POLECAT}', '{WorkflowType.MERGE}')"
)
AT_ONCE = 100
"""found at a time; the others are found when these are done"""
ASK_S = 5.0
ANSWER_S = 20.0
_UNASKABLE = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.UNIMPLEMENTED})
"""a server before 1.29, which does not know the search attribute, or the time-skipping one, which cannot list"""


async def find(client: Client) -> tuple[Wedged, ...] | None:
    """Jobs and merges that stand still because their code fails; None: this server cannot tell.

    Raises:
        RPCError: Temporal does not answer.
    """
    found = client.list_workflows(QUERY, limit=AT_ONCE, rpc_timeout=timedelta(seconds=ASK_S))
    try:
        return tuple([Wedged(workflow_id=run.id, run_id=run.run_id) async for run in found])
    except RPCError as error:
        if error.status in _UNASKABLE:
            return None
        raise


def stands_still(described: WorkflowExecutionDescription) -> bool:
    """Whether this run's code fails, as `find` has it."""
    runs = described.status is WorkflowExecutionStatus.RUNNING
    return runs and PROBLEM in described.search_attributes.get("TemporalReportedProblems", ())


async def rescue(client: Client, wedged: Wedged, reason: str) -> bool:
    """Set it going again; what works again by itself, has ended or runs anew is left alone.

    Returns:
        Whether its run was ended for it.

    Raises:
        RPCError, TimeoutError: Temporal or the dispatcher does not answer; trying again helps.
        WorkflowUpdateFailedError: the dispatcher cannot begin the job again.
    """
    described = await client.get_workflow_handle(wedged.workflow_id).describe()
    if stands_still(described) and described.run_id == wedged.run_id:
        await end(client, wedged, reason)
    elif described.status is not WorkflowExecutionStatus.TERMINATED:
        return False
    if wedged.role == "polecat":
        await rebuild(client, wedged.rig, JobOrder(bead=wedged.bead, reason=reason))
    return True


async def end(client: Client, wedged: Wedged, reason: str) -> None:
    """End that very run; one that has ended is left alone.

    Raises:
        RPCError: Temporal does not answer; trying again helps.
    """
    try:
        await client.get_workflow_handle(wedged.workflow_id, run_id=wedged.run_id).terminate(reason)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def rebuild(client: Client, rig: str, order: JobOrder) -> SlingResult:
    """Let the dispatcher begin a job again that the record has and no workflow runs for.

    Raises:
        RPCError, TimeoutError: it does not answer; trying again helps.
        WorkflowUpdateFailedError: it refuses, and says why.
    """
    dispatcher = client.get_workflow_handle(names.dispatch_id(rig))
    async with asyncio.timeout(ANSWER_S):
        update = await accepted(dispatcher, "rebuild", [order], SlingResult)
        answer: SlingResult = await update.result()
        return answer
