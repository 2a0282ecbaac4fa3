"""A person's proxy is for what leaves the machine."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.town import TemporalSection, TownFile, TownPaths
from services.loopback import no_proxy
from services.notifications.alarm import temporal_ailment
from services.town import Town
from tests.sinks import serving


def test_without_a_proxy_nothing_is_added() -> None:
    assert no_proxy({"PATH": "/bin", "HTTP_PROXY": ""}) == {}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_loopback_is_left_out_beside_what_a_person_left_out(name: str) -> None:
    added = no_proxy({name: "http://proxy:3128", "NO_PROXY": "a.example, b.example", "no_proxy": "a.example"})
    assert set(added) == {"NO_PROXY", "no_proxy"}
    assert set(added.values()) == {"a.example,b.example,localhost,127.0.0.1,::1"}


def test_who_leaves_everything_out_goes_on_doing_so() -> None:
    assert no_proxy({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "*"}) == {"NO_PROXY": "*", "no_proxy": "*"}


@pytest.fixture
def ui_port() -> Iterator[int]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with serving(Answers) as port:
        yield port


def test_the_alarms_look_at_temporal_goes_past_the_proxy(
    ui_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    temporal = TemporalSection(namespace="t", port=1, ui_port=ui_port, metrics_port=2)
    town = Town(TownPaths(tmp_path), TownFile(name="t", id="t-1", host="h", temporal=temporal), {})
    town.paths.data.mkdir()
    town.paths.temporal_db.touch()
    assert temporal_ailment(town) == ""
