"""Asking before what cannot be undone."""

from __future__ import annotations

import sys

import typer

from models.errors import ErrorCode, GtError


def require_consent(question: str, command: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere only --yes will do.

    Args:
        command: the command line that consents.

    Raises:
        GtError: INVALID_VALUE without a terminal and without --yes, REFUSED after a no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise GtError(ErrorCode.INVALID_VALUE, f"{question} It cannot be undone, so it needs --yes", command)
    if not typer.confirm(question, err=True):
        raise GtError(ErrorCode.REFUSED, "nothing was done")
