"""`gt polecat cleanup`: sessions and worktrees go, what was made in them is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import DryRunOption, RigOption
from cli.polecat.view import polecat_row
from models import names
from models.errors import ErrorCode, ExitCode, GtError

if TYPE_CHECKING:
    from models.upkeep.cleanup import CleanupItem, CleanupOrder, CleanupReport
    from services.town import Town

app = new_app("Cleanup.")

ANSWER_S = 300.0
"""Parking pushes to the remote; a whole rig's zombies may take a while."""


@command(app, "cleanup")
def cleanup(
    call: Call,
    rig: RigOption,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One polecat.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Those that the Witness calls stuck.")] = False,
    zombies: Annotated[bool, typer.Option("--zombies", help="Sessions and worktrees whose job is over.")] = False,
    force: Annotated[bool, typer.Option("--force", help="NAME: also what is being worked on.")] = False,
    dry_run: DryRunOption = False,
) -> int:
    """End sessions and free worktrees. Evidence is saved and all that has not landed is parked on the remote first.

    The job of a stuck polecat, or of one that is cleaned by force, goes on with another polecat.
    """
    _require_one(name, stuck, zombies, force)
    names.valid_rig(rig)
    town = connect.open_town(call)
    order = _order(town, rig, name, stuck, force, dry_run)
    report = _run(town, order)
    document = {
        "rig": rig,
        "dry_run": dry_run,
        "items": output.documents(report.items),
        "unreached": list(report.unreached),
    }
    output.emit(call, document, _text(report, dry_run))
    for host in report.unreached:
        output.warn(f"no worker answers on the host {host}: what is there was left as it is")
    return _end(report, order)


def _require_one(name: str | None, stuck: bool, zombies: bool, force: bool) -> None:
    if sum((name is not None, stuck, zombies)) != 1:
        raise GtError(
            ErrorCode.INVALID_VALUE, "what shall be cleaned up: NAME, --stuck or --zombies", "gt polecat cleanup --help"
        )
    if force and name is None:
        raise GtError(ErrorCode.INVALID_VALUE, "--force is for one polecat: name it", "gt polecat list")


def _order(town: Town, rig: str, name: str | None, stuck: bool, force: bool, dry_run: bool) -> CleanupOrder:
    from models.upkeep.cleanup import CleanupKind, CleanupOrder

    with connect.open_ledger(town) as ledger:
        found = ledger.rig(rig)
        hosts = tuple(host.name for host in ledger.hosts())
        if name is not None:
            hosts = (polecat_row(ledger, name, rig).host,)
    kind = CleanupKind.STUCK if stuck else CleanupKind.POLECAT if name is not None else CleanupKind.ZOMBIES
    return CleanupOrder(
        rig=found,
        kind=kind,
        hosts=hosts,
        polecat=name,
        force=force,
        dry_run=dry_run,
        cause=f"cleaned up by {connect.person()}",
    )


def _run(town: Town, order: CleanupOrder) -> CleanupReport:
    from models.upkeep.cleanup import CleanupReport

    what = f"polecat.{order.polecat}" if order.polecat else order.kind.value
    marks = [what, *(["force"] if order.force else []), *(["dry"] if order.dry_run else [])]
    return connect.converse(
        town,
        lambda client: connect.result_of(
            client,
            names.WorkflowType.CLEANUP.value,
            names.cleanup_id(order.rig.name, ".".join(marks)),
            order,
            CleanupReport,
            timeout_s=ANSWER_S,
            again="the same command again waits on for it",
        ),
    )


def _end(report: CleanupReport, order: CleanupOrder) -> int:
    """Exit code, and a word where something was kept."""
    if order.dry_run:
        return ExitCode.DONE
    for item in report.items:
        if item.kept_folder is not None:
            output.warn(f"what must not leave the host {item.host}, or git ignores, is there in {item.kept_folder}")
    kept = [item for item in report.items if item.kept_reason]
    for item in kept:
        output.warn(f"{names.polecat_address(order.rig.name, item.polecat)} was kept: {item.kept_reason}")
    if kept and order.polecat is not None and not order.force:
        output.fail(
            f"{order.polecat} was not cleaned up", f"gt polecat cleanup {order.polecat} --rig {order.rig.name} --force"
        )
        return ExitCode.REFUSED
    if kept:
        output.fail("not everything could be cleaned up", "the same command again goes on with it")
    if report.unreached and not report.items:
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED if kept or report.unreached else ExitCode.DONE


def _text(report: CleanupReport, dry_run: bool) -> str:
    if not report.items:
        return "nothing to clean up"
    rows = [(item.polecat, item.host, item.bead, item.attempt, _what(item, dry_run), item.why) for item in report.items]
    return output.table(("POLECAT", "HOST", "BEAD", "ATTEMPT", "WHAT", "WHY"), rows)


def _what(item: CleanupItem, dry_run: bool) -> str:
    if dry_run:
        return {"clean": "would be cleaned", "reassign": "would be given up by its job"}.get(item.action.value, "kept")
    if item.kept_reason:
        return "kept"
    if item.action.value == "reassign":
        return "its job goes on elsewhere"
    return f"cleaned, parked at {item.parked_ref}" if item.parked_ref else "cleaned"
