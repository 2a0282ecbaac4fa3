"""The program `gt`. Imports next to nothing: agents run it in their sessions, often."""

from __future__ import annotations

import os
import sys

from cli.frame import command_client, streams

INTERRUPTED = 130
"""models.errors.ExitCode.INTERRUPTED"""


def main() -> int:
    """Run `gt` with the process's arguments; returns the exit code."""
    streams.open_closed()
    streams.hide_unraisable()
    try:
        return _run(sys.argv[1:])
    except KeyboardInterrupt:  # while the program was still being loaded
        return INTERRUPTED


def _run(argv: list[str]) -> int:
    if os.environ.get("GT_TASK_FILE"):
        from cli.session import agent

        code = agent.run("gt", argv)
        if code is not None:
            return code
    else:
        code = command_client.ask("gt", argv)
        if code is not None:
            return code
    from cli.app import app
    from cli.frame import entry

    return entry.leave(entry.run(app, "gt", argv))
