"""`gt escalate`: what needs somebody above. Inside a session, cli/session/agent.py answers instead."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, DefaultCommandGroup, command, new_app
from models import names
from models.choices import AlertType, DecisionKind, Priority
from models.errors import ErrorCode, ExitCode, GtError, Level

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from temporalio.client import Client, WorkflowHandle

    from models.mayor.escalations import Escalation, EscalationStatus
    from services.town import Town


class _Escalate(DefaultCommandGroup):
    default = "report"


_group = new_app('Report a problem (gt escalate "TEXT"); list, acknowledge and resolve reports.', cls=_Escalate)
app = new_app("Escalations.")
app.add_typer(_group, name="escalate")

_OF_THE_SYSTEM = frozenset(
    {
        AlertType.WITNESS_DOWN, AlertType.DEACON_DOWN, AlertType.REFINERY_STALLED, AlertType.GATE_BROKEN,
        AlertType.DOLT_DOWN, AlertType.DISK_FULL, AlertType.HOST_LOST, AlertType.BACKUP_FAILED,
    }
)  # fmt: skip
"""Kinds that are a system's fault (L3); the others are an agent's (L2)."""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="An escalation's id, out of `gt escalate list`.")]


@command(_group, "report")
def report(
    call: Call,
    problem: Annotated[str, typer.Argument(metavar="TEXT", help="What is wrong.")],
    rig: Annotated[str | None, typer.Option("--rig", metavar="R", help="The rig it is about.")] = None,
    bead: Annotated[str | None, typer.Option("--bead", metavar="ID", help="The bead it is about.")] = None,
    severity: Annotated[Priority, typer.Option("--severity", help="How bad it is.")] = Priority.HIGH,
    kind: Annotated[
        AlertType, typer.Option("--kind", help="What it is; the Mayor may act alone on kinds that he knows.")
    ] = AlertType.ESCALATION,
) -> None:
    """Report a problem to the Mayor."""
    from services.temporal import long_lived

    if not problem.strip():
        raise GtError(ErrorCode.INVALID_VALUE, "the problem is empty", 'gt escalate "what is wrong"')
    if rig is not None:
        names.valid_rig(rig)
    if bead is not None:
        names.valid_bead(bead)
    town = connect.open_town(call)
    if rig is None and bead is None:
        rig, bead = os.environ.get("GT_RIG"), os.environ.get("GT_BEAD")  # an agent's, with options of a person's
    problem = connect.without_secrets(town, problem)
    escalation = _escalation(problem, _rig_of(town, rig, bead), bead, severity, kind)
    connect.converse(town, lambda client: long_lived.tell_mayor(client, escalation))
    document = {key: value for key, value in output.document(escalation).items() if key != "tried"}
    output.emit(call, {**document, "acked": False}, f"{escalation.id}: the Mayor was told")


@command(_group, "list")
def list_escalations(
    call: Call, all: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False
) -> None:
    """List escalations, open ones first."""
    found = read(connect.open_town(call))
    shown = [status for status in found if all or not status.resolved]
    output.emit(call, output.documents(shown), table(shown) if shown else "nothing needs you")


@command(_group, "ack")
def ack(call: Call, id: IdArgument) -> None:
    """Say that somebody has seen it."""
    from models.mayor.escalations import EscalationAck

    _decide(call, "acknowledge", EscalationAck(id=id, by=connect.person()))


@command(_group, "resolve")
def resolve(
    call: Call,
    id: IdArgument,
    action: Annotated[
        DecisionKind, typer.Option("--action", help="What the job, or the workflow that asked, shall do.")
    ],
) -> None:
    """Decide; the decision goes to the job that it is about, and to the workflows that asked."""
    from models.mayor.escalations import JOB_ENDED, EscalationResolve

    status = _decide(call, "resolve", EscalationResolve(id=id, action=action, by=connect.person()))
    if status.kind == JOB_ENDED and action in {DecisionKind.RETRY, DecisionKind.REASSIGN}:
        output.warn(f"its job is over, so nobody took that up; to work on it again: {status.answer}")


def table(escalations: list[EscalationStatus], *, indent: str = "") -> str:
    header = ("ID", "SEVERITY", "KIND", "BEAD", "OPENED", "STATE", "MESSAGE")
    rows = [
        (one.id, one.severity, one.kind, one.bead, one.opened_at, _standing(one), one.message) for one in escalations
    ]
    return output.table(header, rows, indent=indent)


def _standing(status: EscalationStatus) -> str:
    if status.resolved:
        return status.action or "resolved"
    return "acked" if status.acked else "open"


def _rig_of(town: Town, rig: str | None, bead: str | None) -> str | None:
    """The rig that it is about; rig and bead exist and belong together, as far as the ledger can say."""
    if rig is None and bead is None:
        return None
    try:
        with connect.open_ledger(town) as ledger:
            found = ledger.bead(bead).rig if bead is not None else ledger.rig(str(rig)).name
    except GtError as error:
        if error.exit_code is not ExitCode.UNREACHABLE or rig is None:
            raise
        output.warn(f"not looked up: {error.message}")
        return rig
    if rig is not None and rig != found:
        raise GtError(ErrorCode.REFUSED, f"{bead} belongs to {found}, not to {rig}", f"--rig {found}")
    return found


def _escalation(problem: str, rig: str | None, bead: str | None, severity: Priority, kind: AlertType) -> Escalation:
    import secrets
    from datetime import UTC, datetime

    from models.mayor.escalations import Escalation

    message, evidence = _in_two(problem)
    return Escalation(
        id=f"{kind.value}-{secrets.token_hex(4)}",
        kind=kind.value,
        level=Level.L3 if kind in _OF_THE_SYSTEM else Level.L2,
        severity=str(severity),
        source=connect.person(),
        rig=rig,
        bead=bead,
        message=message,
        evidence=evidence,
        opened_at=datetime.now(UTC),
    )


def _in_two(problem: str) -> tuple[str, str]:
    """Message and evidence, so that nothing of a long text is cut off on its way."""
    from models.mayor.escalations import EVIDENCE_BYTES, MESSAGE_BYTES

    raw, most = problem.encode(), MESSAGE_BYTES + EVIDENCE_BYTES - 3 * len("…".encode())
    if len(raw) <= MESSAGE_BYTES:
        return problem, ""
    if len(raw) > most:
        reason = f"the problem has {len(raw)} bytes, and {most} are kept"
        raise GtError(ErrorCode.INVALID_VALUE, reason, "say it in fewer words, and name a file that has the rest")
    begins = raw[: MESSAGE_BYTES - len("…".encode())].decode("utf-8", "ignore")
    return f"{begins}…", f"…{problem[len(begins) :]}"


def read(town: Town) -> list[EscalationStatus]:
    """The Mayor's answer, with what a flood has made him forget; the record's where he cannot be asked."""
    from models.mayor.escalations import OPEN_KEPT, EscalationStatus

    async def ask(client: Client) -> list[EscalationStatus]:
        handle = client.get_workflow_handle(names.MAYOR_ID)
        return await connect.ask(handle, "escalations", list[EscalationStatus])

    try:
        known = connect.converse(town, ask)
        return known if sum(not one.resolved for one in known) < OPEN_KEPT else _with_forgotten(town, known)
    except GtError as error:
        output.warn(f"the Mayor did not answer ({error.message}); this is what the ledger has")
        try:
            with connect.open_ledger(town) as ledger:
                return ledger.escalations(open_only=False)
        except GtError:
            raise error from None


def _with_forgotten(town: Town, known: list[EscalationStatus]) -> list[EscalationStatus]:
    ids = {one.id for one in known}
    try:
        with connect.open_ledger(town) as ledger:
            return [*known, *(one for one in ledger.escalations() if one.id not in ids)]
    except GtError as error:
        output.warn(f"the ledger may hold more of them, but cannot be read: {error.message}")
        return known


def _decide(call: Call, update: str, argument: Any) -> EscalationStatus:
    from models.mayor.escalations import EscalationStatus

    def send(handle: WorkflowHandle[Any, Any]) -> Awaitable[EscalationStatus]:
        return connect.request(handle, update, argument, EscalationStatus)

    status = connect.converse(connect.open_town(call), _with_mayor(send))
    output.emit(call, output.document(status), table([status]))
    return status


def _with_mayor(
    send: Callable[[WorkflowHandle[Any, Any]], Awaitable[EscalationStatus]],
) -> Callable[[Client], Awaitable[EscalationStatus]]:
    return lambda client: send(client.get_workflow_handle(names.MAYOR_ID))
