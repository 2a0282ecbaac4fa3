"""`gt inbox` of a town that is down: what files and the record know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.work.inbox import inbox_text
from ledger.store import Ledger
from models.ledger.records import Bead, BeadChanges, BeadStatus
from models.mayor.escalations import EscalationStatus
from services.notifications.files import AlertFiles
from services.town import Town
from tests.cli.conftest import Here

START = datetime(2026, 3, 1, tzinfo=UTC)


def escalation(name: str, **changes: object) -> EscalationStatus:
    values: dict[str, object] = {
        "id": name, "severity": "high", "kind": "help", "source": "polecat/shop/sh-1", "rig": "shop", "bead": "sh-1",
        "opened_at": START, "acked": False, "message": "which database?",
    }  # fmt: skip
    return EscalationStatus.model_validate(values | changes)


def test_an_empty_inbox_says_so(here: Here) -> None:
    assert here.json("gt", "inbox") == []
    assert here.run("gt", "inbox").out == "nothing needs you\n"


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "gt escalate resolve e1 --action retry"),
        ({"kind": "gate_broken", "bead": None, "source": "refinery/shop"}, "gt escalate resolve e1 --action retry"),
        ({"kind": "refinery_stalled"}, "gt refinery start --rig shop"),
        ({"kind": "disk_full", "bead": None, "rig": None, "source": "deacon"}, "gt escalate ack e1"),
        ({"kind": "host_lost", "bead": None, "source": "witness/shop"}, "gt escalate ack e1"),
        (
            {"kind": "polecat_unresponsive", "bead": None, "source": "witness/shop"},
            "gt escalate resolve e1 --action retry",
        ),
        (
            {"kind": "witness_down", "bead": None, "source": "deacon", "tried": "3 restarts"},
            "gt escalate resolve e1 --action retry",
        ),
        ({"id": "x; rm -rf /", "bead": None}, "gt escalate ack 'x; rm -rf /'"),
    ],
)
def test_an_open_escalation_comes_with_the_command_that_answers_it(
    here: Here, ledger: Ledger, changes: dict[str, object], command: str
) -> None:
    ledger.record_escalation(escalation("e1", **changes))
    [item] = here.json("gt", "inbox")
    assert (item["kind"], item["command"], item["since"]) == ("escalation", command, "2026-03-01T00:00:00Z")
    assert "which database?" in item["why"]


def test_a_blocked_bead_is_there_once_with_its_escalation_or_without(here: Here, ledger: Ledger, bead: Bead) -> None:
    ledger.update_bead(bead.id, BeadChanges(status=BeadStatus.BLOCKED))
    [item] = here.json("gt", "inbox")
    assert (item["kind"], item["bead"], item["command"]) == ("bead", bead.id, f"gt sling {bead.id} shop")
    ledger.record_escalation(escalation("e1", bead=bead.id))
    assert [one["kind"] for one in here.json("gt", "inbox")] == ["escalation"]


def test_the_most_urgent_and_the_oldest_come_first_and_resolved_ones_not_at_all(here: Here, ledger: Ledger) -> None:
    later = START + timedelta(hours=1)
    for one in (
        escalation("low", severity="low"),
        escalation("new", opened_at=later, bead="sh-2"),
        escalation("old", bead="sh-3"),
        escalation("urgent", severity="critical", opened_at=later, bead="sh-4"),
        escalation("over", resolved=True, bead="sh-5"),
    ):
        ledger.record_escalation(one)
    assert [item["id"] for item in here.json("gt", "inbox")] == ["urgent", "old", "new", "low"]
    shown = here.run("gt", "inbox").out
    assert "    gt escalate resolve urgent --action retry\n" in shown


def test_what_keeps_alerts_from_getting_out_needs_a_person(here: Here, town: Town) -> None:
    files = AlertFiles(town.paths)
    here.run("gt", "alert", "set", "--type=disk_full", "--channel=slack")
    [item] = here.json("gt", "inbox")
    assert (item["kind"], item["command"]) == ("rule", "gt alert channel add slack")
    files.set_channel("slack", "json://127.0.0.1/s3cret")
    files.note_failure("slack", "503", "a title")
    [item] = here.json("gt", "inbox")
    assert (item["kind"], item["command"]) == ("channel", "gt alert test --channel slack")
    town.paths.channels.write_text("not TOML")
    [item] = here.json("gt", "inbox")
    assert item["id"] == "channels.toml"


def test_what_a_remote_says_stands_line_by_line_above_the_command_that_answers_it() -> None:
    item = {
        "kind": "escalation", "id": "sh-1.1.help", "severity": "high", "rig": "shop", "bead": "sh-1", "since": None,
        "why": "help: publishing sh-1: remote: error: GH006\nremote: - signed commits\n! [remote rejected] a -> b",
        "command": "gt escalate resolve sh-1.1.help --action retry",
    }  # fmt: skip
    assert inbox_text([item]).splitlines() == [
        "HIGH escalation sh-1.1.help: help: publishing sh-1: remote: error: GH006",
        "  | remote: - signed commits",
        "  | ! [remote rejected] a -> b",
        "    gt escalate resolve sh-1.1.help --action retry",
    ]
