"""The program `gt`. Imports next to nothing: agents run it in their sessions, often."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run `gt` with the process's arguments; returns the exit code."""
    if os.environ.get("GT_TASK_FILE"):
        from cli import agent

        code = agent.run(sys.argv[1:])
        if code is not None:
            return code
    from cli import entry
    from cli.app import app

    return entry.leave(entry.run(app, "gt", sys.argv[1:]))
