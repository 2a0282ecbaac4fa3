"""Which variables a gate sees: it runs code that nobody has reviewed yet, so no credential goes along unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.secret_variables import UNASKING_SSH, looks_secret
from models.settings import listed_variables

RUN_MARK: Final = "GATE_RUN_ID"
"""Carried by every process of one gate run, so that strays can be told from everybody else's."""
WITHHELD: Final = "GT_WITHHELD"
"""Names, without values, of the worker's variables that the gate does not have."""
_WITHHELD_MAX_CHARACTERS: Final = 4000

_WITHHELD_PREFIXES: Final = (
    *("GT_", "TEMPORAL_", "DOLT_", "_DOLT", "GASTOWN_", "SUPERVISOR_"),
    *("GIT_", "SSH_", "GPG_", "XDG_", "DBUS_"),
    *("AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCP_", "GCLOUD_", "CLOUDSDK_", "OCI_", "DO_", "CF_"),
    *("ANTHROPIC_", "OPENAI_", "GEMINI_", "CLAUDE", "CODEX_", "TMUX"),
    *("GH_", "GITHUB_", "GITLAB_", "VAULT_", "PG", "MYSQL_", "REDIS_"),
)
_WITHHELD_NAMES: Final = frozenset(
    ("HOME", "PWD", "OLDPWD", "KUBECONFIG", "NETRC", "DOCKER_CONFIG", "DOCKER_HOST", "PYTHONPATH", "PYTHONHOME")
)

_UNATTENDED: Final[Mapping[str, str]] = {
    "CI": "true",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "EDITOR": "true",
    "VISUAL": "true",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    **UNASKING_SSH,
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "npm_config_yes": "true",
    "GH_PROMPT_DISABLED": "1",
}
"""Nobody is there to answer a gate's question."""


def gate_environment(
    inherited: Mapping[str, str], home: str, mark: str, caches: str | None = None, wanted: str = ""
) -> dict[str, str]:
    """The environment of one gate run.

    Args:
        inherited: the worker's own environment; PATH, locale and toolchain variables pass.
        home: the folder that is HOME.
        mark: identifies the run.
        caches: a folder that is kept from run to run, for package managers.
        wanted: the setting gate.environment.
    """
    passed = {name: value for name, value in inherited.items() if not _withheld(name, value)}
    kept = {"XDG_CACHE_HOME": caches, "npm_config_cache": f"{caches}/npm"} if caches else {}
    given = {**passed, **kept, "HOME": home, **_UNATTENDED, **_wanted(wanted, inherited)}
    missing = " ".join(sorted(inherited.keys() - given.keys()))
    return {**given, WITHHELD: missing[:_WITHHELD_MAX_CHARACTERS], RUN_MARK: mark}


def _wanted(setting: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that gate.environment gives to gates, though they would be withheld, as far as there are values."""
    values = {name: inherited.get(name) if value is None else value for name, value in listed_variables(setting)}
    return {name: value for name, value in values.items() if value is not None}


def _withheld(name: str, value: str) -> bool:
    upper = name.upper()
    return upper in _WITHHELD_NAMES or upper.startswith(_WITHHELD_PREFIXES) or looks_secret(name, value)
