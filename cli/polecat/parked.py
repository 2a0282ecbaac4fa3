"""`gt polecat parked`, `gt polecat unpark`: work that was put aside."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cli.frame import connect, output
from cli.frame.command import Call, DefaultCommandGroup, command, new_app
from cli.frame.confirm import require_consent
from cli.frame.host_requests import HostAnswers, ask_host, ask_hosts
from cli.frame.options import BeadArgument, DryRunOption, OptionalRigOption, YesOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from models.ledger.records import JobRow, Rig
    from models.supervision.host_requests import ParkedWork, Unparked
    from services.town import Town


class _Parked(DefaultCommandGroup):
    default = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or [self.default])

    def _names_subcommand(self, args: list[str]) -> bool:
        """Shared options alone name none either."""
        named = any(word in {*self.commands, "-h", "--help"} for word in args)
        return named and super()._names_subcommand(args)


LISTED = 10
"""so many files that stayed on a host are named"""
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


class _AllHeld(NamedTuple):
    found: list[_Held]
    hosts: tuple[str, ...]
    """that answered"""


@command(_group, "list")
def list_parked(call: Call, rig: OptionalRigOption = None) -> None:
    """List parked work on the rigs' remotes and hosts and saves of unfinished work, newest first.

    Files that must not leave their host, or that git ignores, are told with the command that fetches them.
    """
    town = connect.open_town(call)
    held = _held(town, rig)
    here = town.file.host
    output.emit(call, [_document(one, here) for one in held.found], _text(held.found, here))


@command(_group, "expire")
def expire(
    call: Call,
    bead: Annotated[str | None, typer.Argument(metavar="ID", help="All of this bead, merged or not.")] = None,
    attempt: AttemptOption = None,
    rig: OptionalRigOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete parked work that has been merged; with ID also work that has not. It cannot be undone.

    With ID the files go too that one host alone has of it.
    """
    if bead is not None:
        names.valid_bead(bead)
    elif attempt is not None:
        raise GtError(ErrorCode.INVALID_VALUE, "--attempt needs a bead", "gt polecat parked")
    town = connect.open_town(call)
    held = _held(town, rig)
    doomed = [one for one in held.found if _is_doomed(one, bead, attempt)]
    if bead is not None and not doomed:
        raise GtError(ErrorCode.NOT_FOUND, f"nothing of {bead} is parked", "gt polecat parked")
    if doomed and not dry_run:
        lost = sum(not one.merged for one in doomed)
        files = sum(len(one.work.kept_files) for one in doomed)
        what = f"Delete {len(doomed)} refs of parked work, {lost} of them not merged"
        what += f", and {files} files that one host alone has?" if files else "?"
        require_consent(what, f"gt polecat parked expire {bead or ''} --yes".replace("  ", " "), yes)
        _expire(town, doomed, held.hosts, kept=bead is not None)
    here = town.file.host
    documents = [_document(one, here) for one in doomed]
    output.emit(
        call, {"dry_run": dry_run, "expired": documents}, _text(doomed, here) if doomed else "nothing to expire"
    )


