"""A Git LFS server on the loopback interface: its batch interface, uploads and downloads, and a quota."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class LfsServer:
    """Serves `url`, a remote's address, while the context lasts.

    Attributes:
        objects: by oid: what it holds.
        quota: so many objects are taken.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.quota = 1000
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self._body())
                rows = [server.row(asked["operation"], one["oid"], one["size"]) for one in asked.get("objects", [])]
                self._answer(200, json.dumps({"transfer": "basic", "objects": rows}).encode())

            def do_PUT(self) -> None:
                server.objects[self.path.rpartition("/")[2]] = self._body()
                self._answer(200, b"")

            def do_GET(self) -> None:
                content = server.objects.get(self.path.rpartition("/")[2])
                self._answer(404 if content is None else 200, content or b"")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.git-lfs+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_port}/shop.git"

    def row(self, operation: str, oid: str, size: int) -> dict[str, object]:
        """The batch interface's answer about one object."""
        row: dict[str, object] = {"oid": oid, "size": size}
        place = {"href": f"{self.url}/objects/{oid}"}
        if operation == "download":
            if oid in self.objects:
                return {**row, "actions": {"download": place}}
            return {**row, "error": {"code": 404, "message": "no such object"}}
        if oid in self.objects:
            return row
        if len(self.objects) >= self.quota:
            return {**row, "error": {"code": 507, "message": "the account is over its storage quota"}}
        return {**row, "actions": {"upload": place}}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
