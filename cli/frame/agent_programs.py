"""Whether the program of an agent command is there, asked before a bead is handed to it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from services.town import Town


def require_agent(agent: str, town: Town) -> None:
    """Return when a shell would find the first word of `agent` (a preset or a command line).

    A path relative to the worktree cannot be looked up from here and passes.

    Raises:
        GtError: INVALID_VALUE for an empty command, AGENT_NOT_FOUND.
    """
    from agents.presets import command_line, install_hint, program

    if not agent.strip():
        raise GtError(ErrorCode.INVALID_VALUE, "the agent command is empty", "--agent claude")
    word = program(command_line(agent))
    if not word or ("/" in word and not word.startswith("/")):
        return
    # The shell knows its own words (`cd`, `if`) and functions, which a search of PATH would miss.
    path = f"{town.paths.bin}:{os.environ.get('PATH', os.defpath)}"
    found = subprocess.run(
        ["sh", "-c", 'command -v -- "$1"', "sh", word],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if found.returncode != 0 and word not in {"gt", "bd"}:
        raise GtError(ErrorCode.AGENT_NOT_FOUND, f"there is no program {word!r} for the agent", install_hint(agent))
