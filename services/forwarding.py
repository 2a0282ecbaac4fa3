"""Connections that are looked at once, by the head of their first request, and then passed on byte by byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

_MOST_HEAD: Final = 65_536
"""bytes"""
_HEAD_S: Final = 10.0
_END: Final = b"\r\n\r\n"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""of a header: RFC 9110, token"""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Opened = tuple[asyncio.Transport, asyncio.Protocol]
Factory = Callable[[], asyncio.Protocol]


class Request(NamedTuple):
    """The head of a request."""

    method: str
    target: str
    headers: dict[str, str]
    """names in lower case; of several of a name the last"""
    raw: bytes

    def alone(self) -> bytes:
        """The head as the only one of its connection, so that the next request is looked at as well."""
        first, *lines = self.raw.removesuffix(_END).split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() != b"connection"]
        return b"\r\n".join([first, b"Connection: close", *kept]) + _END


class Way(NamedTuple):
    """How a connection goes on."""

    open: Callable[[Factory], Awaitable[Opened]]
    """connects to the other end"""
    to_server: bytes = b""
    to_client: bytes = b""
    """what each is sent first"""


Decide = Callable[[Request], Way | bytes]
"""bytes: the whole answer, after which the connection is closed"""


class Refused(ValueError):
    """No head of a request."""


class NotOpened(Exception):
    """A way that is not to be opened, and the whole answer."""

    def __init__(self, told: bytes) -> None:
        super().__init__(told)
        self.told = told


def parse_head(raw: bytes) -> Request:
    """The request of a head, its empty line included.

    Raises:
        Refused: it is none; also what some servers read in another way: two Hosts, a line that goes on in the next one
            or ends in a bare line feed, a space before a colon.
    """
    lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.0", "HTTP/1.1"} or any(map(_CONTROL.search, lines)):
        raise Refused
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not _NAME.fullmatch(name) or (key == "host" and key in headers):
            raise Refused
        headers[key] = value.strip()
    return Request(words[0], words[1], headers, raw)


def answer(status: str, text: str = "", *headers: str) -> bytes:
    """A whole HTTP answer."""
    body = f"{text}\n".encode() if text else b""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Content-Type: text/plain; charset=utf-8"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


BAD_REQUEST: Final = answer("400 Bad Request", "this is no request")
BAD_GATEWAY: Final = answer("502 Bad Gateway", "Temporal does not answer")


class _End(asyncio.Protocol):
    """One end of a connection that is passed on; what it cannot take at once holds the other back.

    Whoever has said everything may go on to hear: each direction ends by itself, and the connection with the second.
    """

    transport: asyncio.Transport
    other: _End | None = None
    said_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Answers whether the connection stays open."""
        if self.other is None:
            return False
        self.said_all = True
        if not self.other.said_all:
            self.other.transport.write_eof()
        return not self.other.said_all

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class Entrance(_End):
    """The end of whoever asks: the first head decides."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._begun = b""
        self._opening: asyncio.Task[None] | None = None
        self._too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._too_late = asyncio.get_running_loop().call_later(_HEAD_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self._begun += data
        if self._opening is None and (_END in self._begun or len(self._begun) > _MOST_HEAD):
            self._look()

    def _look(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        head, end, rest = self._begun.partition(_END)
        try:
            way = self._decide(parse_head(head + end)) if end else BAD_REQUEST
        except Refused:
            way = BAD_REQUEST
        if isinstance(way, bytes):
            self._say(way)
            return
        self._begun = rest
        self.transport.pause_reading()
        self._opening = asyncio.create_task(self._open(way))

    async def _open(self, way: Way) -> None:
        try:
            _, other = await way.open(_End)
        except NotOpened as error:
            self._say(error.told)
            return
        except OSError:
            self._say(BAD_GATEWAY)
            return
        assert isinstance(other, _End)
        other.other = self
        if self.transport.is_closing():
            other.transport.close()
            return
        self.other = other
        if way.to_client:
            self.transport.write(way.to_client)
        if way.to_server or self._begun:
            other.transport.write(way.to_server + self._begun)
        self._begun = b""
        self.transport.resume_reading()

    def _say(self, words: bytes) -> None:
        self.transport.write(words)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
        super().connection_lost(exc)


def to_port(host: str, port: int) -> Callable[[Factory], Awaitable[Opened]]:
    """Connects to a TCP port."""

    async def connect(factory: Factory) -> Opened:
        return await asyncio.get_running_loop().create_connection(factory, host, port)

    return connect


def to_socket(path: str) -> Callable[[Factory], Awaitable[Opened]]:
    """Connects to a Unix socket."""

    async def connect(factory: Factory) -> Opened:
        return await asyncio.get_running_loop().create_unix_connection(factory, path)

    return connect
