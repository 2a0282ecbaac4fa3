"""`gt witness`, `gt deacon`, `gt mayor`: the watchers, and who hears from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import RigOption
from cli.town import watchers_view
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.supervision.messages import DeaconStatus, Probe

app = new_app("Watchers.")
_witness = new_app("A rig's patrol: look at it, stop and start it, restart it.")
_deacon = new_app("The watch over the town's long-lived workflows: look at it, stop and start it, restart it.")
_mayor = new_app("Who receives every escalation.")
for _name, _group in (("witness", _witness), ("deacon", _deacon), ("mayor", _mayor)):
    app.add_typer(_group, name=_name)

BACK_S = 30.0
"""how long a restarted workflow may take to answer"""

ANSWER_S = 8.0
"""as long as `gt` waits for a worker elsewhere: on a busy machine an answer takes a while, and that is no fault"""

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")]

# --- Witness --------------------------------------------------------------------------------------


@command(_witness, "status")
def witness_status(call: Call, rig: RigOption) -> int:
    """Show a rig's patrol, and how the Deacon sees it; exit 1 when it does not work."""
    return _status(call, names.witness_id(rig), rig)


@command(_witness, "stop")
def witness_stop(call: Call, rig: RigOption, reason: ReasonOption = "") -> None:
    """No patrol until `start`; that holds whatever is restarted."""
    _stop(call, names.witness_id(rig), reason, rig)


@command(_witness, "start")
def witness_start(call: Call, rig: RigOption) -> None:
    """Patrol again; a Witness that is gone comes back with what it knew."""
    _start(call, names.witness_id(rig), rig)


@command(_witness, "restart")
def witness_restart(call: Call, rig: RigOption) -> None:
    """End its run and start afresh with what it knew."""
    _restart(call, names.witness_id(rig), rig)


@command(_witness, "reset")
def witness_reset(call: Call, rig: RigOption) -> None:
    """End its run and start from an empty state; running jobs tell it of themselves again."""
    _restart(call, names.witness_id(rig), rig, reset=True)


@command(_witness, "recover")
def witness_recover(call: Call, rig: RigOption) -> None:
    """Read the settings, check every polecat, resume the patrol, work off what is outstanding."""
    from models.supervision.messages import WitnessRecovered

    async def recover(client: Client) -> WitnessRecovered:
        handle = client.get_workflow_handle(names.witness_id(rig))
        return await connect.request(handle, "recover", None, WitnessRecovered)

    done = _with(call, names.witness_id(rig), recover, rig)
    output.emit(call, {"rig": rig, **output.document(done)}, watchers_view.recovered(done))


# --- Deacon ---------------------------------------------------------------------------------------


@command(_deacon, "status")
def deacon_status(call: Call) -> int:
    """Show whom the Deacon watches and how the town is; exit 1 when it does not work."""
    return _status(call, names.DEACON_ID)


@command(_deacon, "stop")
def deacon_stop(call: Call, reason: ReasonOption = "") -> None:
    """Judge nobody until `start`; that holds whatever is restarted."""
    _stop(call, names.DEACON_ID, reason)


@command(_deacon, "start")
def deacon_start(call: Call) -> None:
    """Watch again; a Deacon that is gone comes back with what it knew."""
    _start(call, names.DEACON_ID)


@command(_deacon, "restart")
def deacon_restart(call: Call) -> None:
    """End its run and start afresh with what it knew."""
    _restart(call, names.DEACON_ID)


@command(_deacon, "reset")
def deacon_reset(call: Call) -> None:
    """End its run and start from an empty state."""
    _restart(call, names.DEACON_ID, reset=True)


# --- Mayor ----------------------------------------------------------------------------------------


@command(_mayor, "status")
def mayor_status(call: Call) -> int:
    """Show whether the Mayor works and what is open; exit 1 when it does not work."""
    return _status(call, names.MAYOR_ID)


