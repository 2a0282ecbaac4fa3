"""The program `bd`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run `bd` with the process's arguments; returns the exit code."""
    from cli import entry
    from cli.bead_app import app

    return entry.leave(entry.run(app, "bd", sys.argv[1:]))
