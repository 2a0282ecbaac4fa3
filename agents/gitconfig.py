"""What git takes for the user's config in a session: a file of the session's own, made of the person's.

What can be used to push is left out: agents publish nothing. And `git config --global …` of an agent reaches neither
the person's file nor another agent, and ends with its session.
"""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from services.atomic_files import read_plain
from services.git_config import config_text

_HEAD: Final = """\
# The git config of this session alone, made by Gas Town out of the person's, without credentials. What
# `git config --global` writes lands here and ends with the session.
"""
WITHHELD: Final = re.compile(
    r"credential\..*|http\.(.*\.)?(extraheader|cookiefile|sslkey|sslcert|sslcertpasswordprotected|delegation)"
    r"|core\.askpass|(commit|tag|push)\.gpgsign|tag\.forcesignannotated|include(if)?\..*|(remote|branch|extensions)\..*"
)
"""Keys with credentials or the programs that give them; signing by default, for which a session has no key; includes,
whose content is in the list already; and what belongs to a repository."""
_WITH_PASSWORD: Final = re.compile(r"[a-z+]+://[^/@]+@")
_TIMEOUT_S: Final = 10.0


def session_gitconfig(environment: Mapping[str, str]) -> str:
    """Text of a session's config file; it takes the place of the system's file too.

    ssh is told to ask nothing unless the person has a command of their own for it.

    Args:
        environment: the worker's: the person's files are found by it.
    """
    pairs = [(key, value) for key, value in _settings(environment) if not _is_withheld(key, value)]
    has_own = any(key == "core.sshcommand" for key, _ in pairs)
    if not has_own and not environment.get("GIT_SSH") and not environment.get("GIT_SSH_COMMAND"):
        pairs.append(("core.sshCommand", "ssh -o BatchMode=yes"))
    return _HEAD + config_text(pairs)


def as_bytes(text: str) -> bytes:
    """The file's content: a name that is no UTF-8 is written as the person has it."""
    return text.encode("utf-8", "surrogateescape")


def _is_withheld(key: str, value: str) -> bool:
    if WITHHELD.fullmatch(key):
        return True
    # `url.https://name:token@host/.insteadOf`; ssh's addresses name a user, and no secret.
    base = key.removeprefix("url.")
    return key.startswith("url.") and bool(_WITH_PASSWORD.match(base)) and not base.startswith("ssh://")


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """All that git has set for the person outside of any repository; nothing where a file cannot be read."""
    kept = {name: value for name, value in environment.items() if not name.startswith("GIT_") or "CONFIG" in name}
    try:
        listed = subprocess.run(
            ["git", "config", "--includes", "--list", "--null"],
            cwd="/", env={**kept, "GIT_CEILING_DIRECTORIES": "/"}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
    for entry in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if "." in key:
            yield key, value if newline else "true"


def written_since(path: Path, written: str) -> str:
    """What an agent has changed in its session's config, as a diff; "" for nothing."""
    try:
        now = read_plain(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        return f"{path}: {error.strerror or error}\n"
    if now == written:
        return ""
    lines = difflib.unified_diff(
        written.splitlines(), now.splitlines(), "as the town wrote it", "at the end", lineterm=""
    )
    return "\n".join(lines) + "\n"
