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
    if not yes and not _has_terminal():
        raise GtError(ErrorCode.INVALID_VALUE, f"{question} It cannot be undone, so it needs --yes", command)
    ask_on_terminal(question, yes)


def ask_on_terminal(question: str, yes: bool) -> None:
    """Ask where somebody sits who can answer; a script's command is its answer (docs/interface.md).

    Raises:
        GtError: REFUSED after a no.
    """
    if not yes and _has_terminal() and not typer.confirm(question, err=True):
        raise GtError(ErrorCode.REFUSED, "nothing was done")


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
