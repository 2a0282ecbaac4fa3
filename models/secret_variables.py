"""Which variables of an environment look like secrets or bend git. Cheap: every service of a town starts with it."""

from __future__ import annotations

import re
from typing import Final

_PARTS: Final = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "KEY", "CREDENTIAL", "AUTH", "COOKIE")
_USERINFO: Final = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_PROXY: Final = re.compile(r"\w+_proxy", re.IGNORECASE)
_NOTHING_TO_GIT: Final = (
    *("GT_", "TEMPORAL_", "DOLT_", "SUPERVISOR_"),
    *("ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_API_", "CLAUDE", "CODEX_"),
)

UNASKING_SSH: Final = {"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "force"}
"""Variables under which ssh asks nobody for a password or about an unknown host; a command for ssh in them instead
would take the place of the person's core.sshCommand."""
_OF_CONNECTIONS: Final = ("GIT_SSH", "GIT_ASKPASS", "GIT_SSL_", "GIT_PROXY_", "GIT_HTTP_", "GIT_TRACE", "GIT_PYTHON_")


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable carries a credential, by its name or by a password in a URL; SSH_AUTH_SOCK is one."""
    upper = name.upper()
    return any(part in upper for part in _PARTS) or _USERINFO.search(value) is not None


def needless_for_git(name: str) -> bool:
    """Whether the variable is for the town's programs or its agents alone; credentials of remotes are git's."""
    return name.startswith(_NOTHING_TO_GIT)


def bends_git(name: str) -> bool:
    """Whether the variable says what git works on or how, as hooks, rebases and aliases set it.

    Those that say how remotes are reached do not.
    """
    return name.startswith("GIT_") and not name.startswith(_OF_CONNECTIONS)


def needless_for_a_server(name: str, value: str) -> bool:
    """Whether a program that only serves, or sends messages, must not have the variable; it keeps its proxy."""
    return name.startswith("SUPERVISOR_") or (looks_secret(name, value) and _PROXY.fullmatch(name) is None)
