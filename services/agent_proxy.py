"""`agent_proxy FOLDER REFUSED PID HOST…`: the way out of one sandbox, to the hosts that `agent.network` lists.

A proxy of HTTP (CONNECT, and requests of plain `http://` addresses) on a Unix socket in FOLDER, which one sandbox sees
that has no other network (agents/network_relay.py is its inner side). It resolves names itself, connects to the very
addresses that it looked at, and lives as long as the process PID, the sandbox. What it refuses is noted in REFUSED.

Standard library only, without site-packages: each attempt has one of its own, so that what an agent sends is no load
of the worker's, and a worker that is replaced cuts nobody off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agents.network_relay import SOCKET
from models.network_list import Address, Entry, entry, is_name, literal, split_port
from policies.security.network_list import named, why_not
from services.forwarding import Entrance, Factory, NotOpened, Opened, Request, Way, answer

MOST_REFUSED: Final = 200
"""lines"""
_CONNECT_S: Final = 15.0
_TRIED: Final = 4
"""addresses of one host"""
_DEFAULT_PORT: Final = 80
_HOP_BY_HOP: Final = frozenset({"host", "connection", "proxy-connection", "proxy-authorization", "keep-alive"})
_NO_ADDRESS: Final = answer("400 Bad Request", "a proxy is asked for `CONNECT host:port` or an http:// address")
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class AgentProxy:
    """Decides on requests.

    Args:
        hosts: entries of `agent.network`.
        refused: file that gets one line for each host that was refused.
    """

    def __init__(self, hosts: Sequence[str], refused: Path) -> None:
        self._hosts = list(hosts)
        self._entries: list[Entry] = [entry(host) for host in hosts]
        self._refused = refused
        self._noted: set[str] = set()
        with contextlib.suppress(OSError):
            self._noted |= {*refused.read_text(encoding="utf-8").splitlines()}

    def decide(self, request: Request) -> Way | bytes:
        """Where a request goes."""
        try:
            if request.method == "CONNECT":
                host, port = split_port(request.target)
                if port is None:
                    return _NO_ADDRESS
                return self._way(host, port, to_client=_ESTABLISHED)
            url = urlsplit(request.target)
            if url.scheme != "http" or not url.hostname or "@" in url.netloc:
                return _NO_ADDRESS
            host, port = split_port(url.netloc)
        except ValueError:
            return _NO_ADDRESS
        path = request.target[len("http://") + len(url.netloc) :]
        head = _plain_head(request, url.netloc, path if path.startswith("/") else f"/{path}")
        return self._way(host, port or _DEFAULT_PORT, to_server=head)

    def _way(self, host: str, port: int, *, to_server: bytes = b"", to_client: bytes = b"") -> Way | bytes:
        if literal(host) is None and not is_name(host):
            return _NO_ADDRESS
        if not named(self._entries, host, port):
            return self._no(host, port, "agent.network does not list it", _place(host, port))

        async def connect(factory: Factory) -> Opened:
            return await self._connect(factory, host, port)

        return Way(connect, to_server, to_client)

    async def _connect(self, factory: Factory, host: str, port: int) -> Opened:
        """A connection to one of the host's addresses that may be reached.

        Raises:
            NotOpened: none may, or none answers.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NotOpened(answer("502 Bad Gateway", f"{host} cannot be resolved: {error.strerror}")) from error
        addresses = [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        reasons = {one: why_not(self._entries, one, port, own=_is_own(one)) for one in dict.fromkeys(addresses)}
        allowed = [one for one, reason in reasons.items() if not reason]
        if not allowed:
            address, reason = next(iter(reasons.items()))
            why = f"its address {address} is {reason}, which agent.network has to name itself"
            raise NotOpened(self._no(host, port, why, _place(str(address), port)))
        problem = ""
        for one in allowed[:_TRIED]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await loop.create_connection(factory, str(one), port)
            except (OSError, TimeoutError) as error:
                problem = (error.strerror if isinstance(error, OSError) else "") or "no answer"
        raise NotOpened(answer("502 Bad Gateway", f"{_place(host, port)} cannot be reached: {problem}"))

    def _no(self, host: str, port: int, why: str, missing: str) -> bytes:
        """The answer to what is refused, which is noted."""
        place = _place(host, port)
        self._note(f"{place}: {why}")
        wanted = " ".join([*self._hosts, missing])
        return answer(
            "403 agent.network does not allow this host",
            f"{place} is not allowed: {why}.\n"
            f"A person who wants agents to reach it: gt config agent.network '{wanted}' (for jobs that begin after it)",
        )

    def _note(self, line: str) -> None:
        """Once each, and so many."""
        if len(self._noted) >= MOST_REFUSED:
            line = "more hosts were refused"
        if line in self._noted:
            return
        self._noted.add(line)
        with contextlib.suppress(OSError), self._refused.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _plain_head(request: Request, host: str, path: str) -> bytes:
    """The head for the server itself, as the only one of its connection."""
    _, *lines = request.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].decode("latin-1").lower() not in _HOP_BY_HOP]
    own = (f"{request.method} {path} HTTP/1.1", f"Host: {host}", "Connection: close")
    return b"\r\n".join([*(line.encode("latin-1") for line in own), *kept, b"", b""])


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_own(address: Address) -> bool:
    """Whether it is this host's: what goes there would come from there."""
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(address), 9))
            return ip_address(asking.getsockname()[0].partition("%")[0]) == address
        except (OSError, ValueError):
            return False  # nothing leads there


async def serve(folder: Path, proxy: AgentProxy, pid: int) -> None:
    """Answer until the process ends.

    Raises:
        OSError: the socket cannot be made, or there is no such process.
    """
    ended = os.pidfd_open(pid)
    os.chdir(folder)  # its own path may be longer than a socket's address may be
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    os.umask(0o177)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(ended, over.set)
    server = await loop.create_unix_server(lambda: Entrance(proxy.decide), SOCKET)
    await over.wait()
    server.close()


def main() -> None:
    folder, refused, pid, *hosts = sys.argv[1:]
    # Two for each connection: what is usual is little for an agent that asks for many things at once.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(Path(folder), AgentProxy(hosts, Path(refused)), int(pid)))
