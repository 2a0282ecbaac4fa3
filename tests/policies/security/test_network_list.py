"""The list of hosts in `agent.network`: how it is written, and what it lets through."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from models.errors import GtError
from models.network_list import entry, in_words, split_port
from models.settings import parse_setting
from policies.security.network_list import loopback_doors, named, why_not


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("full", "full"), (" None ", "none"),
        ("api.anthropic.com", "api.anthropic.com"),
        ("API.anthropic.com., *.GitHub.com:443", "api.anthropic.com *.github.com:443"),
        ('["api.anthropic.com", "*.github.com:443"]', "api.anthropic.com *.github.com:443"),
        ("127.0.0.1:11434 [::1]:80 ::1 localhost:1", "127.0.0.1:11434 [::1]:80 [::1] localhost:1"),
        ("a.b a.b", "a.b"),
    ],
)  # fmt: skip
def test_how_a_list_is_written(typed: str, kept: str) -> None:
    assert parse_setting("agent.network", typed) == kept
    assert parse_setting("agent.network", kept) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "[]", "full a.b", "none,a.b", "*", "*.", "a.*.b", "*a.b", "http://a.b", "a.b/c", "a.b:", "a.b:0",
        "a.b:65536", "a.b:x", "a_b..c", "-a.b", "127.1", "2130706433", "0x7f.0x1", "1.2.3.4/8", "a@b", "[a.b]:x",
        "1.2.3.256", "b\u00fccher.de", "a" * 64 + ".de",
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(typed: str) -> None:
    with pytest.raises(GtError, match=r"agent\.network"):
        parse_setting("agent.network", typed)


LIST = [entry(word) for word in ("api.a.com", "*.github.com:22", "10.0.0.5", "localhost:8080", "[::1]:99", "in.corp")]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("api.a.com:443", True), ("API.A.com.:80", True), ("api.a.com:22", False), ("x.api.a.com:443", False),
        ("xapi.a.com:443", False), ("a.com:443", False), ("x.y.github.com:22", True), ("github.com:22", False),
        ("evilgithub.com:22", False), ("x.github.com:443", False), ("10.0.0.5:80", True), ("10.0.0.5:8080", False),
        ("10.0.0.6:80", False), ("localhost:8080", True), ("127.0.0.1:8080", False), ("[::1]:99", True),
        ("[0:0:0:0:0:0:0:1]:99", True), ("[::1]:98", False), ("10.5:80", False), ("", False),
    ],
)  # fmt: skip
def test_what_a_list_names(asked: str, answer: bool) -> None:
    host, port = split_port(asked)
    assert named(LIST, host, port or 443) is answer


@pytest.mark.parametrize(
    ("address", "port", "reason"),
    [
        ("93.184.215.14", 443, ""), ("2606:2800:21f:cb07::1", 443, ""),
        ("127.0.0.1", 443, "this host's own"), ("127.9.9.9", 80, "this host's own"), ("::1", 443, "this host's own"),
        ("0.0.0.0", 80, "this host's own"), ("::", 80, "this host's own"),
        ("::ffff:127.0.0.1", 80, "this host's own"), ("64:ff9b::7f00:1", 80, "this host's own"),
        ("2002:7f00:1::1", 80, "this host's own"),
        ("169.254.169.254", 80, "link-local"), ("fe80::1", 80, "link-local"), ("::ffff:a9fe:a9fe", 80, "link-local"),
        ("10.0.0.6", 80, "no public one"), ("172.16.0.1", 80, "no public one"), ("192.168.1.1", 443, "no public one"),
        ("100.64.0.1", 443, "no public one"), ("fd00::1", 80, "no public one"), ("224.0.0.1", 80, "no public one"),
        ("255.255.255.255", 80, "no public one"), ("240.0.0.1", 80, "no public one"), ("ff02::1", 80, "no public one"),
        ("10.0.0.5", 80, ""), ("10.0.0.5", 22, "no public one"), ("127.0.0.1", 8080, ""), ("::1", 8080, ""),
        ("::1", 99, ""),
        ("::7f00:1", 80, "no public one"), ("64:ff9b:1::7f00:1", 80, "no public one"), ("fec0::1", 80, "no public one"),
        ("::ffff:0:7f00:1", 80, "no public one"), ("64:ff9b::5db8:d70e", 443, ""),
    ],
)  # fmt: skip
def test_where_a_listed_name_may_lead(address: str, port: int, reason: str) -> None:
    assert why_not(LIST, ip_address(address), port, own=False) == reason


def test_the_hosts_own_public_address_takes_naming_too() -> None:
    address = ip_address("93.184.215.14")
    assert why_not(LIST, address, 443, own=True) == "this host's own"
    assert why_not([entry("93.184.215.14")], address, 443, own=True) == ""


def test_named_places_of_loopback_are_opened_within() -> None:
    assert loopback_doors(LIST) == ["127.0.0.1:8080", "::1:99"]


def test_what_it_is_in_words() -> None:
    assert [in_words(one) for one in ("full", "none", "a.b *.c.d:1")] == [
        "the host's own",
        "none",
        "a.b, *.c.d:1 alone",
    ]
