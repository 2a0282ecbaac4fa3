"""The proxy of agents: what it answers without a connection, where it connects, and what it notes."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest

from activities.sessions.agent_network import make_proxy_folder, proxy_folder, proxy_line, relay_words
from agents.network_relay import SOCKET, WANTED
from policies.security.network_list import PROXY_PORT
from services import agent_proxy, forwarding
from services.agent_proxy import MOST_REFUSED, AgentProxy
from services.forwarding import Entrance, NotOpened, Refused, Way, parse_head
from tests.pace import DEADLINE_S


def head(line: str, *headers: str) -> Any:
    return parse_head("\r\n".join([line, "Host: other.example", *headers, "", ""]).encode("latin-1"))


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT a.example:443 HTTP/1.1", ""), ("CONNECT A.Example.:443 HTTP/1.1", ""),
        ("GET http://a.example HTTP/1.1", ""), ("GET http://A.example:443/x HTTP/1.1", ""),
        ("CONNECT a.example HTTP/1.1", "400"), ("CONNECT a.example:x HTTP/1.1", "400"), ("GET / HTTP/1.1", "400"),
        ("GET https://a.example/ HTTP/1.1", "400"), ("GET http://a.example@b.example/ HTTP/1.1", "400"),
        ("GET http://:80/ HTTP/1.1", "400"), ("GET ftp://a.example/ HTTP/1.1", "400"),
        ("CONNECT a.example:22 HTTP/1.1", "403"), ("CONNECT b.example:443 HTTP/1.1", "403"),
        ("GET http://a.example:8080/ HTTP/1.1", "403"), ("CONNECT 127.0.0.1:443 HTTP/1.1", "403"),
        ("CONNECT [::1]:443 HTTP/1.1", "403"), ("CONNECT a.example%00.b.example:443 HTTP/1.1", "400"),
        ("CONNECT ::1:443 HTTP/1.1", "400"), ("CONNECT [2606:4700::1]:443 HTTP/1.1", "403"),
        ("CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1", "403"), ("CONNECT a.example..:443 HTTP/1.1", "400"),
        ("CONNECT x.Wild.example.:443 HTTP/1.1", ""), ("CONNECT wild.example:443 HTTP/1.1", "403"),
        ("CONNECT xwild.example:443 HTTP/1.1", "403"), ("CONNECT [::1%.wild.example]:443 HTTP/1.1", "400"),
        ("CONNECT b.example#.wild.example:443 HTTP/1.1", "400"),
        ("GET http://b.example\\.wild.example/ HTTP/1.1", "400"), ("CONNECT \xff.wild.example:443 HTTP/1.1", "400"),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_judged_by_its_own_address_and_not_by_its_host_header(
    tmp_path: Path, line: str, status: str
) -> None:
    answered = AgentProxy(["a.example", "*.wild.example"], tmp_path / "refused").decide(head(line))
    assert isinstance(answered, Way) if not status else answered.startswith(f"HTTP/1.1 {status}".encode())  # type: ignore[union-attr]
    assert (tmp_path / "refused").exists() is (status == "403")


def test_a_refusal_names_the_setting_that_a_person_would_change(tmp_path: Path) -> None:
    told = AgentProxy(["a.example", "*.b.example:22"], tmp_path / "refused").decide(
        head("CONNECT c.example:443 HTTP/1.1")
    )
    assert isinstance(told, bytes)
    assert b"gt config agent.network 'a.example *.b.example:22 c.example:443'" in told


@pytest.mark.parametrize(
    "raw",
    [
        "GET http://a.exa\nmple/ HTTP/1.1\r\n", "GET http://a.example/ HTTP/1.1\nHost: b.example\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: 1\nHost: b.example\r\n", "GET http://a.example/ HTTP/1.1\r\nX: \0\r\n",
        "GET http://a.example/ HTTP/1.1\r\nHost : b.example\r\n",
        "GET http://a.example/ HTTP/1.1\r\n Host: b.example\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: 1\r\n\tHost: b.example\r\n", "GET http://a.example/ HTTP/1.1\r\n: x\r\n",
        "GET http://a.example/ HTTP/1.1\r\nHost: a\r\nhost: b\r\n", "GET http://a.example/\tHTTP/1.1\r\n",
        "GET http://a.example/ HTTP/1.1\rX: 1\r\n", "GET http://a.example/ HTTP/2\r\n",
    ],
)  # fmt: skip
def test_a_head_that_programs_read_in_different_ways_is_none(raw: str) -> None:
    with pytest.raises(Refused):
        parse_head(f"{raw}\r\n".encode("latin-1"))


def test_a_plain_request_is_handed_on_as_the_only_one_to_the_host_that_was_looked_at(tmp_path: Path) -> None:
    asked = head("POST http://a.example:80?q HTTP/1.1", "Proxy-Authorization: x", "Connection: keep-alive", "X-Own: 1")
    way = AgentProxy(["a.example"], tmp_path / "refused").decide(asked)
    assert isinstance(way, Way)
    assert way.to_server == b"POST /?q HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\nX-Own: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        (["127.0.0.1"], b"its address 127.0.0.1 is this host's own"),
        (["169.254.169.254", "10.0.0.1"], b"its address 169.254.169.254 is link-local"),
        (["10.0.0.1", "127.0.0.77"], b""),
        ([], b"cannot be resolved"),
    ],
)
def test_it_connects_to_the_very_addresses_that_may_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: list[str], told: bytes
) -> None:
    connected = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()

        async def resolve(host: str, port: int, **_: Any) -> list[Any]:
            if not addresses:
                raise socket.gaierror(-2, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

        async def connect(factory: Any, host: str, port: int) -> Any:
            connected.append((host, port))
            return None, None

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "create_connection", connect)
        way = AgentProxy(["a.example", "127.0.0.77"], tmp_path / "refused").decide(
            head("CONNECT a.example:443 HTTP/1.1")
        )
        assert isinstance(way, Way)
        if not told:
            await way.open(asyncio.Protocol)
            return
        with pytest.raises(NotOpened) as error:
            await way.open(asyncio.Protocol)
        assert told in error.value.told

    asyncio.run(ask())
    assert connected == ([("127.0.0.77", 443)] if not told else [])


def test_what_it_notes_is_bounded(tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    for _ in range(2):  # one that is started again goes on
        proxy = AgentProxy(["a.example"], refused)
        for number in range(MOST_REFUSED + 50):
            proxy.decide(head(f"CONNECT {number}.b.example:443 HTTP/1.1"))
    lines = refused.read_text().splitlines()
    assert len(lines) == MOST_REFUSED + 1
    assert lines[0] == "0.b.example:443: agent.network does not list it"
    assert lines[-1] == "more hosts were refused"


def test_its_own_addresses_are_known() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.77", 9))
        own = asking.getsockname()[0]
    assert agent_proxy._is_own(ip_address(own))
    assert agent_proxy._is_own(ip_address("127.0.0.1"))
    assert not agent_proxy._is_own(ip_address("93.184.215.14"))


# --- the process itself, with names that it resolves as any program does ------------------------------

LEADS_HERE = {
    "four.test": ("127.0.0.1", "this host's own"),
    "six.test": ("::1", "this host's own"),
    "mapped.test": ("::ffff:127.0.0.1", "this host's own"),
    "nothing.test": ("0.0.0.0", "this host's own"),
    "metadata.test": ("169.254.169.254", "link-local"),
    "private.test": ("10.1.2.3", "no public one"),
    "shared.test": ("100.64.0.1", "no public one"),
}
"""listed names: the address that each has, and why it is refused"""
FILES: Final = 64
"""that the proxy may have open as it is started"""


class _Servers:
    """Of this host's loopback: one that answers once its client has ended, and one of the same port elsewhere on it."""

    def __init__(self) -> None:
        self.listed = socket.create_server(("127.0.0.9", 0), backlog=1000)
        self.port = self.listed.getsockname()[1]
        self.other = socket.create_server(("127.0.0.1", self.port))
        self.serving = threading.Thread(target=self._serve)
        self.serving.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listed.accept()
                threading.Thread(target=self._answer, args=[client]).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            said = b""
            while piece := client.recv(65_536):
                said += piece
            client.sendall(said.upper())

    def close(self) -> None:
        self.listed.shutdown(socket.SHUT_RDWR)
        self.serving.join()
        self.listed.close()
        self.other.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[_Servers]:
    made = _Servers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(servers: _Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the proxy of a sandbox has its socket that lists one port of loopback and names that lead astray."""
    made = tmp_path_factory.mktemp("proxy")
    (made / "hosts").write_text("".join(f"{address} {name}\n" for name, (address, _) in LEADS_HERE.items()))
    (made / "nsswitch.conf").write_text("hosts: files\n")
    names = ["127.0.0.9", *LEADS_HERE]
    holder = subprocess.Popen(["sleep", "600"])
    line = proxy_line(made, [f"{name}:{servers.port}" for name in names]).removesuffix("&\n")
    bound = ["--bind", made / "hosts", "/etc/hosts", "--bind", made / "nsswitch.conf", "/etc/nsswitch.conf"]
    argv = ["prlimit", f"--nofile={FILES}:4096", "bwrap", "--dev-bind", "/", "/", *map(str, bound), "--die-with-parent"]
    make_proxy_folder(made)
    with (proxy_folder(made) / WANTED).open("r+b", buffering=0) as wanted:
        running = subprocess.Popen([*argv, "--", "sh", "-c", line.replace("$$", str(holder.pid))])
        wanted.write(b"\n")
        yield proxy_folder(made)
    holder.kill()
    holder.wait()
    running.wait()


def asked(folder: Path, first: str) -> socket.socket:
    """A connection to the proxy that has sent that; the proxy is waited for."""
    client = socket.socket(socket.AF_UNIX)
    for _ in range(1000):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            client.connect(str(folder / SOCKET))
            break
        threading.Event().wait(0.05)
    client.settimeout(DEADLINE_S)
    client.sendall(first.encode())
    return client


def answer(client: socket.socket) -> str:
    with client:
        said = b""
        while piece := client.recv(65_536):
            said += piece
    return said.decode()


@pytest.mark.parametrize("name", LEADS_HERE)
def test_a_listed_name_that_leads_to_this_host_or_its_network_gets_nowhere(
    servers: _Servers, folder: Path, name: str
) -> None:
    place, (_, reason) = f"{name}:{servers.port}", LEADS_HERE[name]
    for line in (f"CONNECT {place} HTTP/1.1\r\n\r\n", f"GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n"):
        told = answer(asked(folder, line))
        assert told.startswith("HTTP/1.1 403 ")
        assert f" is {reason}, which agent.network has to name itself" in told


def test_who_has_said_everything_still_hears_the_answer(servers: _Servers, folder: Path) -> None:
    client = asked(folder, f"CONNECT 127.0.0.9:{servers.port} HTTP/1.1\r\n\r\nhello")
    client.shutdown(socket.SHUT_WR)
    assert answer(client).endswith("\r\n\r\nHELLO")


def test_the_relay_lets_a_connection_end_in_one_direction_too(servers: _Servers, folder: Path) -> None:
    asks = (
        "import socket; client = socket.create_connection(({host!r}, {port})); client.sendall({said!r}); "
        "client.shutdown(socket.SHUT_WR); print(client.makefile().read())"
    )
    tunnel = f"CONNECT 127.0.0.9:{servers.port} HTTP/1.1\r\n\r\nhello".encode()
    argv = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--unshare-pid", "--die-with-parent", "--"]
    argv += [*relay_words(folder.parent, [f"127.0.0.9:{servers.port}"]), "sh", "-c"]
    scripts = [
        asks.format(host="127.0.0.1", port=PROXY_PORT, said=tunnel),
        asks.format(host="127.0.0.9", port=servers.port, said=b"hello"),
    ]
    argv.append("; ".join(shlex.join([sys.executable, "-c", script]) for script in scripts))
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
    assert said.count("HELLO") == 2


def test_what_follows_a_plain_request_goes_to_the_same_server_alone(servers: _Servers, folder: Path) -> None:
    first = f"GET http://127.0.0.9:{servers.port}/a HTTP/1.1\r\n\r\n"
    second = f"GET http://127.0.0.1:{servers.port}/b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    client = asked(folder, first + second)
    client.shutdown(socket.SHUT_WR)
    assert (
        answer(client)
        == f"GET /a HTTP/1.1\r\nHost: 127.0.0.9:{servers.port}\r\nConnection: close\r\n\r\n{second}".upper()
    )
    servers.other.setblocking(False)
    with pytest.raises(BlockingIOError):
        servers.other.accept()


def test_many_at_once_are_served(servers: _Servers, folder: Path) -> None:
    place = f"127.0.0.9:{servers.port}"
    slow = [asked(folder, "CONNECT ") for _ in range(2 * FILES)]
    held = [asked(folder, f"CONNECT {place} HTTP/1.1\r\n\r\n") for _ in range(FILES)]
    for client in held:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    client = asked(folder, f"CONNECT {place} HTTP/1.1\r\n\r\nhello")
    client.shutdown(socket.SHUT_WR)
    assert answer(client).endswith("HELLO")
    for client in (*slow, *held):
        client.close()


async def test_who_does_not_come_to_the_point_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "_HEAD_S", 0.01)
    proxy = AgentProxy(["a.example"], tmp_path / "refused")
    server = await asyncio.get_running_loop().create_unix_server(lambda: Entrance(proxy.decide), tmp_path / SOCKET)
    async with server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET)
        writer.write(b"CONNECT ")
        assert await reader.read() == b""
        writer.close()
