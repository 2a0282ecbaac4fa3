"""What a command says: results on standard output, everything else on standard error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.frame import streams
from cli.frame.streams import printable
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.frame.command import Call

NARROW = 80
"""columns of a terminal that does not say how wide it is"""


def emit(call: Call, document: Any, text: str) -> None:
    """Print the result: `document` as one JSON document, or `text` for people."""
    # ASCII only: the same bytes whatever the terminal's encoding is.
    shown = json.dumps(document, indent=2) if call.json else printable(text).rstrip("\n")
    if not shown:
        return
    write(shown + "\n")


def write(text: str) -> None:
    """Write a result to standard output as it is.

    Raises:
        GtError: DISK_FULL or INTERNAL, it cannot be written. Where nobody reads on (`| head -1`) that is no failure.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        reader_left()
    except OSError as error:
        reader_left()
        code = ErrorCode.DISK_FULL if error.errno == errno.ENOSPC else ErrorCode.INTERNAL
        raise GtError(code, f"{streams.UNWRITTEN}: {error.strerror}") from None


def reader_left() -> None:
    """What is still written goes nowhere."""
    streams.let_go(sys.stdout.fileno())


def document(model: BaseModel) -> dict[str, Any]:
    """A model as JSON values; times become ISO-8601 UTC."""
    return model.model_dump(mode="json")


def documents(models: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [document(model) for model in models]


def say(text: str) -> None:
    """A message for people, beside the result."""
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except OSError:  # nobody reads it: the result and the exit code say what is needed
        streams.let_go(sys.stderr.fileno())


def warn(text: str) -> None:
    say(f"warning: {text}")


def report(error: GtError, *, debug: bool = False) -> None:
    """`error:` and `hint:` lines; the traceback only when asked for."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    fail(error.message, error.hint)


def fail(message: str, hint: str = "") -> None:
    """Say what failed and, where there is one, the next step."""
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Columns padded to their widest cell; on a terminal the last one is cut so that a line fits."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *cells]) for column in range(len(header))]
    columns = _columns()
    room = None if columns is None else columns - len(indent)
    lines = []
    for row in [list(header), *cells]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        lines.append(indent + (line if room is None or len(line) <= room else line[: room - 1] + "…"))
    return "\n".join(lines)


def fields(pairs: Mapping[str, object]) -> str:
    """One `name  value` line for each pair that has a value."""
    shown = {name: _cell(value) for name, value in pairs.items() if value not in (None, "", ())}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown.items())


def duration(seconds: float | None) -> str:
    """`42s`, `7m`, `3h`, `2d`: enough to read at a glance."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def when(moment: datetime) -> str:
    """A time as interface.md has it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return when(value)
    return " ".join(printable(str(value)).split())


def _columns() -> int | None:
    """None: whoever reads (a pager, a filter, a file) takes lines of any length."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return max(shutil.get_terminal_size((NARROW, 24)).columns, 40)
