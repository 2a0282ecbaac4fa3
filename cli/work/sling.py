"""`gt sling`: hand a bead to a polecat."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import agent_programs, connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import BeadArgument
from models import names
from models.errors import ErrorCode, ExitCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.job.messages import JobResult, SlingRequest, SlingResult
    from models.ledger.records import JobState
    from services.town import Town

app = new_app("Work.")

POLL_S = 1.0
WAIT_S = 86_400.0
"""default limit of --wait: a day"""
_EXIT_CODES = {
    "merged": ExitCode.DONE,
    "closed": ExitCode.DONE,
    "abandoned": ExitCode.FAILED,
    "blocked": ExitCode.REFUSED,
}
"""job states that end --wait"""


@command(app, "sling")
def sling(
    call: Call,
    bead: BeadArgument,
    rig: Annotated[str, typer.Argument(metavar="RIG", help="The bead's rig.")],
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="CMD", help="Agent command, or claude, codex, gemini, …")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait for the end: 0 merged, or closed with nothing to do; 1 abandoned, 5 blocked."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0, help="Seconds to wait at most; then exit 6.")
    ] = WAIT_S,
) -> int:
    """Hand a bead to a polecat of its rig; the same bead twice is one job."""
    names.valid_bead(bead)
    names.valid_rig(rig)
    town = connect.open_town(call)
    if agent is not None:
        agent_programs.require_agent(agent, town)
    from models.job.messages import SlingRequest

    deadline = time.monotonic() + timeout
    request = SlingRequest(bead=bead, rig=rig, agent=agent)
    result = connect.converse(town, lambda client: hand_over(client, town, request))
    state, code = result.state.value, ExitCode.DONE
    if result.note:
        output.warn(f"{result.note}, and starts by itself")
        output.say(f"hint: gt job list --rig {rig} --unfinished")
    if wait:
        state = _wait(town, result, deadline) or state
        code = _EXIT_CODES.get(state, ExitCode.TIMED_OUT)
    web_url = town.web_url(result.workflow_id)
    document = {"bead": bead, "workflow_id": result.workflow_id, "state": state, "web_url": web_url}
    output.emit(call, document | {"note": result.note}, f"{bead}: {state}\n{web_url or result.workflow_id}")
    if code is not ExitCode.DONE:
        what = f"still {state} after {timeout:.0f} s" if code is ExitCode.TIMED_OUT else state
        output.fail(f"{bead} is {what}", f"gt job show {bead}")
    return code


async def hand_over(client: Client, town: Town, request: SlingRequest) -> SlingResult:
    """The dispatcher's answer; a dispatcher that was never started is started for a rig that exists."""
    from models.job.messages import SlingResult

    handle = client.get_workflow_handle(names.dispatch_id(request.rig))
    try:
        return await connect.request(handle, "sling", request, SlingResult)
    except connect.WorkflowAbsent:
        await asyncio.to_thread(_require_rig, town, request.rig)
    from services.temporal.client import start_rig_workflows

    await start_rig_workflows(client, request.rig)
    return await connect.request(handle, "sling", request, SlingResult)


def _require_rig(town: Town, rig: str) -> None:
    with connect.open_ledger(town) as ledger:
        ledger.rig(rig)


def _wait(town: Town, result: SlingResult, deadline: float) -> str | None:
    """The state that ended the wait, or the last one seen (None: none was seen) at the deadline."""
    try:
        output.say(f"{result.bead}: {result.state}; waiting")
        return connect.converse(town, lambda client: _watch(client, result, deadline))
    except KeyboardInterrupt:
        output.say(f"{result.bead}: the job goes on; see gt job show {result.bead}")
        raise


async def _watch(client: Client, slung: SlingResult, deadline: float) -> str | None:
    """Look at the job until it is final or blocked; an outage of Temporal is waited out."""
    from models.job.messages import JobResult

    workflow_id = slung.workflow_id
    if slung.note and not await _begun(client, workflow_id, deadline):
        return slung.state.value
    # Without a run id: should the job continue as new, the handle follows it.
    ended = asyncio.ensure_future(_result(client.get_workflow_handle(workflow_id, result_type=JobResult)))
    seen: str | None = None
    try:
        while not ended.done():
            seen = await _state(client, workflow_id) or seen
            if seen in _EXIT_CODES:
                return seen
            left = deadline - time.monotonic()
            if left <= 0:
                return seen
            await asyncio.wait({ended}, timeout=min(POLL_S, left))
        return ended.result().value
    finally:
        ended.cancel()


async def _begun(client: Client, workflow_id: str, deadline: float) -> bool:
    """Wait until a job that waits in the ledger has a workflow; what an earlier job of its bead came to is old."""
    earlier = await _run_of(client, workflow_id)
    while True:
        run = await _run_of(client, workflow_id)
        if run is not None and (run[1] or run != earlier):
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_S)


async def _run_of(client: Client, workflow_id: str) -> tuple[str, bool] | None:
    """The workflow's newest run, and whether it is open; None where there is none, or nobody answers."""
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError

    try:
        described = await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return None
    return described.run_id, described.status is WorkflowExecutionStatus.RUNNING


async def _result(handle: Any) -> JobState:
    from temporalio.client import WorkflowFailureError
    from temporalio.service import RPCError, RPCStatusCode

    while True:
        try:
            result: JobResult = await handle.result()
            return result.state
        except WorkflowFailureError as error:
            raise GtError(
                ErrorCode.SERVICE_FAILED, f"the job ended by itself: {error.cause or error}", "gt job list"
            ) from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise
            await asyncio.sleep(POLL_S)


async def _state(client: Client, workflow_id: str) -> str | None:
    """The job's search attribute GtState: read from the server, so it needs no worker."""
    from temporalio.common import SearchAttributeKey
    from temporalio.service import RPCError

    try:
        described = await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return None
    return described.typed_search_attributes.get(SearchAttributeKey.for_keyword("GtState"))
