"""Parameters that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def directory(text: str) -> Path:
    """A directory's name; an empty one, as an unset variable gives it, would mean the current directory."""
    if not text:
        raise typer.BadParameter("the directory's name is empty")
    return Path(text)


BeadArgument = Annotated[str, typer.Argument(metavar="ID", help="A bead's id, like sh-1a2.")]
RigOption = Annotated[str, typer.Option("--rig", metavar="R", help="The rig.")]
OptionalRigOption = Annotated[str | None, typer.Option("--rig", metavar="R", help="Only this rig.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, max=100_000, help="At most so many.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the job's history.")]
