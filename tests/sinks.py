"""Real servers on loopback that take what alerts send: HTTP and SMTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of an HTTP server on loopback that answers by `handler`; gone at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class HttpSink:
    """Every request that came in; the first `refusals` of them were answered with 503."""

    refusals: int = 0
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """paths of all requests"""
    taken: list[dict[str, Any]] = field(default_factory=list)
    """JSON bodies of those that were taken"""

    @property
    def url(self) -> str:
        """As a channel's URL."""
        return f"json://127.0.0.1:{self.port}/hook-s3cret"

    def titles(self) -> list[str]:
        return [str(body["title"]) for body in self.taken]


@contextmanager
def http_sink(refusals: int = 0) -> Iterator[HttpSink]:
    sink = HttpSink(refusals)
    taking = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            with taking:
                sink.asked.append(self.path)
                refused = len(sink.asked) <= sink.refusals
                if not refused and body:
                    sink.taken.append(json.loads(body))
            self.send_response(503 if refused else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with serving(Handler) as sink.port:
        yield sink


@dataclass
class SmtpSink:
    """Every mail that came in."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)

    @property
    def url(self) -> str:
        """As a channel's URL."""
        return f"mailto://127.0.0.1:{self.port}/?from=town@example.com&to=ada@example.com&mode=insecure"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]


@contextmanager
def smtp_sink() -> Iterator[SmtpSink]:
    sink = SmtpSink()

    class OnAnyPort(Controller):
        def _trigger_server(self) -> None:
            # The port is known only now; the base class would try the one it was given, 0.
            assert isinstance(self.server, asyncio.Server)
            self.port = sink.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()  # type: ignore[no-untyped-call]

    server = OnAnyPort(sink, hostname="127.0.0.1", port=0)
    server.start()
    try:
        yield sink
    finally:
        server.stop()
