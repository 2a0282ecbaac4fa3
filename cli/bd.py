"""The program `bd`."""

from __future__ import annotations

import sys

from cli import streams
from cli.gt import INTERRUPTED


def main() -> int:
    """Run `bd` with the process's arguments; returns the exit code."""
    streams.open_closed()
    try:
        from cli import entry
        from cli.bead_app import app

        return entry.leave(entry.run(app, "bd", sys.argv[1:]))
    except KeyboardInterrupt:  # while the program was still being loaded
        return INTERRUPTED
