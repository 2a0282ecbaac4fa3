"""A door to the Web UI of a Temporal that listens for its owner alone: on loopback for as long as a command runs.

Its address carries a token, which becomes a cookie; a request without it, or with a Host that is not this machine's,
is refused. So no other user and no web page gets in.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import quote

from services import forwarding, ports
from services.forwarding import Decide, Entrance, Request, Way
from services.ports import LOOPBACK
from services.temporal.door import foreign_host

_OPEN = "/open/"


def by_token(port: int, token: str, start: str, way: Way) -> Decide:
    """Lets in whoever has the token, and first sends them to the page `start`."""
    cookie = f"gt-ui-{port}"

    def decide(request: Request) -> Way | bytes:
        refusal = foreign_host(request, port)
        if refusal is not None:
            return refusal
        if request.target.startswith(_OPEN) and _same(request.target.removeprefix(_OPEN), token):
            kept = f"Set-Cookie: {cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
            return forwarding.answer("303 See Other", "", f"Location: {start}", kept)
        if not _same(_cookie(request, cookie), token):
            return forwarding.answer("403 Forbidden", "open the address that gt ui printed")
        return Way(way.open, request.alone())

    return decide


async def serve(socket: Path, preferred_port: int | None, namespace: str, tell: Callable[[str], None]) -> None:
    """Open the door to the Unix socket and `tell` its address; returns never."""
    port = preferred_port if preferred_port and ports.is_free(preferred_port) else ports.pick_free(1)[0]
    token, start = secrets.token_urlsafe(32), f"/namespaces/{quote(namespace, safe='')}/workflows"
    decide = by_token(port, token, start, Way(forwarding.to_socket(str(socket))))
    server = await asyncio.get_running_loop().create_server(lambda: Entrance(decide), LOOPBACK, port)
    tell(f"http://{LOOPBACK}:{port}{_OPEN}{token}")
    async with server:
        await server.serve_forever()


def _cookie(request: Request, name: str) -> str:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
