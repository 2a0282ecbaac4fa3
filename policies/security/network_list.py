"""What a list of `agent.network` lets through. Standard library only: the proxy of agents runs it as it is."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Network
from typing import Final

from models.network_list import Address, Entry, literal

LOCALHOST: Final = "localhost"
PROXY_PORT: Final = 3128
"""on the loopback within a sandbox"""
_PUBLIC: Final = IPv6Network("2000::/3")
"""what is given out of IPv6; Python 3.11 holds most else for global as well"""
_NAT64: Final = IPv6Network("64:ff9b::/96")


def named(entries: Sequence[Entry], host: str, port: int) -> bool:
    """Whether the list names this host, with this port."""
    return any(one.takes(port) and _is(one, host) for one in entries)


def _is(one: Entry, host: str) -> bool:
    if one.address is not None:
        return literal(host) == one.address
    return host.endswith(one.host[1:]) if one.host.startswith("*.") else host == one.host


def why_not(entries: Sequence[Entry], address: Address, port: int, *, own: bool) -> str:
    """Why a name that is listed may not lead to this address; "" where it may.

    Args:
        own: it is the host's.
    """
    if any(one.takes(port) and _names_address(one, address) for one in entries):
        return ""
    inner = _inner(address)
    if own or inner.is_loopback or inner.is_unspecified:
        return "this host's own"
    if inner.is_link_local:
        return "link-local"
    public = inner.is_global and not inner.is_multicast and (inner.version == 4 or inner in _PUBLIC)
    return "" if public else "no public one"


def _names_address(one: Entry, address: Address) -> bool:
    return one.address == address or (one.host == LOCALHOST and address.is_loopback)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def loopback_doors(entries: Sequence[Entry]) -> list[str]:
    """`address:port` of this host's loopback that the list names with their ports: programs ask loopback without
    their proxy, so they are opened at the same place within."""
    found = []
    for one in entries:
        if one.port is not None and (one.host == LOCALHOST or (one.address is not None and one.address.is_loopback)):
            found.append(f"{'127.0.0.1' if one.address is None else one.host}:{one.port}")
    return list(dict.fromkeys(found))


def proxy_variables() -> dict[str, str]:
    """How programs in the sandbox are told of their proxy; the person's own would be out of reach."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    told = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")} | {
        "NO_PROXY": "localhost,127.0.0.1,::1"
    }
    # Node's own fetch reads the others since it is asked to (22.21, 24).
    return told | {name.lower(): value for name, value in told.items()} | {"NODE_USE_ENV_PROXY": "1"}
