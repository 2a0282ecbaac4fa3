"""The git configuration of the town's own commands: a person's credentials, taken over by name.

The worker's git reads no file that an agent, which has the same home, can write to: what
`git config --global` sets later (`url.*.insteadOf`, filters, aliases) reaches it with the next command of a
person alone, and then only what is named here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import ErrorCode, GtError
from models.town import TownPaths
from services.atomic_files import write_whole

TAKEN_OVER: Final = re.compile(
    r"credential\..*|http\..*|ssh\.variant|core\.sshcommand|user\.(name|email|signingkey)|gpg\..*|safe\.directory"
)
"""Credentials, what connections need, and signing; nothing that changes what a command computes or runs beside."""
_IGNORED: Final = "gitignore"
_MOST_BYTES: Final = 1_000_000


class Person(NamedTuple):
    """Whom git takes the person of a town for; "" where it is not told."""

    name: str
    email: str

    @property
    def identity(self) -> str:
        """`Name <email>`, or "" where git does not know both."""
        return f"{self.name} <{self.email}>" if self.name and self.email else ""


def write_town_config(paths: TownPaths, environment: Mapping[str, str] | None = None) -> Person:
    """Take the person's configuration over into the town's, `<town>/gitconfig`.

    Called by the commands of a person that set a town up: `gt up`, `gt rig add`, `gt rig set`.

    Args:
        environment: of the person; this process's by default.

    Raises:
        GtError: PROGRAM_MISSING where there is no git.
    """
    settings = list(_settings(os.environ if environment is None else environment))
    taken = [(key, value) for key, value in settings if TAKEN_OVER.fullmatch(key)]
    ignored = _ignored_patterns(dict(settings), os.environ if environment is None else environment)
    if ignored:
        write_whole(paths.root / _IGNORED, ignored)
        taken.append(("core.excludesfile", str(paths.root / _IGNORED)))
    write_whole(paths.git_config, "# Written anew by gt up and gt rig add.\n" + config_text(taken))
    known = dict(settings)
    return Person(known.get("user.name", ""), known.get("user.email", ""))


def _settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every setting that git has for the person outside of any repository; the last of a name wins in git."""
    given = {name: value for name, value in environment.items() if name not in {"GIT_DIR", "GIT_WORK_TREE"}}
    try:
        listed = subprocess.run(
            ["git", "config", "--includes", "--list", "-z"],
            cwd="/", env={**given, "GIT_CEILING_DIRECTORIES": "/"}, stdin=subprocess.DEVNULL, capture_output=True,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise GtError(ErrorCode.PROGRAM_MISSING, "git is not on PATH", "install git 2.39 or newer") from None
    for entry in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if key:
            yield key, value if newline else "true"


def _ignored_patterns(settings: Mapping[str, str], environment: Mapping[str, str]) -> bytes:
    """The person's own patterns of ignored files, copied: an agent that adds to them hides nothing from the town."""
    home = environment.get("HOME", "/")
    default = Path(environment.get("XDG_CONFIG_HOME") or f"{home}/.config", "git", "ignore")
    named = settings.get("core.excludesfile")
    place = Path(named.replace("~", home, 1) if named.startswith("~") else named) if named else default
    try:
        with place.open("rb") as patterns:
            return patterns.read(_MOST_BYTES)
    except OSError:
        return b""


def config_text(pairs: Iterable[tuple[str, str]]) -> str:
    """Settings as a git configuration file has them."""
    lines = []
    for key, value in pairs:
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        heading = f"[{section} {quoted(name)}]" if name else f"[{section}]"
        lines.append(f"{heading}\n\t{variable} = {quoted(value)}\n")
    return "".join(lines)


def quoted(value: str) -> str:
    """A value, or the name of a section, as git's configuration files quote it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
