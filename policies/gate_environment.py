"""Which variables a gate sees: it runs code that nobody has reviewed yet, so no credential goes along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

RUN_MARK: Final = "GATE_RUN_ID"
"""Carried by every process of one gate run, so that strays can be told from everybody else's."""

_WITHHELD_PREFIXES: Final = (
    *("GT_", "TEMPORAL_", "DOLT_", "_DOLT", "GASTOWN_"),
    *("GIT_", "SSH_", "GPG_", "XDG_", "DBUS_"),
    *("AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCP_", "GCLOUD_", "CLOUDSDK_", "OCI_", "DO_", "CF_"),
    *("ANTHROPIC_", "OPENAI_", "GEMINI_", "CLAUDE", "CODEX_", "TMUX"),
    *("GH_", "GITHUB_", "GITLAB_", "VAULT_", "PG", "MYSQL_", "REDIS_"),
)
_WITHHELD_NAMES: Final = frozenset(
    ("HOME", "PWD", "OLDPWD", "KUBECONFIG", "NETRC", "DOCKER_CONFIG", "DOCKER_HOST", "PYTHONPATH", "PYTHONHOME")
)
_WITHHELD_PARTS: Final = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "KEY", "CREDENTIAL", "AUTH", "COOKIE")
_USERINFO: Final = re.compile(r"://[^/\s@]*:[^/\s@]*@")


def gate_environment(inherited: Mapping[str, str], home: str, mark: str, caches: str | None = None) -> dict[str, str]:
    """The environment of one gate run.

    Args:
        inherited: the worker's own environment; PATH, locale and toolchain variables pass.
        home: an empty folder.
        mark: identifies the run.
        caches: a folder that is kept from run to run, for package managers.
    """
    passed = {name: value for name, value in inherited.items() if not _withheld(name, value)}
    kept = {"XDG_CACHE_HOME": caches, "npm_config_cache": f"{caches}/npm"} if caches else {}
    return {
        **passed,
        **kept,
        "HOME": home,
        "CI": "true",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        RUN_MARK: mark,
    }


def _withheld(name: str, value: str) -> bool:
    upper = name.upper()
    return (
        upper in _WITHHELD_NAMES
        or upper.startswith(_WITHHELD_PREFIXES)
        or any(part in upper for part in _WITHHELD_PARTS)
        or _USERINFO.search(value) is not None
    )
