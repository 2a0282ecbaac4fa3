"""An alarm does not need what is broken: escalations of a real town whose Dolt server is down reach people."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.store import Ledger
from services.supervisor.client import Supervisor
from services.supervisor.programs import DOLT, supervisor_socket
from services.town import find_town
from tests.e2e.living_town import BIN, LivingTown, wait_until
from tests.sinks import http_sink, smtp_sink

WORDS = "the build box is on fire"


@pytest.fixture
def town() -> Iterator[LivingTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = LivingTown(Path(folder), store="server")
        try:
            living.init()
            living.up()
            yield living
        finally:
            living.close()


def add_channel(town: LivingTown, name: str, url: str) -> None:
    """As a person does it: the URL on standard input."""
    argv = [str(BIN / "gt"), "alert", "channel", "add", name]
    subprocess.run(argv, cwd=town.root, env=town.env, input=url, text=True, check=True, capture_output=True, timeout=60)


@pytest.mark.document("2: 需要人工干预")
def test_an_escalation_with_dolt_down_reaches_smtp_and_http_and_afterwards_the_record_holds_it(
    town: LivingTown,
) -> None:
    found = find_town(town.root)
    supervisor = Supervisor(supervisor_socket(found))
    with smtp_sink() as smtp, http_sink(refusals=3) as http:
        add_channel(town, "email", smtp.url)
        add_channel(town, "hook", http.url)

        def mailed() -> list[str]:
            return about([(str(mail["Subject"]), mail.get_content()) for mail in smtp.mails])

        def hooked() -> list[str]:
            return about([(str(body["title"]), str(body["message"])) for body in http.taken])

        supervisor.stop(DOLT)
        told = town.json("gt", "escalate", WORDS, "--severity", "critical")
        wait_until("the mail", mailed)
        wait_until("the hook, which refuses three times", hooked)
        assert told["id"] in {item["id"] for item in town.json("gt", "inbox")}

        supervisor.start(DOLT)
        wait_until("the record", lambda: recorded(found.ledger_url()).get(told["id"]) == "open")
        town.run("gt", "escalate", "resolve", told["id"], "--action", "ignore")
        wait_until("the resolution", lambda: recorded(found.ledger_url())[told["id"]] == "ignore")
        wait_until("both edges on both channels", lambda: (len(mailed()), len(hooked())) == (2, 2))
        for first, last in (mailed(), hooked()):
            assert "CRITICAL escalation" in first
            assert "over: escalation" in last
    log = found.paths.alerts_log.read_text()
    assert log.count(f": {WORDS} id=") == 2, "its start and its end, once each"
    for secret in ("hook-s3cret", "town@example.com"):
        for file in found.paths.logs.iterdir():
            assert secret not in file.read_text(errors="replace"), f"{file} tells a channel's URL"


def recorded(url: str) -> dict[str, str]:
    """Escalations in the ledger: open, or what was decided."""
    ledger = Ledger.open(url)
    try:
        return {one.id: one.action or "open" for one in ledger.escalations(open_only=False)}
    finally:
        ledger.close()


def about(messages: list[tuple[str, str]]) -> list[str]:
    """Every notice of ours in messages (title, body), alone or bundled with others."""
    lines: list[str] = []
    for title, body in messages:
        bundled = re.match(r"\[test\] \d+ alerts", title)
        lines += [line for line in (body.splitlines() if bundled else [title]) if WORDS in line]
    return lines
