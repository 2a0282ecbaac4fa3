"""The program `bd`."""

from __future__ import annotations

import os
import sys

from cli.frame import command_client, streams
from cli.gt import INTERRUPTED


def main() -> int:
    """Run `bd` with the process's arguments; returns the exit code."""
    streams.open_closed()
    streams.hide_unraisable()
    try:
        if os.environ.get("GT_TASK_FILE"):
            from cli.session import agent

            code = agent.run("bd", sys.argv[1:])
            if code is not None:
                return code
        else:
            code = command_client.ask("bd", sys.argv[1:])
            if code is not None:
                return code
        from cli.beads.app import app
        from cli.frame import entry

        return entry.leave(entry.run(app, "bd", sys.argv[1:]))
    except KeyboardInterrupt:  # while the program was still being loaded
        return INTERRUPTED
