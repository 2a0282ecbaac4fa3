"""`bd export`, `bd import`: beads as JSON lines."""

from __future__ import annotations

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
    from models.ledger.exchange import BeadLine

app = new_app("Exchange.")

_STANDARD = Path("-")
_STANDARD_OUTPUT = (_STANDARD, Path("/dev/stdout"))
_TOLD = 20
"""problems that are listed one by one"""


@command(app, "export")
def export(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to; - is standard output.")] = _STANDARD,
    rig: OptionalRigOption = None,
) -> None:
    """Write beads as JSON lines, with all that belongs to them; the Go program bd reads them too."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        if rig is not None:
            ledger.rig(names.valid_rig(rig))
        lines = ledger.export_beads(rig)
    from models.ledger.exchange import write_line

    text = "".join(write_line(line) + "\n" for line in lines)
    if file in _STANDARD_OUTPUT:
        output.write(text)
        return
    _write(file, text)
    output.emit(call, {"file": str(file), "beads": len(lines)}, f"{len(lines)} beads written to {file}")


@command(app, "import")
def import_beads(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    rig: Annotated[
        str | None, typer.Option("--rig", metavar="R", help="Where all go; else where each says it belongs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
) -> None:
    """Take beads in from JSON lines, all or none; one that is here already stays as it is."""
    if rig is not None:
        names.valid_rig(rig)
    town = connect.open_town(call)
    lines = _read(file)
    with connect.open_ledger(town) as ledger:
        report = ledger.import_beads(lines, rig, dry_run=dry_run)
    text = (
        f"{len(report.created)} beads {'would be ' if dry_run else ''}imported, {len(report.known)} were here already"
    )
    for old, new in list(report.renamed.items())[:_TOLD]:
        text += f"\n{old} is {new} here"
    output.emit(call, {**output.document(report), "dry_run": dry_run}, text)
    if report.reopened:
        output.warn(f"a job worked on these elsewhere, they are open here: {' '.join(report.reopened[:_TOLD])}")
    for edge in report.kept_aside[:_TOLD]:
        output.warn(f"{edge}, which is not here: it does not wait for it")


def _read(file: Path) -> list[BeadLine]:
    from models.ledger.exchange import read_line

    try:
        data = sys.stdin.buffer.read() if file == _STANDARD else file.read_bytes()
    except OSError as error:
        code = ErrorCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ErrorCode.INVALID_VALUE
        raise GtError(code, f"{file} cannot be read: {error.strerror}") from None
    lines, wrong = [], []
    for number, raw in enumerate(data.split(b"\n"), start=1):
        try:
            line = read_line(raw.decode("utf-8"))
        except UnicodeDecodeError:
            wrong.append(f"line {number}: not valid UTF-8")
        except GtError as error:
            wrong.append(f"line {number}: {error.message}")
        else:
            lines += [] if line is None else [line]
    if wrong:
        shown = "; ".join(wrong[:_TOLD]) + (f"; and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else "")
        raise GtError(ErrorCode.INVALID_VALUE, f"nothing was imported: {shown}")
    return lines


def _write(file: Path, text: str) -> None:
    from services.atomic_files import is_no_plain_file, write_whole

    try:
        # Written by renaming, the file would take the place of a device: as root, of /dev/null.
        odd = is_no_plain_file(file)
        if not odd:
            write_whole(file.resolve(), text)
    except OSError as error:
        raise GtError(ErrorCode.INVALID_VALUE, f"{file} cannot be written: {error.strerror}") from None
    if odd:
        raise GtError(ErrorCode.INVALID_VALUE, f"{file} is no plain file", "bd export > FILE, or bd export FILE")
