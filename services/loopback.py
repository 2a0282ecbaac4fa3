"""Traffic that never leaves this machine must not go through a person's proxy: it would end there.

Temporal's client, pymysql and the supervisor's socket know no proxies. urllib, alert channels and the programs of
agents do, and of these only Go's leave loopback addresses out by themselves. Remotes keep the person's proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ADDRESSES: Final = ("localhost", "127.0.0.1", "::1")
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"})
_SPELLINGS: Final = ("NO_PROXY", "no_proxy")
"""curl reads the second alone where both are set, others the first."""


def no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to `environment` so that loopback is reached directly; none where it names no proxy."""
    if not any(name.lower() in _PROXIES and value for name, value in environment.items()):
        return {}
    named = [word for name in _SPELLINGS for word in environment.get(name, "").replace(",", " ").split()]
    if "*" in named:
        return dict.fromkeys(_SPELLINGS, "*")
    return dict.fromkeys(_SPELLINGS, ",".join(dict.fromkeys([*named, *ADDRESSES])))
