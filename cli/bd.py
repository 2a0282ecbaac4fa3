"""The program `bd`."""

from __future__ import annotations

import sys

from cli import entry
from cli.beads import app


def main() -> int:
    """Run `bd` with the process's arguments; returns the exit code."""
    return entry.run(app, "bd", sys.argv[1:])
