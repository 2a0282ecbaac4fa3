"""`agent.network`: full, none, or the hosts that agents may reach. Standard library only: their proxy reads it too."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

FULL: Final = "full"
NONE: Final = "none"
PORTS: Final = frozenset({80, 443})
"""of an entry that names no port"""

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

Address = IPv4Address | IPv6Address


class Entry(NamedTuple):
    """One host of the list."""

    host: str
    """in lower case; `*.` in front: every name below it"""
    port: int | None
    address: Address | None
    """where the host is an address"""

    def takes(self, port: int) -> bool:
        return port == self.port if self.port is not None else port in PORTS


def listed_hosts(setting: str) -> list[str]:
    """The hosts of a list, by spaces or commas, or as a list of JSON; none of full and none.

    Raises:
        ValueError: for what is no host, with the reason.
    """
    words = [word.strip("\"'") for word in re.split(r"[\s,]+", setting.strip().removeprefix("[").removesuffix("]"))]
    words = [word.lower() for word in words if word]
    if words in ([FULL], [NONE]):
        return []
    if not words or {FULL, NONE} & {*words}:
        raise ValueError("it is full, none, or host names: api.anthropic.com *.github.com:443")
    return [_text(entry(word)) for word in dict.fromkeys(words)]


def entry(word: str) -> Entry:
    """One host of a list.

    Raises:
        ValueError: it is none.
    """
    host, port = split_port(word)
    address = literal(host)
    if address is None and not is_name(host):
        hint = "api.anthropic.com, *.github.com:443, 127.0.0.1:11434"
        raise ValueError(f"{word[:80]!r} is not the name of a host, as {hint} are")
    return Entry(host, port, address)


def is_name(host: str) -> bool:
    """Whether it is written as the name of a host is, and no other spelling of an address."""
    return len(host) <= 253 and bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host.split(".")[-1])


def split_port(word: str) -> tuple[str, int | None]:
    """Host and port of `host`, `host:port` or `[address]:port`; the host in lower case and without the root's dot.

    Raises:
        ValueError: no port stands behind the colon.
    """
    host, colon, port = word.rpartition(":")
    if not colon or (word.count(":") > 1 and not host.endswith("]")):
        host, colon, port = word, "", ""
    if colon and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{word[:80]!r} has no port behind its colon")
    host = host.removeprefix("[").removesuffix("]").lower()
    return host.removesuffix("."), int(port) if port else None


def _text(one: Entry) -> str:
    host = f"[{one.host}]" if isinstance(one.address, IPv6Address) else one.host
    return host if one.port is None else f"{host}:{one.port}"


def literal(host: str) -> Address | None:
    """The address that a host is; None: it is a name, or an address with a zone."""
    try:
        return ip_address(host) if "%" not in host else None
    except ValueError:
        return None


def in_words(setting: str) -> str:
    """What agents' network is, for a person."""
    hosts = listed_hosts(setting)
    return f"{', '.join(hosts)} alone" if hosts else {FULL: "the host's own"}.get(setting, setting)
