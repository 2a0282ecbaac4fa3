"""`gt witness`, `gt deacon`, `gt boot`, `gt mayor`: the watchers, and who hears from them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import RigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from datetime import datetime

    from temporalio.client import Client

    from models.supervision.messages import BootReport, BootStep, DeaconStatus, Probe, WitnessRecovered
    from services.temporal.schedules import Started

app = new_app("Watchers.")
_GROUPS = {
    "witness": new_app("A rig's patrol: look at it, stop and start it, restart it."),
    "deacon": new_app("The watch over the town's long-lived workflows: look at it, stop and start it, restart it."),
    "boot": new_app("The look at the Deacon, every five minutes."),
    "mayor": new_app("Who receives every escalation."),
}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)

BACK_S = 30.0
"""how long a restarted workflow may take to answer"""

ANSWER_S = 8.0
"""as long as `gt` waits for a worker elsewhere: on a busy machine an answer takes a while, and that is no fault"""

LOOK_S = 300.0
"""how long a look may take: a Deacon that does not answer gets some time"""

NOT_NEEDED = "not needed"
"""the detail of a step of Boot's that there was no reason for"""

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")]

_VERBS = {
    ("witness", "status"): "Show a rig's patrol, and how the Deacon sees it; exit 1 when it does not work.",
    ("witness", "stop"): "No patrol until `start`; that holds whatever is restarted.",
    ("witness", "start"): "Patrol again; a Witness that is gone comes back with what it knew.",
    ("witness", "restart"): "End its run and start afresh with what it knew.",
    ("witness", "reset"): "End its run and start from an empty state; running jobs tell it of themselves again.",
    ("deacon", "status"): "Show whom the Deacon watches and how the town is; exit 1 when it does not work.",
    ("deacon", "stop"): "Judge nobody until `start`; that holds whatever is restarted.",
    ("deacon", "start"): "Watch again; a Deacon that is gone comes back with what it knew.",
    ("deacon", "restart"): "End its run and start afresh with what it knew.",
    ("deacon", "reset"): "End its run and start from an empty state.",
    ("mayor", "status"): "Show whether the Mayor works and what is open; exit 1 when it does not work.",
    ("mayor", "start"): "Start a Mayor that is gone, with what it knew.",
    ("mayor", "restart"): "End its run and start afresh with what it knew.",
}
"""what each command does, for its help"""


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
    output.emit(call, document, _status_text(document))
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


def _stop(call: Call, workflow_id: str, rig: str | None = None, *, reason: str = "") -> None:
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


def _register(watcher: str, verb: str, help: str) -> None:
    acts: dict[str, Callable[..., int | None]] = {
        "status": _status,
        "stop": _stop,
        "start": _start,
        "restart": _restart,
    }
    act = acts.get(verb) or partial(_restart, reset=True)

    def run(call: Call, /, **told: str) -> int | None:
        rig = told.get("rig")
        return act(call, watcher if rig is None else names.witness_id(rig), **told)

    any_kind, required = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    parameters = [inspect.Parameter("call", any_kind, annotation=Call)]
    if watcher == "witness":
        parameters.append(inspect.Parameter("rig", any_kind, annotation=RigOption, default=required))
    if verb == "stop":
        parameters.append(inspect.Parameter("reason", any_kind, annotation=ReasonOption, default=""))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = help
    command(_GROUPS[watcher], verb)(run)


for (_watcher, _verb), _help in _VERBS.items():
    _register(_watcher, _verb, _help)


@command(_GROUPS["witness"], "recover")
def witness_recover(call: Call, rig: RigOption) -> None:
    """Read the settings, check every polecat, resume the patrol, work off what is outstanding."""
    from models.supervision.messages import WitnessRecovered

    async def recover(client: Client) -> WitnessRecovered:
        handle = client.get_workflow_handle(names.witness_id(rig))
        return await connect.request(handle, "recover", None, WitnessRecovered)

    done = _with(call, names.witness_id(rig), recover, rig)
    output.emit(call, {"rig": rig, **output.document(done)}, _recovered_text(done))


@command(_GROUPS["boot"], "status")
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
    output.emit(call, document, _boot_text(known.paused, known.next_at, last))
    return 0 if last is None or last.healthy else 1


@command(_GROUPS["boot"], "run")
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
    output.emit(call, output.document(report), _steps_text(report))
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


def _status_text(document: dict[str, Any]) -> str:
    """A watcher's document as lines, then tables of whom it watches."""
    plain = {
        name: _shown(value)
        for name, value in document.items()
        if name not in {"watched", "checks", "deacon", "health", "heartbeat_age_s", "progress_age_s"}
    }
    parts = [output.fields(plain)]
    if document.get("deacon"):
        seen = document["deacon"]
        parts.append(f"the Deacon sees it as {seen['condition']}{': ' if seen['reason'] else ''}{seen['reason']}")
    if document.get("watched"):
        parts.append(_watched(document["watched"]))
    if document.get("checks"):
        parts.append(_checks(document["checks"]))
    return "\n\n".join(parts)


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _watched(rows: list[dict[str, Any]]) -> str:
    header = ("WATCHED", "CONDITION", "PING", "PATROL", "RESTARTS", "REASON")
    cells = [
        (
            row["workflow_id"],
            row["condition"],
            output.duration(row["ping_age_s"]),
            output.duration(row["patrol_age_s"]),
            row["restarts"],
            row["reason"],
        )
        for row in rows
    ]
    return output.table(header, cells)


def _checks(rows: list[dict[str, Any]]) -> str:
    cells = [(row["name"], row["subject"], "well" if row["ok"] else "ALARM", row["detail"]) for row in rows]
    return output.table(("CHECK", "OF", "STATE", "DETAIL"), cells)


def _recovered_text(done: WitnessRecovered) -> str:
    """The four results of `recover`."""
    verdicts = ", ".join(f"{count} {kind}" for kind, count in done.verdicts.items()) or "no polecat works"
    unchecked = f"; not checked: {', '.join(done.unchecked)}" if done.unchecked else ""
    return "\n".join(
        (
            f"1. configuration: {'reloaded' if done.settings_read else 'unreadable, the last known one holds'}",
            f"2. polecats: {verdicts}{unchecked}",
            f"3. patrol: {', '.join(done.patrols) or 'nothing to watch'}",
            f"4. backlog: {done.backlog} told again",
        )
    )


def _steps_text(report: BootReport) -> str:
    """Boot's four steps."""
    lines = [f"{number}. {step.name}: {_outcome(step)}" for number, step in enumerate(report.steps, start=1)]
    return "\n".join((*lines, "the Deacon is well" if report.healthy else "the Deacon is not well"))


def _outcome(step: BootStep) -> str:
    if step.detail == NOT_NEEDED:
        return step.detail
    return ("yes" if step.ok else "no") + (f" ({step.detail})" if step.detail else "")


def _boot_text(paused: bool, next_at: datetime | None, last: BootReport | None) -> str:
    """Boot's Schedule and its last look."""
    head = "paused" if paused else f"next look at {output.when(next_at)}" if next_at else "no next look is planned"
    if last is None:
        return f"{head}\nno look has ended yet"
    return f"{head}\nlast look at {output.when(last.at)}:\n{_steps_text(last)}"
