"""The git configuration of the town's own commands: settings that are fixed, and a person's credentials, taken over by
name.

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
IDENTITY: Final = ("Gas Town Refinery", "refinery@gastown.invalid")
"""Committer of every commit that the town makes itself."""

_FIXED: Final[tuple[tuple[str, str], ...]] = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    # By default a file in the home, which agents share.
    ("core.attributesFile", "/dev/null"),
    # The clone's own configuration is the agents' to change: these would hide edits of theirs.
    ("core.fileMode", "true"),
    ("core.ignoreCase", "false"),
    ("core.ignoreStat", "false"),
    ("core.safecrlf", "false"),
    ("core.sparseCheckout", "false"),
    ("protocol.ext.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("color.ui", "false"),
    ("log.showSignature", "false"),
    ("i18n.logOutputEncoding", "utf-8"),
    ("merge.renames", "true"),
    ("merge.directoryRenames", "conflict"),
    ("merge.conflictStyle", "merge"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("push.followTags", "false"),
    ("push.gpgSign", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    # Threads cost more than they give on packs of a few objects.
    ("pack.threads", "1"),
)
FETCH: Final = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-show-forced-updates")
"""Options of every fetch."""
COMMITS_ALONE: Final = (*FETCH, "--filter=tree:0")
"""The same, of a history that is looked at for what it holds; a remote that knows no filters gives all of it."""
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


def fixed_environment(config: Path) -> dict[str, str]:
    """The variables under which each git command of the town computes the same, without prompts and hooks.

    Args:
        config: the user's configuration of it.
    """
    values = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_COMMITTER_NAME": IDENTITY[0],
        "GIT_COMMITTER_EMAIL": IDENTITY[1],
        "GIT_AUTHOR_NAME": IDENTITY[0],
        "GIT_AUTHOR_EMAIL": IDENTITY[1],
        "GIT_CONFIG_COUNT": str(len(_FIXED)),
    }
    for index, (key, value) in enumerate(_FIXED):
        values[f"GIT_CONFIG_KEY_{index}"] = key
        values[f"GIT_CONFIG_VALUE_{index}"] = value
    return values


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
