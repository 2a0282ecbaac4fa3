"""The environment that an agent's session gets: the user's own, without what belongs to the town.

API keys pass, because agents need them. What can push does not, because agents publish nothing. Passwords of the
ledger, keys of Temporal and the town's own variables do not, nor does what would bend a program's loading or a git
command's aim. No program in it may ask a question that nobody is there to answer: see `UNATTENDED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from models.secret_variables import UNASKING_SSH
from services.loopback import no_proxy

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
    "GH_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GITHUB_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITLAB_TOKEN",
    "GL_TOKEN",
    "GITEA_TOKEN",
    "BITBUCKET_TOKEN",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "PWD",
    "OLDPWD",
    "CI",
    "CONTINUOUS_INTEGRATION",
    # `gt up` may be run from inside claude: its children take themselves for parts of that conversation.
    "CLAUDECODE",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SSE_PORT",
)
"""Patterns of names that never reach an agent (`fnmatch`).

CI among them: agents' programs draw their screens with libraries (Ink, as claude and gemini do) that draw nothing
until the end where it is set, so that peek and attach would show an empty pane, and tests that behave differently
under CI are the gates' affair. What CI is set for, that nobody is asked, `UNATTENDED` gives.
"""

UNATTENDED: Final[dict[str, str]] = {
    # `git rebase --continue` keeps the message, `git commit` without one aborts and says so.
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "EDITOR": "true",
    "VISUAL": "true",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "SYSTEMD_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "GCM_INTERACTIVE": "never",
    # ssh asks this program even on a terminal then: for passphrases, passwords and unknown hosts.
    **UNASKING_SSH,
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "npm_config_yes": "true",
    "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
    "GH_PROMPT_DISABLED": "1",
}
"""What keeps programs from waiting for a person. Plain variables: one who attaches may change them."""

SERVER_KEEPS: Final[tuple[str, ...]] = ("HOME", "PATH", "LANG", "LC_*", "USER", "LOGNAME", "SHELL", "TZ", "TMUX_TMPDIR")
"""Patterns of names that the tmux server itself starts with."""

_GIT_KEEPS: Final[tuple[str, ...]] = (
    *("GIT_SSH", "GIT_SSH_*", "GIT_SSL_*", "GIT_PROXY_*", "GIT_HTTP_*", "GIT_TRACE*", "GIT_CURL_*"),
    *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_EXEC_PATH"),
)
"""git's variables that an agent inherits: how remotes are reached and who commits. Any other belongs to the one command
that the town was started in, such as a hook, a rebase or an alias: its repository, its date, its quarantine."""

_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def agent_environment(base: Mapping[str, str], own: Mapping[str, str], bin_folder: Path) -> dict[str, str]:
    """The whole environment of an agent.

    Args:
        base: the worker's environment.
        own: the session's `GT_*` variables and its git config; they win.
        bin_folder: put first on PATH; it holds `gt` and `bd`.
    """
    passed = {name: value for name, value in base.items() if _reaches_an_agent(name)}
    passed |= UNATTENDED | no_proxy(base)
    passed["PATH"] = f"{bin_folder}:{base.get('PATH') or _DEFAULT_PATH}"
    passed.setdefault("LANG", "C.UTF-8")
    return passed | dict(own)


def server_environment(base: Mapping[str, str]) -> dict[str, str]:
    """What the tmux server starts with: enough to run, nothing that identifies a service."""
    kept = {name: value for name, value in base.items() if _matches(name, SERVER_KEEPS)}
    kept.setdefault("PATH", _DEFAULT_PATH)
    return kept


def _reaches_an_agent(name: str) -> bool:
    return not _matches(name, DENIED) and (not name.startswith("GIT_") or _matches(name, _GIT_KEEPS))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
