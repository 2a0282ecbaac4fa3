"""`gt refinery`: a rig's merge queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import OptionalRigOption, RigOption
from cli.refinery import gates as refinery_gates
from cli.refinery import integration
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from models.refinery.answers import QueueHistory, QueueStats, QueueWhy, RefineryStatus
    from models.refinery.messages import QueueItem, QueueStatus
    from services.town import Town

_group = new_app("Look at a rig's merge queue and steer it.")
app = new_app("Merge queues.")
app.add_typer(_group, name="refinery")
_group.add_typer(refinery_gates.group, name="gate")
_group.add_typer(integration.group, name="integration")

ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="An item's id, out of `gt refinery queue`.")]
ItemOrBeadArgument = Annotated[str, typer.Argument(metavar="ITEM", help="An item's id, or its bead's.")]
ItemRigOption = Annotated[str | None, typer.Option("--rig", metavar="R", help="The item's rig; default: its bead's.")]
AllRigsOption = Annotated[bool, typer.Option("--all-rigs", help="Every rig of the town.")]
SettingRigOption = Annotated[
    str | None, typer.Option("--rig", metavar="R", help="For this rig only; default: the whole town.")
]
FrontOption = Annotated[bool, typer.Option("--front", help="Before all others.")]

FOREIGN_SHOWN = 10
"""commits past the queue, of each rig"""


# --- looking ------------------------------------------------------------------------------------


@command(_group, "queue")
def queue(call: Call, rig: RigOption) -> None:
    """Show the queue in the order in which it will be merged."""
    _emit_queue(call, _converse(call, rig, lambda client: look_at_queue(client, rig)))


async def look_at_queue(client: Client, rig: str) -> QueueStatus:
    """The queue as its Refinery knows it; whether a merge's gates wait for a core, Temporal alone knows."""
    from models.refinery.messages import QueueItemState, QueueStatus

    status = await connect.ask(client.get_workflow_handle(names.refinery_id(rig)), "queue", QueueStatus)
    if status.merge is None or not await _waits_for_core(client, status.merge):
        return status
    words = {"reason": "its gates wait for a core"}
    items = [item.model_copy(update=words) if item.state is QueueItemState.MERGING else item for item in status.items]
    return status.model_copy(update={"items": tuple(items)})


async def _waits_for_core(client: Client, merge: str) -> bool:
    """Whether the merge of this workflow id has gates to run, and no host has a core for any of them yet."""
    from temporalio.api.enums.v1 import PendingActivityState
    from temporalio.service import RPCError, RPCStatusCode

    try:
        described = await client.get_workflow_handle(merge).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    gates = [one for one in described.raw_description.pending_activities if one.activity_type.name == "run_gates"]
    scheduled = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    return bool(gates) and all(one.state == scheduled for one in gates)


@command(_group, "status")
def status(call: Call, rig: OptionalRigOption = None) -> None:
    """Show what each Refinery does, and by which figures."""
    from models.refinery.answers import RefineryStatus

    rigs = [rig] if rig is not None else _all_rigs(connect.open_town(call))
    _emit_statuses(call, rigs, lambda handle: connect.ask(handle, "status", RefineryStatus))


@command(_group, "history")
def history(
    call: Call,
    rig: RigOption,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="At most so many.")] = 50,
) -> None:
    """Show what has left the queue, the latest first."""
    from models.refinery.answers import QueueHistory

    shown = _with_refinery(call, rig, lambda handle: connect.ask(handle, "history", QueueHistory))
    shown = shown.model_copy(update={"items": shown.items[:limit]})
    output.emit(call, output.document(shown), _history_text(shown))


@command(_group, "why")
def why(call: Call, item: ItemOrBeadArgument, rig: ItemRigOption = None) -> None:
    """Say in plain words what an item waits for, or why it went back."""
    from models.refinery.answers import ItemRef, QueueWhy

    rig = rig or _rig_of_item(call, item)
    told = _with_refinery(call, rig, lambda handle: connect.ask(handle, "why", QueueWhy, ItemRef(id=item)))
    if not told.known:
        raise GtError(
            ErrorCode.NOT_FOUND,
            "; ".join((f"the merge queue of {rig} does not know {item}", *told.words)),
            f"gt job show {item.partition('.')[0]}",
        )
    output.emit(call, output.document(told), _why_text(told))


