"""Standard streams: closed by the caller, or a terminal that text must not drive.

Standard library only: agents run `gt` often.
"""

from __future__ import annotations

import os
import sys

UNWRITTEN = "what was asked is done, but its result cannot be written"
"""what a command says when standard output takes nothing"""
_SHOWN_AS_IS = {"\n", "\t"}


def open_closed() -> None:
    """Open each closed standard stream on nothing.

    Python leaves `None` in its place, and the next file, the ledger or a socket, would get its number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, mode))
            if descriptor != number and _is_free(number):
                os.dup2(descriptor, number)


def hide_unraisable() -> None:
    """Show what Python cannot raise, as any traceback, with --debug alone.

    Ctrl-C may leave an object half made, whose destructor then fails.
    """
    if "--debug" not in sys.argv and not os.environ.get("GT_DEBUG"):
        sys.unraisablehook = lambda _: None


def let_go(number: int) -> None:
    """Send what is still written to a standard stream nowhere: nobody reads on, or there is no room."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def printable(text: str) -> str:
    """`text` without control or direction characters: a title or a message must not drive the reader's terminal."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        character if character in _SHOWN_AS_IS or character.isprintable() else _escaped(character) for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
