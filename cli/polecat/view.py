"""`gt polecat list|status|peek|attach`, `gt peek`, `gt attach`: polecats and their tmux sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import OptionalRigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.ledger.records import JobRow, PolecatRow
    from services.town import Town

app = new_app("Look at polecats.")

TMUX_S = 10.0

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A polecat's name, like toast.")]
PolecatRigOption = Annotated[
    str | None, typer.Option("--rig", metavar="R", help="Its rig; needed where two rigs have one of that name.")
]
LinesOption = Annotated[int, typer.Option("--lines", metavar="N", min=1, max=10_000, help="Lines from the end.")]


@command(app, "list")
def list_polecats(call: Call, rig: OptionalRigOption = None) -> None:
    """List polecats as the ledger has them."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        if rig is not None:
            ledger.rig(names.valid_rig(rig))
        polecats, jobs = ledger.polecats(rig), ledger.jobs(rig=rig, unfinished=True)
    _emit(call, polecats, jobs)


@command(app, "status")
def polecat_status(call: Call, name: NameArgument, rig: PolecatRigOption = None) -> None:
    """Show one polecat."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        row = polecat_row(ledger, name, rig)
        job = ledger.job(row.bead) if row.bead else None
    document = {**output.document(row), "attempt": job.attempt if job else None}
    output.emit(call, document, output.fields(document))


@command(app, "peek")
def peek(call: Call, name: NameArgument, rig: PolecatRigOption = None, lines: LinesOption = 40) -> None:
    """Show what a polecat's session shows."""
    town = connect.open_town(call)
    session = _session(town, name, rig)
    seen = _tmux(town, "capture-pane", "-p", "-J", "-S", f"-{lines}", "-t", f"={session}:")
    if seen.returncode != 0:
        raise GtError(ErrorCode.TMUX_FAILED, f"tmux: {seen.stderr.strip()}")
    shown = "\n".join(seen.stdout.rstrip("\n").splitlines()[-lines:])
    rig_name, polecat = session.split("--")
    output.emit(call, {"rig": rig_name, "polecat": polecat, "session": session, "text": shown}, shown)


@command(app, "attach")
def attach(call: Call, name: NameArgument, rig: PolecatRigOption = None) -> None:
    """Enter a polecat's session; leave it with ctrl-b d."""
    town = connect.open_town(call)
    session = _session(town, name, rig)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GtError(ErrorCode.INVALID_VALUE, "attach needs a terminal", f"gt peek {name}")
    # Inside another tmux TMUX would make the client refuse; this is another server.
    environment = {key: value for key, value in os.environ.items() if key != "TMUX"}
    os.execvpe("tmux", ["tmux", "-L", town.tmux_socket, "attach-session", "-t", f"={session}"], environment)  # noqa: S606


def polecat_row(ledger: Ledger, name: str, rig: str | None) -> PolecatRow:
    """The polecat of that name.

    Raises:
        GtError: NOT_FOUND for one that never was, INVALID_VALUE where several rigs have one.
    """
    names.valid_polecat(name)
    return _one([row for row in ledger.polecats(_valid(rig)) if row.name == name], name)


def _session(town: Town, name: str, rig: str | None) -> str:
    """The living tmux session of a polecat.

    Raises:
        GtError: NOT_FOUND for a polecat that never was, REFUSED where it has no session now,
            INVALID_VALUE where several rigs have one of that name.
    """
    names.valid_polecat(name)
    _valid(rig)
    listed = _tmux(town, "list-sessions", "-F", "#{session_name}")
    sessions = listed.stdout.split() if listed.returncode == 0 else []
    matching = [one for one in sessions if one.endswith(f"--{name}") and rig in (None, one.split("--")[0])]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise _ambiguous(name, [one.split("--")[0] for one in matching])
    with connect.open_ledger(town) as ledger:
        row = polecat_row(ledger, name, rig)
    evidence = _last_evidence(town, row)
    hint = f"its last words: {evidence}" if evidence else "gt polecat list"
    raise GtError(ErrorCode.REFUSED, f"{row.rig}/{name} has no session now ({row.state})", hint)


def _valid(rig: str | None) -> str | None:
    return None if rig is None else names.valid_rig(rig)


def _one(rows: list[PolecatRow], name: str) -> PolecatRow:
    if not rows:
        raise GtError(ErrorCode.NOT_FOUND, f"there is no polecat {name!r}", "gt polecat list")
    if len(rows) > 1:
        raise _ambiguous(name, [row.rig for row in rows])
    return rows[0]


def _ambiguous(name: str, rigs: list[str]) -> GtError:
    return GtError(ErrorCode.INVALID_VALUE, f"{name} is a polecat of {', '.join(rigs)}", f"--rig {rigs[0]}")


def _last_evidence(town: Town, row: PolecatRow) -> Path | None:
    """The newest folder of saved evidence of the beads that this polecat worked on."""
    worked_on = town.paths.sessions / row.rig / row.name
    beads = [folder.name for folder in worked_on.iterdir()] if worked_on.is_dir() else []
    saved = [attempt for bead in beads for attempt in (town.paths.evidence / bead).glob("*") if attempt.is_dir()]
    return max(saved, key=lambda folder: folder.stat().st_mtime, default=None)


def _tmux(town: Town, *argv: str) -> subprocess.CompletedProcess[str]:
    answer = _called(town, *argv)
    if answer.returncode != 0:
        # Only here: what it imports costs more than a whole look at a pane.
        from services import tmux_server

        missing = any(sign in answer.stderr for sign in tmux_server.NOT_FOUND)
        if missing and tmux_server.find_again(town.paths.tmux_server):
            return _called(town, *argv)
    return answer


def _called(town: Town, *argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["tmux", "-L", town.tmux_socket, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TMUX_S,
            check=False,
        )
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "tmux is not installed", "install tmux") from None
    except subprocess.TimeoutExpired:
        raise GtError(ErrorCode.TMUX_FAILED, f"tmux did not answer within {TMUX_S:.0f} s") from None


def _emit(call: Call, polecats: list[PolecatRow], jobs: list[JobRow]) -> None:
    attempts = {job.bead: job.attempt for job in jobs}
    documents = [{**output.document(row), "attempt": attempts.get(row.bead or "")} for row in polecats]
    header = ("RIG", "NAME", "STATE", "BEAD", "ATTEMPT", "HOST", "SINCE")
    rows = [
        (row.rig, row.name, row.state, row.bead, attempts.get(row.bead or ""), row.host, row.since) for row in polecats
    ]
    output.emit(call, documents, output.table(header, rows) if rows else "no polecats yet")