@command(_group, "stats")
def stats(call: Call, rig: RigOption) -> None:
    """Show landings per hour, gate runs per landed change, waits, failure rate and flaky gates."""
    from models.refinery.answers import QueueStats

    told = _with_refinery(call, rig, lambda handle: connect.ask(handle, "stats", QueueStats))
    output.emit(call, output.document(told), _stats_text(told))


# --- steering the queue -------------------------------------------------------------------------


@command(_group, "start")
def start(call: Call, rig: OptionalRigOption = None, all_rigs: AllRigsOption = False) -> None:
    """Start the Refinery where it does not run, and merge again where it was stopped."""
    from models.refinery.answers import RefineryStatus
    from services.temporal import long_lived

    rigs = _chosen(call, rig, all_rigs)
    town = connect.open_town(call)

    async def begin(client: Client) -> None:
        for name in rigs:
            await long_lived.start(client, names.refinery_id(name))

    connect.converse(town, begin)
    _emit_statuses(call, rigs, lambda handle: connect.request(handle, "start", None, RefineryStatus))


@command(_group, "stop")
def stop(call: Call, rig: OptionalRigOption = None, all_rigs: AllRigsOption = False) -> None:
    """Take changes in but start no further merge, until `start`. What is being merged is finished."""
    from models.refinery.answers import RefineryStatus

    rigs = _chosen(call, rig, all_rigs)
    _emit_statuses(call, rigs, lambda handle: connect.request(handle, "stop", None, RefineryStatus))


@command(_group, "pause")
def pause(
    call: Call,
    rig: RigOption,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "",
    above_priority: Annotated[
        int | None,
        typer.Option(
            "--above-priority", min=1, max=4, metavar="P", help="Merge what is more urgent than P all the same."
        ),
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="Merge what waits already, then pause.")] = False,
) -> None:
    """Start no further merge until `resume`."""
    from models.refinery.messages import PauseRequest, QueueStatus

    if drain and above_priority is not None:
        raise GtError(ErrorCode.INVALID_VALUE, "--drain and --above-priority exclude each other")
    request = PauseRequest(reason=reason, by=connect.person(), above_priority=above_priority, drain=drain)
    _emit_queue(call, _with_refinery(call, rig, lambda handle: connect.request(handle, "pause", request, QueueStatus)))


@command(_group, "resume")
def resume(call: Call, rig: RigOption) -> None:
    """Merge again."""
    from models.refinery.messages import QueueStatus

    _emit_queue(call, _with_refinery(call, rig, lambda handle: connect.request(handle, "resume", None, QueueStatus)))


@command(_group, "clear")
def clear(call: Call, rig: RigOption) -> None:
    """Return every item to its job: beads deferred, branches kept."""
    from models.refinery.messages import QueueCleared

    cleared = _with_refinery(call, rig, lambda handle: connect.request(handle, "clear", None, QueueCleared))
    document = {"rig": rig, **output.document(cleared)}
    output.emit(
        call, document, f"{len(cleared.returned)} returned: {' '.join(cleared.returned) or 'the queue was empty'}"
    )


@command(_group, "config")
def config(
    call: Call,
    rig: SettingRigOption = None,
    retry_count: Annotated[str | None, typer.Option("--retry-count", metavar="N", help="Retries.")] = None,
    retry_delay: Annotated[str | None, typer.Option("--retry-delay", metavar="S", help="Seconds between them.")] = None,
    min_batch: Annotated[str | None, typer.Option("--min-batch", metavar="N", help="Smallest batch.")] = None,
    max_batch: Annotated[str | None, typer.Option("--max-batch", metavar="N", help="Largest batch.")] = None,
    max_concurrent: Annotated[str | None, typer.Option("--max-concurrent", metavar="N", help="Gate runners.")] = None,
    confirm_runs: Annotated[
        str | None, typer.Option("--confirm-runs", metavar="auto|N", help="Confirming runs before a culprit is blamed.")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="squash|rebase|merge", help="How changes land.")
    ] = None,
    signing_key: Annotated[
        str | None, typer.Option("--signing-key", metavar="FILE", help="SSH key that signs landings; '' for none.")
    ] = None,
) -> None:
    """Show the merge queue's settings, after changing those that are given."""
    from cli.town.config import setting_rows
    from models.settings import parse_setting

    given = {
        "retry_count": retry_count,
        "retry_delay": retry_delay,
        "min_batch": min_batch,
        "max_batch": max_batch,
        "max_concurrent": max_concurrent,
        "confirm_runs": confirm_runs,
        "style": style,
        "signing_key": signing_key,
    }
    changes = {f"merge_queue.{name}": value for name, value in given.items() if value is not None}
    for key, value in changes.items():
        parse_setting(key, value)
    if rig is not None:
        names.valid_rig(rig)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        for key, value in changes.items():
            ledger.set_setting(rig or "town", key, value)
        rows = setting_rows(ledger, {f"merge_queue.{name}" for name in given}, rig)
        rigs = [rig] if rig is not None else [known.name for known in ledger.rigs()]
    if changes:
        refinery_gates.say_changed(town, rigs)
    output.emit(call, rows, _settings_text(rows))


