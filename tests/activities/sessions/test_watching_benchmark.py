"""The benchmark of watching, in small: it measures what it says and leaves nothing behind."""

from __future__ import annotations

import os

import psutil
import pytest

from benchmarks import watching
from tests.activities.sessions.desk import eventually


def test_it_watches_every_session_and_notices_every_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"98765.{os.getpid()}"
    monkeypatch.setattr(watching, "QUIET", f"exec sleep {mark}")
    monkeypatch.setattr(watching, "WATCHED_AT_KILLS", 2)
    figures = watching.measure(seconds=3, sessions=(3,), kills=1)
    quiet = figures["3 quiet sessions"]
    assert quiet["living"] == 3
    assert quiet["seconds"] >= 3
    assert set(quiet["cpu_percent"]) == {"scanner", "its subprocesses", "tmux server", "together"}
    assert quiet["cpu_percent"]["together"] > 0
    assert 0 < quiet["subprocesses_per_s"] < 10
    assert quiet["memory_mb"]["scanner"] > 10
    noticed = figures["noticed after"]
    assert set(noticed) == {"agent", "pane", "session", "tmux server"}
    assert all(0 < one["p50_s"] <= one["p99_s"] for one in noticed.values())
    eventually(lambda: not [left for left in psutil.process_iter(["cmdline"]) if mark in (left.info["cmdline"] or [])])
