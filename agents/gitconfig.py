"""What git takes for the user's config in a session: a file of the session's own that includes the person's.

So `git config --global …` of an agent reaches neither the person's file nor another agent, and ends with its session.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.whole_files import read_plain

_HEAD: Final = """\
# The git config of this session alone, made by Gas Town: what `git config --global` writes lands here and ends with
# the session. Nothing of it reaches the person's own files, which are included.
"""
_ASKED: Final = r"^(user\.name|user\.email|core\.sshcommand)$"
_TIMEOUT_S: Final = 10.0


def persons_files(environment: Mapping[str, str]) -> list[str]:
    """The files that git reads as the user's config with this environment, in its order; they need not exist."""
    named = environment.get("GIT_CONFIG_GLOBAL")
    if named is not None:
        return [named] if named else []
    home = environment.get("HOME")
    config = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    files = [f"{config}/git/config"] if config else []
    return [*files, f"{home}/.gitconfig"] if home else files


def session_gitconfig(environment: Mapping[str, str]) -> str:
    """Text of a session's config file.

    `git config --global user.email`, as agents ask it, does not look into included files, so name and address stand
    in it too. ssh is told to ask nothing unless the person has a command of their own for it.

    Args:
        environment: the worker's: the person's files are found by it.
    """
    parts = [_HEAD, *(f"[include]\n\tpath = {_quoted(path)}\n" for path in persons_files(environment))]
    values = _values(environment)
    user = [f"\t{key} = {_quoted(values[f'user.{key}'])}\n" for key in ("name", "email") if f"user.{key}" in values]
    if user:
        parts += ["[user]\n", *user]
    if "core.sshcommand" not in values and not environment.get("GIT_SSH") and not environment.get("GIT_SSH_COMMAND"):
        parts.append("[core]\n\tsshCommand = ssh -o BatchMode=yes\n")
    return "".join(parts)


def _values(environment: Mapping[str, str]) -> dict[str, str]:
    """The person's own, their system's included; of a file that git cannot read, none."""
    kept = {name: value for name, value in environment.items() if not name.startswith("GIT_") or "CONFIG" in name}
    argv = ["git", "config", "--includes", "--null", "--get-regexp", _ASKED]
    try:
        asked = subprocess.run(
            argv, cwd="/", env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = [row.partition("\n") for row in asked.stdout.decode("utf-8", "surrogateescape").split("\0") if row]
    return {key: value for key, _, value in rows}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def written_since(path: Path, written: str) -> str:
    """What an agent has changed in its session's config, as a diff; "" for nothing."""
    try:
        now = read_plain(path).decode("utf-8", "replace")
    except OSError as error:
        return f"{path}: {error.strerror or error}\n"
    if now == written:
        return ""
    lines = difflib.unified_diff(
        written.splitlines(), now.splitlines(), "as the town wrote it", "at the end", lineterm=""
    )
    return "\n".join(lines) + "\n"