# --- steering one item --------------------------------------------------------------------------


@command(_group, "process")
def process(call: Call, item: ItemArgument, rig: ItemRigOption = None, front: FrontOption = False) -> None:
    """Merge an item now, before all others; also releases a held one. (`--front` says the same.)"""
    from models.refinery.messages import QueueItemRef

    _steer(call, "process", item, QueueItemRef(id=item), rig)


@command(_group, "skip")
def skip(call: Call, item: ItemArgument, rig: ItemRigOption = None) -> None:
    """Hold an item until `process`."""
    from models.refinery.messages import QueueItemRef

    _steer(call, "skip", item, QueueItemRef(id=item), rig)


@command(_group, "retry")
def retry(call: Call, item: ItemArgument, rig: ItemRigOption = None, front: FrontOption = False) -> None:
    """Try an item again at once, as if no merge with it had ever failed to finish."""
    from models.refinery.answers import RetryItem

    _steer(call, "retry", item, RetryItem(id=item, front=front), rig)


def _steer(call: Call, update: str, item: str, request: Any, rig: str | None) -> None:
    from models.refinery.messages import QueueItem

    rig = rig or _rig_of_item(call, item)
    steered = _with_refinery(call, rig, lambda handle: connect.request(handle, update, request, QueueItem))
    output.emit(call, output.document(steered), _items_text([steered]))


# --- finding the Refinery -----------------------------------------------------------------------


def _rig_of_item(call: Call, item: str) -> str:
    bead = names.valid_bead(item.partition(".")[0])
    prefix = names.bead_prefix(bead)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        rig = next((rig.name for rig in ledger.rigs() if rig.prefix == prefix), None)
    if rig is None:
        raise GtError(ErrorCode.NOT_FOUND, f"no rig has beads named {prefix}-…", "gt rig list")
    return rig


def _all_rigs(town: Town) -> list[str]:
    with connect.open_ledger(town) as ledger:
        return [rig.name for rig in ledger.rigs()]


def _chosen(call: Call, rig: str | None, all_rigs: bool) -> list[str]:
    """The rigs that an order is for; they exist."""
    if all_rigs == (rig is not None):
        raise GtError(ErrorCode.INVALID_VALUE, "say which: --rig R or --all-rigs")
    town = connect.open_town(call)
    if rig is None:
        return _all_rigs(town)
    with connect.open_ledger(town) as ledger:
        return [ledger.rig(rig).name]


def _with_refinery(call: Call, rig: str, conversation: Callable[[WorkflowHandle[Any, Any]], Awaitable[Any]]) -> Any:
    """Talk to the rig's Refinery; see `_converse`."""
    refinery = names.refinery_id(rig)
    return _converse(call, rig, lambda client: conversation(client.get_workflow_handle(refinery)))


def _converse(call: Call, rig: str, conversation: Callable[[Client], Awaitable[Any]]) -> Any:
    """Talk about the rig's Refinery; an unknown rig is told from one whose Refinery does not run."""
    names.valid_rig(rig)
    town = connect.open_town(call)
    try:
        return connect.converse(town, conversation)
    except connect.WorkflowAbsent:
        with connect.open_ledger(town) as ledger:
            ledger.rig(rig)
        raise GtError(ErrorCode.TEMPORAL_UNREACHABLE, f"the Refinery of {rig} does not run", "gt up") from None


def _emit_statuses(
    call: Call, rigs: list[str], conversation: Callable[[WorkflowHandle[Any, Any]], Awaitable[RefineryStatus]]
) -> None:
    """Ask every rig's Refinery; one that fails keeps no other from being asked, and decides the exit code."""
    shown: list[RefineryStatus] = []
    failed: GtError | None = None
    for rig in rigs:
        try:
            shown.append(_with_refinery(call, rig, conversation))
        except GtError as error:
            if len(rigs) > 1:
                output.warn(f"{rig}: {error.message}")
            failed = failed or error
    if shown or failed is None:
        output.emit(call, output.documents(shown), _statuses_text(shown))
    if failed is not None:
        raise failed