@command(_mayor, "start")
def mayor_start(call: Call) -> None:
    """Start a Mayor that is gone, with what it knew."""
    _start(call, names.MAYOR_ID)


@command(_mayor, "restart")
def mayor_restart(call: Call) -> None:
    """End its run and start afresh with what it knew."""
    _restart(call, names.MAYOR_ID)


# --- what they share ------------------------------------------------------------------------------


def _status(call: Call, workflow_id: str, rig: str | None = None) -> int:
    """One document: how it was found, what it says of itself, how the Deacon sees it."""
    from models.supervision.messages import ProbeResult
    from services.temporal import long_lived

    async def look(client: Client) -> tuple[Probe, dict[str, Any], DeaconStatus | None]:
        found = await long_lived.probe(client, workflow_id, ANSWER_S)
        own = await _own_words(client, workflow_id) if found.result is ProbeResult.ANSWERS else {}
        seen = None if workflow_id == names.DEACON_ID else await _deacons_view(client)
        return found, own, seen

    found, own, deacon = _with(call, workflow_id, look, rig)
    if found.result is ProbeResult.ABSENT and rig is not None:
        _look_up(call, rig)
    seen = next((row for row in deacon.watched if row.workflow_id == workflow_id), None) if deacon else None
    works = found.result is ProbeResult.ANSWERS
    condition = "stopped" if found.stopped else "running" if works else found.result.value
    document = {
        "workflow_id": workflow_id,
        "condition": condition,
        "detail": found.detail,
        "run_id": found.run_id or None,
        **own,
        **({} if workflow_id == names.DEACON_ID else {"deacon": output.document(seen) if seen else None}),
    }
    output.emit(call, document, watchers_view.status(document))
    if not works:
        output.fail(f"{workflow_id}: {condition}{f' ({found.detail})' if found.detail else ''}", _cure(found, rig))
    return 0 if works else 1


async def _own_words(client: Client, workflow_id: str) -> dict[str, Any]:
    handle = client.get_workflow_handle(workflow_id)
    if workflow_id != names.MAYOR_ID:
        status: dict[str, Any] = await connect.ask(handle, "status", dict[str, Any], within_s=ANSWER_S)
        return status
    told = await connect.ask(handle, "escalations", list[dict[str, Any]], within_s=ANSWER_S)
    waiting = [escalation for escalation in told if not escalation["resolved"]]
    return {"open": len(waiting), "unacked": sum(not escalation["acked"] for escalation in waiting)}


async def _deacons_view(client: Client) -> DeaconStatus | None:
    """How the Deacon sees things; None when he does not say, which `gt deacon status` explains."""
    from models.supervision.messages import DeaconStatus

    try:
        return await connect.ask(client.get_workflow_handle(names.DEACON_ID), "status", DeaconStatus, within_s=ANSWER_S)
    except Exception as error:
        output.warn(f"the Deacon does not say how it sees this: {connect.as_gt_error(error).message}")
        return None


def _stop(call: Call, workflow_id: str, reason: str, rig: str | None = None) -> None:
    from models.refinery.messages import PauseRequest

    request = PauseRequest(reason=reason, by=connect.person())

    async def stop(client: Client) -> dict[str, Any]:
        answer: dict[str, Any] = await connect.request(
            client.get_workflow_handle(workflow_id), "stop", request, dict[str, Any]
        )
        return answer

    status = _with(call, workflow_id, stop, rig)
    output.emit(call, {"workflow_id": workflow_id, **status}, f"{workflow_id} is stopped until `start`")


