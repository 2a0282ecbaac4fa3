"""The proxy of agents: what it answers without a connection, where it connects, and what it notes."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from services import agent_proxy
from services.agent_proxy import MOST_REFUSED, AgentProxy
from services.forwarding import NotOpened, Way, parse_head


def head(line: str, *headers: str) -> Any:
    return parse_head("\r\n".join([line, "Host: other.example", *headers, "", ""]).encode())


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
        ("CONNECT [::1]:443 HTTP/1.1", "403"), ("CONNECT a.example%00.b.example:443 HTTP/1.1", "403"),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_judged_by_its_own_address_and_not_by_its_host_header(
    tmp_path: Path, line: str, status: str
) -> None:
    answered = AgentProxy(["a.example"], tmp_path / "refused").decide(head(line))
    assert isinstance(answered, Way) if not status else answered.startswith(f"HTTP/1.1 {status}".encode())  # type: ignore[union-attr]
    assert (tmp_path / "refused").exists() is (status == "403")


def test_a_refusal_names_the_setting_that_a_person_would_change(tmp_path: Path) -> None:
    told = AgentProxy(["a.example", "*.b.example:22"], tmp_path / "refused").decide(
        head("CONNECT c.example:443 HTTP/1.1")
    )
    assert isinstance(told, bytes)
    assert b"gt config agent.network 'a.example *.b.example:22 c.example:443'" in told


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


def test_what_it_notes_is_bounded_and_safe_to_show(tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    for _ in range(2):  # one that is started again goes on
        proxy = AgentProxy(["a.example"], refused)
        for number in range(MOST_REFUSED + 50):
            proxy.decide(head(f"CONNECT {number}.\x1b[31m.example:443 HTTP/1.1"))
    lines = refused.read_text().splitlines()
    assert len(lines) == MOST_REFUSED + 1
    assert lines[0] == "0.?[31m.example:443: agent.network does not list it"
    assert lines[-1] == "more hosts were refused"


def test_its_own_addresses_are_known() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.77", 9))
        own = asking.getsockname()[0]
    assert agent_proxy._is_own(ip_address(own))
    assert agent_proxy._is_own(ip_address("127.0.0.1"))
    assert not agent_proxy._is_own(ip_address("93.184.215.14"))
