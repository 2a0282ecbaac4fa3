"""Who is let in to a town's Temporal behind its socket; on real servers. On loopback: test_running_town.py."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import ErrorCode, GtError
from models.town import Listen
from services import forwarding
from services.forwarding import Way, parse_head
from services.notifications.alarm import temporal_ailment
from services.supervisor import programs
from services.supervisor.client import UnixConnection
from services.supervisor.guard import tenant
from services.supervisor.health import ailment
from services.supervisor.programs import DOOR, TEMPORAL, lock_path, temporal_socket
from services.temporal import listening, network_namespace, web_ui
from services.temporal.client import connect
from services.temporal.door import by_host
from services.town import Town
from tests.pace import DEADLINE_S
from tests.services.conftest import STAND_IN, eventually, scratch_town, set_listen, up, wait_until
from tests.services.test_processes import as_ordinary_user, exit_code

NAMESPACES = "/api/v1/namespaces"


def asked(connection: http.client.HTTPConnection, path: str, **headers: str) -> http.client.HTTPResponse:
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def status(host: str, port: int, path: str = NAMESPACES, **headers: str) -> int:
    return asked(http.client.HTTPConnection(host, port, timeout=DEADLINE_S), path, **headers).status


@pytest.fixture(scope="module")
def closed_town() -> Iterator[Town]:
    """A town whose Temporal is behind its socket and which is up."""
    assert network_namespace.is_possible(), "these tests need user namespaces, as CI has them"
    with pytest.MonkeyPatch.context() as patch, scratch_town("embedded") as made:
        patch.setattr(programs, "WORKER_MODULE", STAND_IN)
        town = set_listen(made, Listen.SOCKET)
        up(town)
        yield town


async def describes(town: Town) -> bool:
    """Whether a client as everybody's gets an answer."""
    try:
        client = await connect(town, timeout_s=2)
        return await client.service_client.check_health()
    except (GtError, RuntimeError):
        return False


# --- on loopback ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "let_in"),
    [
        ("127.0.0.1:8233", True), ("localhost:8233", True), ("LOCALHOST:8233", True), ("[::1]:8233", True),
        ("gastown.example:8233", False), ("127.0.0.1", False), ("127.0.0.1:8234", False), ("", False),
        ("127.0.0.1:8233.gastown.example", False), ("127.0.0.1:8233@gastown.example", False),
    ],
)  # fmt: skip
def test_on_loopback_the_host_decides(host: str, let_in: bool) -> None:
    decided = by_host(8233, "127.9.9.9")(parse_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))
    assert isinstance(decided, Way) if let_in else decided.startswith(b"HTTP/1.1 403 ")  # type: ignore[union-attr]


# --- behind the socket ----------------------------------------------------------------------------


async def test_behind_the_socket_its_owner_reaches_everything(closed_town: Town) -> None:
    path = temporal_socket(closed_town)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await eventually("a client to get an answer", lambda: describes(closed_town))
    wait_until("the alarm to find it well", lambda: temporal_ailment(closed_town) == "")
    assert closed_town.web_url() is None
    assert asked(UnixConnection(str(path), DEADLINE_S), NAMESPACES).status == 200
    closed_town.paths.temporal_db.rename(aside := closed_town.paths.data / "aside.db")
    try:
        wait_until("the loss to be found", lambda: "deleted or replaced" in temporal_ailment(closed_town))
    finally:
        aside.rename(closed_town.paths.temporal_db)