def _start(call: Call, workflow_id: str, rig: str | None = None) -> None:
    from models.supervision.messages import ProbeResult, RestartWorkflow
    from services.temporal import long_lived, restarts

    async def begin(client: Client) -> Probe:
        found = await long_lived.probe(client, workflow_id, ANSWER_S)
        if found.result is ProbeResult.ABSENT:
            await _require_rig(call, rig)
            await restarts.restart(client, RestartWorkflow(workflow_id=workflow_id, reason=_by_person()))
        found = await _answering(client, workflow_id, rig)
        if workflow_id != names.MAYOR_ID:
            await connect.request(client.get_workflow_handle(workflow_id), "start", None, dict[str, Any])
        return found.model_copy(update={"stopped": False})

    _emit_running(call, _with(call, workflow_id, begin, rig), "runs")


def _restart(call: Call, workflow_id: str, rig: str | None = None, *, reset: bool = False) -> None:
    from models.supervision.messages import RestartWorkflow
    from services.temporal import long_lived, restarts

    async def again(client: Client) -> Probe:
        await _require_rig(call, rig)
        found = await long_lived.probe(client, workflow_id, ANSWER_S)
        order = RestartWorkflow(workflow_id=workflow_id, run_id=found.run_id, reset=reset, reason=_by_person())
        await restarts.restart(client, order)
        return await _answering(client, workflow_id, rig)

    _emit_running(call, _with(call, workflow_id, again, rig), "runs again")


async def _answering(client: Client, workflow_id: str, rig: str | None) -> Probe:
    """Wait until it answers.

    Raises:
        GtError: TIMED_OUT, with what stands against it.
    """
    import asyncio

    from models.supervision.messages import ProbeResult
    from services.temporal import long_lived

    deadline = asyncio.get_running_loop().time() + BACK_S
    while True:
        found = await long_lived.probe(client, workflow_id, ANSWER_S)
        if found.result is ProbeResult.ANSWERS:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise GtError(
                ErrorCode.TIMED_OUT,
                f"{workflow_id} does not answer: {_found(found)}",
                _cure(found, rig, wedged="reset"),
            )
        await asyncio.sleep(0.2)


def _emit_running(call: Call, found: Probe, text: str) -> None:
    condition = "stopped" if found.stopped else "running"
    document = {"workflow_id": found.workflow_id, "condition": condition, "run_id": found.run_id}
    output.emit(call, document, f"{found.workflow_id} {text}" + (", stopped as before" if found.stopped else ""))


def _with(call: Call, workflow_id: str, conversation: Callable[[Client], Awaitable[Any]], rig: str | None) -> Any:
    """Talk to Temporal; an unknown rig is told from one whose Witness does not run."""
    town = connect.open_town(call)
    try:
        return connect.converse(town, conversation)
    except connect.WorkflowAbsent:
        if rig is not None:
            _look_up(call, rig)
        raise GtError(
            ErrorCode.TEMPORAL_UNREACHABLE, f"{workflow_id} does not run", _command(workflow_id, rig, "start")
        ) from None


async def _require_rig(call: Call, rig: str | None) -> None:
    """Nothing is started for a rig that the ledger does not name."""
    import asyncio

    if rig is not None:
        await asyncio.to_thread(_look_up, call, rig)


def _look_up(call: Call, rig: str) -> None:
    """NOT_FOUND for a rig that the ledger does not name."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        ledger.rig(rig)


def _found(found: Probe) -> str:
    return f"{found.result.value}{f' ({found.detail})' if found.detail else ''}"


def _by_person() -> str:
    return f"by {connect.person()}"


def _cure(found: Probe, rig: str | None, *, wedged: str = "restart") -> str:
    """The next step for one that does not answer: silence is mostly a missing worker's."""
    verb = {"absent": "start", "wedged": wedged}.get(found.result.value)
    if verb == "reset" and found.workflow_id == names.MAYOR_ID:
        verb = "restart"  # what the Mayor holds is nobody's to throw away
    return _command(found.workflow_id, rig, verb) if verb else "gt up"


def _command(workflow_id: str, rig: str | None, verb: str) -> str:
    return f"gt {workflow_id.partition('/')[0]} {verb}" + (f" --rig {rig}" if rig else "")