@command(app, "unpark")
def unpark(
    call: Call,
    bead: BeadArgument,
    attempt: AttemptOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Put a bead's parked work on its branch on the remote: the next sling goes on from it."""
    from models.supervision.host_requests import Unpark

    names.valid_bead(bead)
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        rig, job = ledger.rig(ledger.bead(bead).rig), ledger.job(bead)
        git = ledger.effective_settings(rig.name).git
    _refuse_while_working(bead, job)
    again = f"gt polecat unpark {bead}"
    works, asked = _works(town, rig, again)
    work = chosen(works, bead, attempt, asked.unreached)
    task = Unpark(rig=rig, bead=bead, attempt=work.attempt, dry_run=dry_run, git=git)
    done = ask_host(town, work.host, task, again).unparked
    assert done is not None
    document = {
        **output.document(done), "rig": rig.name, "dry_run": dry_run, "host": work.host, "kept_host": work.kept_host,
        "fetch": fetch_command(work, town.file.host),
    }  # fmt: skip
    output.emit(call, document, _told(done, work, rig.name, town.file.host, dry_run))


def _told(done: Unparked, work: ParkedWork, rig: str, here: str, dry_run: bool) -> str:
    lines = [
        f"{done.bead}: attempt {done.attempt} {'would be' if dry_run else 'is'} on the branch {done.branch}",
        f"gt sling {done.bead} {rig} goes on from it",
    ]
    lines += [f"left on the host where it was parked:\n{done.stayed_here}"] if done.stayed_here else []
    fetch = fetch_command(work, here)
    lines += [f"{len(work.kept_files)} files of it are on the host {work.kept_host} alone: {fetch}"] if fetch else []
    return "\n".join(lines)


def _held(town: Town, only: str | None) -> _AllHeld:
    """Everything that is parked, as the hosts and the remotes have it."""
    with connect.open_ledger(town) as ledger:
        rigs = [ledger.rig(names.valid_rig(only))] if only is not None else ledger.rigs()
        jobs = {job.bead: job for job in ledger.jobs()}
    held: list[_Held] = []
    hosts: tuple[str, ...] = (town.file.host,)
    for rig in rigs:
        works, asked = _works(town, rig, "gt polecat parked")
        hosts = tuple(asked.answers)
        held += [_Held(work, _is_merged(work, jobs.get(work.bead))) for work in works]
    return _AllHeld(sorted(held, key=lambda one: one.work.saved_at, reverse=True), hosts)


def _works(town: Town, rig: Rig, again: str) -> tuple[list[ParkedWork], HostAnswers]:
    """Parked work of a rig, as every host tells it; what is wrong with hosts and remotes is told to the person."""
    from models.supervision.host_requests import ListParked

    with connect.open_ledger(town) as ledger:
        hosts = dict.fromkeys([town.file.host, *(host.name for host in ledger.hosts())])
        targets = {bead.id: bead.target for bead in ledger.beads(rig.name) if bead.target}
    asked = ask_hosts(town, dict.fromkeys(hosts, ListParked(rig=rig, targets=targets)), again)
    for host, answer in asked.answers.items():
        if answer.problem:
            output.warn(f"{rig.name}: {answer.problem}; of {host} only what is there is listed")
    for host in asked.unreached:
        output.warn(f"no worker answers on the host {host}: what it alone has of {rig.name} is not listed")
    return together({host: answer.parked for host, answer in asked.answers.items()}), asked


def _is_merged(work: ParkedWork, job: JobRow | None) -> bool:
    """All of it has landed, or its bead's merge came out of a later attempt, which went on from it.

    What has files that one host alone has goes by a person's order only.
    """
    if work.kept_files:
        return False
    if work.landed:
        return True
    if job is None or job.state.value != "merged":
        return False
    return work.attempt < job.attempt or (work.attempt == job.attempt and not work.parked)


def _is_doomed(one: _Held, bead: str | None, attempt: int | None) -> bool:
    if bead is None:
        return one.merged
    return one.work.bead == bead and attempt in (None, one.work.attempt)


def _expire(town: Town, doomed: list[_Held], hosts: Sequence[str], *, kept: bool) -> None:
    """On every host that answers: the first also takes the refs off the remote."""
    from models.supervision.host_requests import ExpireParked, ParkedRef

    with connect.open_ledger(town) as ledger:
        rigs: dict[str, Rig] = {rig.name: rig for rig in ledger.rigs()}
    for name in sorted({one.work.rig for one in doomed}):
        refs = tuple(ParkedRef(ref=one.work.ref, sha=one.work.sha) for one in doomed if one.work.rig == name)
        for host in hosts:
            ask_host(town, host, ExpireParked(rig=rigs[name], refs=refs, kept=kept), "gt polecat parked expire")


def _refuse_while_working(bead: str, job: JobRow | None) -> None:
    if job is not None and not job.state.final:
        raise GtError(ErrorCode.REFUSED, f"{bead} has a running job (it is {job.state.value})", f"gt job cancel {bead}")


def _document(one: _Held, here: str) -> dict[str, Any]:
    age = (datetime.now(UTC) - one.work.saved_at).total_seconds()
    more = {"merged": one.merged, "age_s": round(age), "fetch": fetch_command(one.work, here)}
    return {**output.document(one.work), **more}


def _text(held: Sequence[_Held], here: str) -> str:
    if not held:
        return "nothing is parked"
    rows = []
    for work, merged in held:
        age = output.duration((datetime.now(UTC) - work.saved_at).total_seconds())
        kind = "parked" if work.parked else "saved"
        where = "remote" if work.on_remote else work.host
        rows.append((work.bead, work.attempt, work.rig, kind, age, work.files, merged, where, work.ref))
    table = output.table(("BEAD", "ATTEMPT", "RIG", "KIND", "AGE", "FILES", "MERGED", "WHERE", "REF"), rows)
    return "\n".join([table, *(line for one in held for line in _kept_lines(one.work, here))])


def _kept_lines(work: ParkedWork, here: str) -> Iterator[str]:
    if work.kept_files:
        yield f"{work.bead}, attempt {work.attempt}: on the host {work.kept_host} alone: {fetch_command(work, here)}"
        yield from (f"  {file}" for file in work.kept_files[:LISTED])
        if len(work.kept_files) > LISTED:
            yield f"  and {len(work.kept_files) - LISTED} more"


# --- as several hosts tell it: which is the same, who holds it, and who is to be asked for it ---


def together(told: Mapping[str, Sequence[ParkedWork]]) -> list[ParkedWork]:
    """One entry a ref, newest first: what the remote has where it has it, else what its host has.

    Args:
        told: by host, the one that is asked first before the others.
    """
    found: dict[str, ParkedWork] = {}
    for host, works in told.items():
        for work in works:
            kept = {"kept_host": host} if work.kept_files else {}
            mine = work.model_copy(update={"host": host, **kept})
            other = found.get(work.ref)
            found[work.ref] = mine if other is None else _both(other, mine)
    return sorted(found.values(), key=lambda work: work.saved_at, reverse=True)


def _both(one: ParkedWork, other: ParkedWork) -> ParkedWork:
    better = max(one, other, key=lambda work: (work.on_remote, bool(work.sha)))
    keeps = one if one.kept_files else other
    kept = {name: getattr(keeps, name) for name in ("kept_host", "kept_folder", "kept_files")}
    return better.model_copy(update=kept)


def chosen(works: Iterable[ParkedWork], bead: str, attempt: int | None, unreached: Sequence[str]) -> ParkedWork:
    """Of a bead the newest attempt's, or that of the one asked for; parked comes after saved.

    Raises:
        GtError: NOT_FOUND; TEMPORAL_UNREACHABLE where a host that did not answer may have it.
    """
    fitting = [work for work in works if work.sha and work.bead == bead and attempt in (None, work.attempt)]
    if fitting:
        return max(fitting, key=lambda work: (work.attempt, work.parked))
    what = f"attempt {attempt} of {bead}" if attempt is not None else bead
    if unreached:
        raise GtError(
            ErrorCode.TEMPORAL_UNREACHABLE,
            f"nothing of {what} is on the remote or on the hosts that answer; {' and '.join(unreached)} did not",
            f"gt worker   # on {unreached[0]}, then gt polecat unpark {bead}",
        )
    raise GtError(ErrorCode.NOT_FOUND, f"nothing of {what} is parked", "gt polecat parked")


def fetch_command(work: ParkedWork, here: str) -> str:
    """What a person runs to have the files that one host alone has; "" where there are none."""
    if not work.kept_files:
        return ""
    if work.kept_host == here:
        return f"cp -a {shlex.quote(work.kept_folder)} ."
    return f"scp -rp {work.kept_host}:{shlex.quote(work.kept_folder)} ."
