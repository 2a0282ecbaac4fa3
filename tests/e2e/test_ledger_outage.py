"""The Dolt server is down for half a minute in the middle of ten jobs: work goes on, and the record gets all of it.

An alarm does not need what is broken: what is escalated meanwhile reaches people.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from itertools import groupby

import pytest

from ledger.store import Ledger
from services.supervisor.client import Supervisor
from services.supervisor.programs import DOLT, supervisor_socket
from services.town import Town, find_town
from tests.e2e.living_town import running_town, wait_until
from tests.e2e.quick_town import QuickTown
from tests.e2e.test_main_job import assert_landed_once, held_agent
from tests.pace import Pace
from tests.sinks import HttpSink, SmtpSink, http_sink, smtp_sink

WORDS = "the build box is on fire"
JOBS = 10
DOWN_S = 30.0
"""what the town must live through"""
TOLD_S = 30.0
"""within which people hear of it, on a machine that has nothing else to do"""


@pytest.fixture
def town() -> Iterator[QuickTown]:
    with running_town(QuickTown, "server", "--max-polecats", str(JOBS)) as living:
        yield living


@contextlib.contextmanager
def dolt_down(town: Town, seconds: float) -> Iterator[None]:
    """Inside, the server is stopped; it is started again at the end, not before `seconds` have passed."""
    supervisor = Supervisor(supervisor_socket(town))
    supervisor.stop(DOLT)
    stopped = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, stopped + seconds - time.monotonic()))
    finally:
        supervisor.start(DOLT)


def story_has_no_gaps(ledger: Ledger, bead: str) -> bool:
    """Every event of a bead's job is there, once and in order."""
    events = ledger.job_events(bead)
    for _, of_attempt in groupby(events, key=lambda event: event.attempt):
        sequences = [event.sequence for event in of_attempt]
        if sequences != list(range(sequences[0], sequences[0] + len(sequences))) or sequences[0] > 1:
            return False
    return events[-1].event == "merged"


def alerts(town: Town) -> list[list[str]]:
    """What people were told of the ledger: the edges of each alert, in order.

    There is more than one where the alarm did not get to look for half a minute: then the Mayor tells it as well.
    """
    log = town.paths.alerts_log
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    of_each: dict[str, list[str]] = {}
    for line in lines:
        if " dolt_down " in line:
            condition = line.rpartition(" id=")[2].rpartition(".")[0]
            of_each.setdefault(condition, []).append(line.split()[1])
    return list(of_each.values())


def seconds_until_told(town: Town) -> float:
    """How long until people hear of the outage that has just begun, by the pace of a quiet machine."""
    began, pace = time.monotonic(), Pace()

    def told() -> bool:
        pace.sample()
        return bool(alerts(town))

    wait_until("people to be told", told)
    return (time.monotonic() - began) / pace.slowness


def outages_over(town: QuickTown) -> list[bool]:
    """Of each that the Mayor was told of, whether it is over."""
    return [told.resolved for told in town.escalations() if told.kind == "dolt_down"]


def recorded(town: QuickTown, escalation: str) -> str | None:
    """Of an escalation in the ledger: open, or what was decided."""
    with town.record() as ledger:
        return {one.id: one.action or "open" for one in ledger.escalations(open_only=False)}.get(escalation)


def mailed(smtp: SmtpSink) -> list[str]:
    return about([(str(mail["Subject"]), mail.get_content()) for mail in smtp.mails])


def hooked(http: HttpSink) -> list[str]:
    return about([(str(body["title"]), str(body["message"])) for body in http.taken])


def about(messages: list[tuple[str, str]]) -> list[str]:
    """Every notice of ours in messages (title, body), alone or bundled with others."""
    lines: list[str] = []
    for title, body in messages:
        bundled = re.match(r"\[test\] \d+ alerts", title)
        lines += [line for line in (body.splitlines() if bundled else [title]) if WORDS in line]
    return lines


@pytest.fixture
def smtp(town: QuickTown) -> Iterator[SmtpSink]:
    with smtp_sink() as sink:
        town.add_channel("email", sink.url)
        yield sink


@pytest.fixture
def http(town: QuickTown) -> Iterator[HttpSink]:
    with http_sink(refusals=3) as sink:
        town.add_channel("hook", sink.url)
        yield sink


@pytest.mark.document("2: Dolt 服务器故障", "2: 需要人工干预")
def test_ten_jobs_and_what_is_escalated_live_through_half_a_minute_without_the_record(
    town: QuickTown, smtp: SmtpSink, http: HttpSink
) -> None:
    found = find_town(town.root)
    beads = [town.bead(f"add {number}") for number in range(JOBS)]
    held = {bead: held_agent(town, f"f{number}.py") for number, bead in enumerate(beads)}
    for bead, (agent, _, _) in held.items():
        town.sling(bead, agent)
    wait_until("ten agents to work", lambda: all(working.exists() for _, working, _ in held.values()))
    with dolt_down(found, DOWN_S):
        told_s = seconds_until_told(found)
        for _, _, go in held.values():
            go.touch()
        refused = town.run("bd", "create", "while it is down", "--rig", "shop", expect=4)
        assert refused.stdout == ""
        assert "the ledger's server does not answer" in refused.stderr
        assert "hint: gt up" in refused.stderr
        assert town.run("bd", "list", expect=4).stdout == ""
        told = town.json("gt", "escalate", WORDS, "--severity", "critical")["id"]
        wait_until("the mail", lambda: mailed(smtp))
        wait_until("the hook, which refuses three times", lambda: hooked(http))
        assert told in {item["id"] for item in town.json("gt", "inbox")}
        wait_until("some work to land without the record", lambda: any(town.landed(bead) for bead in beads))
    assert told_s < TOLD_S
    assert_landed_once(town, *beads)
    with contextlib.closing(Ledger.open(found.ledger_url(), create=False)) as ledger:
        wait_until("every event in the record", lambda: all(story_has_no_gaps(ledger, bead) for bead in beads))
        assert [bead.title for bead in ledger.beads()] == [f"add {number}" for number in range(JOBS)]
    # An outage that has ended between two of its looks the Deacon hears of with the next, a minute later at most.
    wait_until("the outage to be over for the Mayor too", lambda: outages_over(town) == [True])
    try:
        wait_until("people to be told", lambda: all(edges == ["start", "end"] for edges in alerts(found)))
    except AssertionError as error:
        alarm = (found.paths.alerts / "alarm.json").read_text(encoding="utf-8")
        raise AssertionError(f"{error}\n{found.paths.alerts_log.read_text(encoding='utf-8')}\n{alarm}") from None
    agreed = {"ok": True, "problems": [], "fixed": [], "unchecked": []}
    wait_until("record and remote to agree", lambda: town.json("bd", "verify", expect=None) == agreed)

    wait_until("the escalation in the record", lambda: recorded(town, told) == "open")
    town.run("gt", "escalate", "resolve", told, "--action", "ignore")
    wait_until("the resolution", lambda: recorded(town, told) == "ignore")
    wait_until("both edges on both channels", lambda: (len(mailed(smtp)), len(hooked(http))) == (2, 2))
    for first, last in (mailed(smtp), hooked(http)):
        assert "CRITICAL escalation" in first
        assert "over: escalation" in last
    assert found.paths.alerts_log.read_text().count(f": {WORDS} id=") == 2, "its start and its end, once each"
    for file in (path for path in found.paths.logs.rglob("*") if path.is_file()):
        text = file.read_text(errors="replace")
        assert not [secret for secret in ("hook-s3cret", "town@example.com") if secret in text], file