def test_what_the_sdk_has_to_say_is_in_no_commands_output(closed_town: Town) -> None:
    """In a process of its own: where any runtime of the SDK logs, as the tests' own do, it may log for all others.

    Ended as commands are (cli/frame/entry.py): the SDK's threads may abort an interpreter that takes itself down.
    """
    code = (
        "import asyncio, os, sys; from pathlib import Path; from services.temporal.client import connect; "
        "from services.town import load_town; "
        "asyncio.run(connect(load_town(Path(sys.argv[1])), identity='a command')); "
        "sys.stdout.flush(); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(closed_town.root)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_behind_the_socket_nobody_else_reaches_anything(closed_town: Town) -> None:
    section = closed_town.file.temporal
    for port in (section.port, section.ui_port, section.metrics_port):
        with socket.socket() as stranger:
            assert stranger.connect_ex(("127.0.0.1", port or 0)) != 0
    path = str(temporal_socket(closed_town))

    def connects() -> bool:
        with socket.socket(socket.AF_UNIX) as stranger:
            return stranger.connect_ex(path) == 0

    assert connects()
    if os.getuid() == 0:
        assert exit_code(as_ordinary_user(connects)) == 0


def test_the_door_leads_to_the_server_and_nowhere_else(closed_town: Town) -> None:
    metrics = closed_town.file.temporal.metrics_port
    tunnel = UnixConnection(str(temporal_socket(closed_town)), DEADLINE_S)
    with contextlib.closing(tunnel):
        tunnel.connect()
        tunnel.sock.sendall(f"CONNECT 127.0.0.1:{metrics} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert tunnel.sock.recv(100).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("name", [DOOR, TEMPORAL])
async def test_a_killed_door_and_a_killed_server_are_back_by_themselves(closed_town: Town, name: str) -> None:
    before = tenant(lock_path(closed_town, name))
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(f"{name} to be replaced", lambda: (tenant(lock_path(closed_town, name)) or before).pid != before.pid)
    await eventually("Temporal to answer", lambda: describes(closed_town))
    await asyncio.to_thread(wait_until, "Temporal to be well", lambda: ailment(closed_town, TEMPORAL) is None)
    await asyncio.to_thread(wait_until, "the Web UI to have its server", lambda: temporal_ailment(closed_town) == "")


async def test_gt_ui_lets_in_who_has_its_address_alone(closed_town: Town) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    section = closed_town.file.temporal
    serving = asyncio.create_task(
        web_ui.serve(temporal_socket(closed_town), section.ui_port, section.namespace, told.put_nowait)
    )
    try:
        url = await asyncio.wait_for(told.get(), DEADLINE_S)
        host, path = url.removeprefix("http://").split("/", 1)
        address, port = host.split(":")

        def look(path: str, **headers: str) -> http.client.HTTPResponse:
            return asked(
                http.client.HTTPConnection(address, int(port), timeout=DEADLINE_S), path, **{"Host": host, **headers}
            )

        def visit() -> None:
            assert look(NAMESPACES).status == 403
            assert look("/open/guessed").status == 403
            assert look(f"/{path}", Host=f"gastown.example:{port}").status == 403
            entered = look(f"/{path}")
            assert (entered.status, entered.headers["Location"]) == (303, f"/namespaces/{section.namespace}/workflows")
            cookie = entered.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            kept = cookie.split(";")[0]
            assert look(NAMESPACES, Cookie=kept).status == 200
            assert look(NAMESPACES, Cookie=f"{kept}x").status == 403
            assert look(NAMESPACES, Cookie=kept, Host=f"gastown.example:{port}").status == 403

        await asyncio.to_thread(visit)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


# --- what is taken --------------------------------------------------------------------------------

PASSWD = "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/:/usr/sbin/nologin\nann:x:1000:1000::/home/ann:/bin/bash\n"


@pytest.mark.parametrize(
    ("more", "others"),
    [
        ("", False),
        ("bob:x:1001:1001::/home/bob:/bin/zsh\n", True),
        ("nobody:x:65534:65534::/:/bin/sh\nsvc:x:1002:1002::/:/bin/false\nx\n", False),
    ],
)
def test_other_people_are_those_who_can_log_in(tmp_path: Path, more: str, others: bool) -> None:
    (tmp_path / "passwd").write_text(PASSWD + more)
    assert listening.has_other_people(tmp_path / "passwd") is others
    assert not listening.has_other_people(tmp_path / "absent")


@pytest.mark.parametrize(
    ("listen", "people", "possible", "on_socket", "lacks"),
    [
        (Listen.AUTO, False, True, False, False),
        (Listen.AUTO, True, True, True, False),
        (Listen.AUTO, True, False, False, True),
        (Listen.LOOPBACK, True, True, False, False),
        (Listen.SOCKET, False, True, True, False),
    ],
)
def test_what_is_taken(
    town: Town,
    monkeypatch: pytest.MonkeyPatch,
    listen: Listen,
    people: bool,
    possible: bool,
    on_socket: bool,
    lacks: bool,
) -> None:
    monkeypatch.setattr(listening, "has_other_people", lambda: people)
    monkeypatch.setattr(network_namespace, "is_possible", lambda: possible)
    choice = listening.choose(set_listen(town, listen))
    assert (choice.on_socket, bool(choice.lacks)) == (on_socket, lacks)
    kept = listening.listening_of(choice)
    assert kept.on_socket == on_socket
    assert programs.has_door(kept)


def test_a_socket_that_cannot_be_had_is_an_error_and_nothing_less(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_namespace, "is_possible", lambda: False)
    with pytest.raises(GtError) as caught:
        up(set_listen(town, Listen.SOCKET))
    assert caught.value.code is ErrorCode.REFUSED
    assert "loopback" in caught.value.hint
    assert not lock_path(town, TEMPORAL).exists()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(head: bytes) -> None:
    with pytest.raises(forwarding.Refused):
        parse_head(head)


def test_each_request_has_a_connection_of_its_own() -> None:
    request = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX: y\r\n\r\n")
    assert request.alone() == b"GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\nX: y\r\n\r\n"
