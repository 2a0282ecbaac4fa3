"""Talking to a town's supervisord through XML-RPC on its unix socket."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.base import Frozen

_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 60.0
"""Longer than any program's stop_wait_s: the answer comes when the program has ended."""
_SHUTTING_DOWN = "SHUTDOWN_STATE"
"""all that a supervisord says that is shutting down"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_s = timeout_s

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return UnixConnection(self._path, self._timeout_s)


class SupervisorUnreachable(Exception):
    """Nobody answers on the socket."""


class State(StrEnum):
    """A service's state."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILING = "failing"
    """it keeps ending soon after its start and is started again every few seconds"""


class Reported(Frozen):
    """What supervisord says of a program."""

    name: str
    state: State
    pid: int | None


_STATES = {
    "STOPPED": State.STOPPED,
    "STARTING": State.STARTING,
    "RUNNING": State.RUNNING,
    "BACKOFF": State.FAILING,
    "STOPPING": State.STOPPING,
    "EXITED": State.STARTING,
    "FATAL": State.FAILING,
}


class Supervisor:
    """One town's supervisord. Methods raise SupervisorUnreachable when nobody answers."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket_path

    def condition(self) -> State:
        """RUNNING, STOPPING (it is shutting down), or STOPPED when nobody answers. Raises nothing."""
        try:
            code = self._call("supervisor.getState")["statecode"]
        except SupervisorUnreachable:
            return State.STOPPED
        except xmlrpc.client.Fault as error:
            if _SHUTTING_DOWN not in error.faultString:
                raise
            return State.STOPPING
        return State.RUNNING if code > 0 else State.STOPPING

    def programs(self) -> list[Reported]:
        return [
            Reported(name=row["name"], state=_STATES.get(row["statename"], State.STOPPED), pid=row["pid"] or None)
            for row in self._call("supervisor.getAllProcessInfo")
        ]

    def start(self, program: str) -> None:
        """Start a program that is stopped; one that runs stays as it is."""
        self._tolerating("supervisor.startProcess", "ALREADY_STARTED", program)

    def stop(self, program: str) -> None:
        """Stop a program and wait for its end; one that is stopped stays so."""
        self._tolerating("supervisor.stopProcess", "NOT_RUNNING", program)

    def shutdown(self) -> None:
        """Begin to stop every program, the last started first, and supervisord itself; it may be doing that already."""
        self._tolerating("supervisor.shutdown", _SHUTTING_DOWN, timeout_s=_TIMEOUT_S)

    def _tolerating(self, method: str, fault: str, *arguments: str, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        try:
            self._call(method, *arguments, timeout_s=timeout_s)
        except xmlrpc.client.Fault as error:
            if fault not in error.faultString:
                raise

    def _call(self, method: str, *arguments: Any, timeout_s: float = _TIMEOUT_S) -> Any:
        transport = _UnixTransport(str(self._socket), timeout_s)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorUnreachable(str(error)) from error
