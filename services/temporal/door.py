"""The only way to what of the town's Temporal is not for everybody on this machine.

    python -m services.temporal.door --town DIR

- Temporal on loopback: its Web UI listens on a loopback address that nobody is told, and here, on the address that
  people know, requests are let in whose Host is this machine. A web page whose name was made to point here (DNS
  rebinding) has another.
- Temporal in a network of its own: this process joins that network and listens on a Unix socket, for the owner alone.
  `CONNECT host:port` goes to the server, as the SDK asks for it; any other request goes to the Web UI. It ends with
  the server, and the supervisor starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from models.errors import ErrorCode, GtError
from services import forwarding
from services.forwarding import Decide, Entrance, Request, Way
from services.ports import LOOPBACK
from services.supervisor.guard import tenant
from services.supervisor.programs import TEMPORAL, lock_path, temporal_socket
from services.temporal import network_namespace
from services.town import Town, find_town

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_POLL_S = 0.05


def foreign_host(request: Request, port: int) -> bytes | None:
    """The refusal of a request whose Host is not what a browser says that asks `port` of this machine; None: it is."""
    if request.headers.get("host", "").lower() in {f"{name}:{port}" for name in (LOOPBACK, "localhost", "[::1]")}:
        return None
    return forwarding.answer("403 Forbidden", "the Web UI of a town is asked as 127.0.0.1 or localhost alone")


def by_host(port: int, ui_host: str) -> Decide:
    """Lets in to the Web UI whoever asks this machine by its own name."""
    way = forwarding.to_port(ui_host, port)

    def decide(request: Request) -> Way | bytes:
        return foreign_host(request, port) or Way(way, request.alone())

    return decide


def by_connect(port: int, ui_port: int) -> Decide:
    """Lets the SDK to the server's port, and everybody else to the Web UI."""
    to_server, to_ui = forwarding.to_port(LOOPBACK, port), forwarding.to_port(LOOPBACK, ui_port)

    def decide(request: Request) -> Way | bytes:
        if request.method != "CONNECT":
            return Way(to_ui, request.raw)
        if request.target != f"{LOOPBACK}:{port}":
            return forwarding.answer("403 Forbidden", f"{LOOPBACK}:{port} is here and nothing else")
        return Way(to_server, to_client=ESTABLISHED)

    return decide


async def serve_loopback(port: int, ui_host: str) -> None:
    """The Web UI's address on loopback; returns never."""
    decide = by_host(port, ui_host)
    server = await asyncio.get_running_loop().create_server(lambda: Entrance(decide), LOOPBACK, port)
    async with server:
        await server.serve_forever()


async def serve_socket(path: Path, decide: Decide, server_pid: int) -> None:
    """The Unix socket; returns when the process `server_pid` has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    watched = os.pidfd_open(server_pid)
    loop.add_reader(watched, ended.set)
    before = os.umask(0o177)
    try:
        server = await loop.create_unix_server(lambda: Entrance(decide), path)
    finally:
        os.umask(before)
    try:
        async with server:
            await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def _wait_for_network(town: Town) -> int:
    """The process of the server, once it has a network of its own."""
    while True:
        holder = tenant(lock_path(town, TEMPORAL))
        try:
            if holder is not None and holder.lives() and network_namespace.differs(holder.pid):
                return holder.pid
        except OSError:
            pass  # it has ended
        time.sleep(_POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description="The door to a town's Temporal.")
    parser.add_argument("--town", type=Path, required=True)
    town = find_town(parser.parse_args().town)
    section, listening = town.file.temporal, town.temporal_listening()
    try:
        if section.port is None or section.ui_port is None:
            raise GtError(ErrorCode.INVALID_VALUE, f"{town.paths.config}: [temporal] needs port and ui_port")
        if not listening.on_socket:
            asyncio.run(serve_loopback(section.ui_port, listening.ui_host))
            return
        pid = _wait_for_network(town)
        network_namespace.join(pid)
        asyncio.run(serve_socket(temporal_socket(town), by_connect(section.port, section.ui_port), pid))
    except (GtError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