def _emit_queue(call: Call, status: QueueStatus) -> None:
    output.emit(call, output.document(status), _queue_text(status))


# --- as text ------------------------------------------------------------------------------------


def _queue_text(status: QueueStatus) -> str:
    state = f"paused: {status.pause_reason}" if status.paused else "running"
    head = f"{status.rig} to {status.target}: {state}" + (", ungated" if status.ungated else "")
    held = "".join(f"\nnothing is merged to {target}: {why}" for target, why in status.held_targets.items())
    held += "".join(f"\n{why}" for why in status.red_targets.values())
    more = "\nmore changes wait in the ledger, and come in when there is room" if status.more_in_ledger else ""
    return head + held + "\n" + (_items_text(status.items) if status.items else "nothing waits") + more


def _items_text(rows: Iterable[QueueItem]) -> str:
    header = ("ID", "BEAD", "POLECAT", "TARGET", "STATE", "POS", "TRIES", "WAITING", "REASON")
    cells: list[tuple[object, ...]] = [
        (
            item.id,
            item.bead,
            item.polecat,
            item.target,
            item.state.value,
            item.position,
            item.attempts,
            output.duration(item.waiting_s),
            item.reason,
        )
        for item in rows
    ]
    return output.table(header, cells)


def _statuses_text(shown: Sequence[RefineryStatus]) -> str:
    header = ("RIG", "STATE", "TARGET", "WAITING", "HELD", "MERGING", "BATCH", "BAD", "WHY")
    cells: list[tuple[object, ...]] = [
        (
            each.rig,
            each.state,
            each.target,
            each.waiting,
            each.held,
            " ".join(each.merging),
            each.batch_size,
            _percent(each.failure_rate),
            each.why,
        )
        for each in shown
    ]
    past = [
        (each.rig, one.target, one.sha[:12], one.polecat or one.author, one.subject)
        for each in shown
        for one in each.foreign[-FOREIGN_SHOWN:]
    ]
    seen = "\n\npast the queue:\n" + output.table(("RIG", "TARGET", "COMMIT", "BY", "SUBJECT"), past) if past else ""
    return (output.table(header, cells) if cells else "no rigs") + seen


def _history_text(shown: QueueHistory) -> str:
    header = ("ID", "OUTCOME", "AT", "WAITED", "COMMIT", "GATE", "DETAIL")
    cells: list[tuple[object, ...]] = [
        (
            entry.id,
            entry.outcome.value,
            output.when(entry.at) if entry.at else None,
            output.duration(entry.waited_s),
            (entry.merged_sha or "")[:12],
            entry.gate,
            entry.detail,
        )
        for entry in shown.items
    ]
    return output.table(header, cells) if cells else "nothing has left the queue yet"


def _why_text(told: QueueWhy) -> str:
    lines = [f"{told.id}: {told.state.value if told.state else 'unknown'}", *told.words]
    lines += [f"The whole log: {told.log_path}"] if told.log_path else []
    return "\n".join([*lines, f"next: {told.next_command}"] if told.next_command else lines)


def _stats_text(told: QueueStats) -> str:
    facts = output.fields(
        {
            "landed": told.landed,
            "sent back": str(told.sent_back),
            "landed per hour": _number(told.landed_per_hour),
            "gate runs per landed change": _number(told.runs_per_landed),
            "wait p50": output.duration(told.wait_p50_s),
            "wait p95": output.duration(told.wait_p95_s),
            "failure rate": _percent(told.failure_rate),
        }
    )
    header = ("GATE", "RUNS", "FAILED", "FLAKY", "CHANCE", "LAST FLAKE", "LOG")
    cells: list[tuple[object, ...]] = [
        (
            gate.gate,
            gate.runs,
            gate.failures,
            gate.flaky_runs,
            _percent(gate.flakiness),
            gate.flaked_at[:12],
            gate.log_path,
        )
        for gate in told.gates
    ]
    return facts + ("\n\n" + output.table(header, cells) if cells else "")


def _settings_text(rows: list[dict[str, Any]]) -> str:
    cells: list[tuple[object, ...]] = [(row["key"], row["value"], row["default"], row["origin"]) for row in rows]
    return output.table(("KEY", "VALUE", "DEFAULT", "ORIGIN"), cells)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
