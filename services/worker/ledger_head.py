"""The embedded ledger's newest commit, kept outside of its file.

A file that was truncated, or swapped for an older copy, is whole in itself and shows an older state without a word:
only from outside can be told that it once had more.
"""

from __future__ import annotations

from pathlib import Path

from ledger.store import Ledger
from models.town import TownPaths
from services.atomic_files import read_plain, write_whole


def head_path(paths: TownPaths) -> Path:
    return paths.run / "ledger.head"


def lost_commit(ledger: Ledger, paths: TownPaths) -> str:
    """The commit that the ledger had at an earlier look and lacks now; "" where there is none, and this look is noted.

    What was noted stays as long as it is missing: until the file is back, or a person removes the note.

    Raises:
        GtError: the ledger does not answer.
        OSError: the note cannot be written.
    """
    note = head_path(paths)
    try:
        noted = read_plain(note).decode("ascii", "replace").strip()
    except OSError:
        noted = ""
    newest, holds = ledger.head(noted)
    if noted and not holds:
        return noted
    if newest != noted:
        write_whole(note, f"{newest}\n")
    return ""
