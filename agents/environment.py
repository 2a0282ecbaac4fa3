"""The environment that an agent's session gets: the user's own, without what belongs to the town.

API keys pass, because agents need them. Passwords of the ledger, keys of Temporal and the
town's own variables do not, nor does what would bend a program's loading or a git command's aim.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

DENIED: Final[tuple[str, ...]] = (
    "GT_*",
    "TEMPORAL_*",
    "DOLT_*",
    "*DOLTLITE*",
    "*GASTOWN*",
    "SUPERVISOR_*",
    "LD_PRELOAD",
    "LD_AUDIT",
    "DYLD_*",
    "PYTHON*",
    "VIRTUAL_ENV",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "PWD",
    "OLDPWD",
)
"""Patterns of names that never reach an agent (`fnmatch`)."""

SERVER_KEEPS: Final[tuple[str, ...]] = ("HOME", "PATH", "LANG", "LC_*", "USER", "LOGNAME", "SHELL", "TZ", "TMUX_TMPDIR")
"""Patterns of names that the tmux server itself starts with."""

_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def agent_environment(base: Mapping[str, str], own: Mapping[str, str], bin_folder: Path) -> dict[str, str]:
    """The whole environment of an agent.

    Args:
        base: the worker's environment.
        own: the session's `GT_*` variables; they win.
        bin_folder: put first on PATH; it holds `gt` and `bd`.
    """
    passed = {name: value for name, value in base.items() if not _matches(name, DENIED)}
    passed["PATH"] = f"{bin_folder}:{base.get('PATH') or _DEFAULT_PATH}"
    passed.setdefault("LANG", "C.UTF-8")
    return passed | dict(own)


def server_environment(base: Mapping[str, str]) -> dict[str, str]:
    """What the tmux server starts with: enough to run, nothing that identifies a service."""
    kept = {name: value for name, value in base.items() if _matches(name, SERVER_KEEPS)}
    kept.setdefault("PATH", _DEFAULT_PATH)
    return kept


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
