"""`gt polecat parked`, `gt polecat unpark`: work that was put aside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cli import connect, output
from cli.command import Call, DefaultCommandGroup, command, new_app
from cli.consent import require_consent
from cli.errands import ask_host
from cli.values import BeadArgument, DryRunOption, OptionalRigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from models.errands import ParkedWork
    from models.records import JobRow, Rig
    from services.town import Town


class _Parked(DefaultCommandGroup):
    default = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or [self.default])

    def _names_subcommand(self, args: list[str]) -> bool:
        """Shared options alone name none either."""
        named = any(word in {*self.commands, "-h", "--help"} for word in args)
        return named and super()._names_subcommand(args)


_group = new_app("List parked work; expire it.", cls=_Parked)
app = new_app("Parked work.")
app.add_typer(_group, name="parked")

AttemptOption = Annotated[
    int | None, typer.Option("--attempt", metavar="N", min=0, help="Of this attempt; default: the newest.")
]


class _Held(NamedTuple):
    """Parked work, and whether it may be let go of."""

    work: ParkedWork
    merged: bool


@command(_group, "list")
def list_parked(call: Call, rig: OptionalRigOption = None) -> None:
    """List parked work on the rigs' remotes and saves of unfinished work, newest first."""
    held = _held(connect.open_town(call), rig)
    output.emit(call, [_document(one) for one in held], _table(held))


@command(_group, "expire")
def expire(
    call: Call,
    bead: Annotated[str | None, typer.Argument(metavar="ID", help="All of this bead, merged or not.")] = None,
    attempt: AttemptOption = None,
    rig: OptionalRigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete parked work that has been merged; with ID also work that has not. It cannot be undone."""
    if bead is not None:
        names.valid_bead(bead)
    elif attempt is not None:
        raise GtError(ErrorCode.INVALID_VALUE, "--attempt needs a bead", "gt polecat parked")
    town = connect.open_town(call)
    doomed = [one for one in _held(town, rig) if _is_doomed(one, bead, attempt)]
    if bead is not None and not doomed:
        raise GtError(ErrorCode.NOT_FOUND, f"nothing of {bead} is parked", "gt polecat parked")
    if doomed and not dry_run:
        lost = sum(not one.merged for one in doomed)
        what = f"Delete {len(doomed)} refs of parked work, {lost} of them not merged?"
        require_consent(what, f"gt polecat parked expire {bead or ''} --yes".replace("  ", " "), yes)
        _expire(town, doomed)
    documents = [_document(one) for one in doomed]
    output.emit(call, {"dry_run": dry_run, "expired": documents}, _table(doomed) if doomed else "nothing to expire")


@command(app, "unpark")
def unpark(
    call: Call,
    bead: BeadArgument,
    attempt: AttemptOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Put a bead's parked work on its branch on the remote: the next sling goes on from it."""
    from models.errands import Unpark

    names.valid_bead(bead)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        rig, job = ledger.rig(ledger.bead(bead).rig), ledger.job(bead)
    _refuse_while_working(bead, job)
    task = Unpark(rig=rig, bead=bead, attempt=attempt, dry_run=dry_run)
    done = ask_host(town, town.file.host, task, f"gt polecat unpark {bead}").unparked
    assert done is not None
    lines = [f"{bead}: attempt {done.attempt} {'would be' if dry_run else 'is'} on the branch {done.branch}"]
    lines += [f"gt sling {bead} {rig.name} goes on from it"]
    lines += [f"saved beside the files, look with git show:\n{done.besides}"] if done.besides else []
    if done.stayed_here:
        where = f", where {done.kept_here} has it" if done.kept_here else ""
        lines.append(f"left on the host where it was parked{where}:\n{done.stayed_here}")
    output.emit(call, {**output.document(done), "rig": rig.name, "dry_run": dry_run}, "\n".join(lines))


def _held(town: Town, only: str | None) -> list[_Held]:
    """Everything that is parked, as this host and the remotes have it."""
    from models.errands import ListParked

    with connect.open_ledger(town) as ledger:
        rigs = [ledger.rig(names.valid_rig(only))] if only is not None else ledger.rigs()
        jobs = {job.bead: job for job in ledger.jobs()}
        beads = ledger.beads(only)
    held = []
    for rig in rigs:
        targets = {bead.id: bead.target for bead in beads if bead.rig == rig.name and bead.target}
        answer = ask_host(town, town.file.host, ListParked(rig=rig, targets=targets), "gt polecat parked")
        if answer.problem:
            output.warn(f"{rig.name}: {answer.problem}; only what is on this host is listed")
        held += [_Held(work, _is_merged(work, jobs.get(work.bead))) for work in answer.parked]
    return sorted(held, key=lambda one: one.work.saved_at, reverse=True)


def _is_merged(work: ParkedWork, job: JobRow | None) -> bool:
    """All of it has landed, or its bead's merge came out of a later attempt, which went on from it."""
    if work.landed:
        return True
    if job is None or job.state.value != "merged":
        return False
    return work.attempt < job.attempt or (work.attempt == job.attempt and not work.parked)


def _is_doomed(one: _Held, bead: str | None, attempt: int | None) -> bool:
    if bead is None:
        return one.merged
    return one.work.bead == bead and attempt in (None, one.work.attempt)


def _expire(town: Town, doomed: list[_Held]) -> None:
    from models.errands import ExpireParked, ParkedRef

    with connect.open_ledger(town) as ledger:
        rigs: dict[str, Rig] = {rig.name: rig for rig in ledger.rigs()}
    for name in sorted({one.work.rig for one in doomed}):
        refs = tuple(ParkedRef(ref=one.work.ref, sha=one.work.sha) for one in doomed if one.work.rig == name)
        ask_host(town, town.file.host, ExpireParked(rig=rigs[name], refs=refs), "gt polecat parked expire")


def _refuse_while_working(bead: str, job: JobRow | None) -> None:
    if job is not None and not job.state.final:
        raise GtError(ErrorCode.REFUSED, f"{bead} has a running job (it is {job.state.value})", f"gt job cancel {bead}")


def _document(one: _Held) -> dict[str, Any]:
    age = (datetime.now(UTC) - one.work.saved_at).total_seconds()
    return {**output.document(one.work), "merged": one.merged, "age_s": round(age)}


def _table(held: list[_Held]) -> str:
    if not held:
        return "nothing is parked"
    rows = []
    for work, merged in held:
        age = output.duration((datetime.now(UTC) - work.saved_at).total_seconds())
        kind = "parked" if work.parked else "saved"
        where = "remote" if work.on_remote else "this host"
        rows.append((work.bead, work.attempt, work.rig, kind, age, work.files, merged, where, work.ref))
    return output.table(("BEAD", "ATTEMPT", "RIG", "KIND", "AGE", "FILES", "MERGED", "WHERE", "REF"), rows)
