"""The activities over a real ledger, run as Temporal runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.testing import ActivityEnvironment

from activities.ledger import LedgerActivities
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.job.messages import DispatchFactsRequest, RigName, SlingRequest
from models.ledger.records import BeadRef, BeadStatus, JobWrites
from models.mayor.alerts import AlertMirror, AlertRule, AlertType, Priority
from models.mayor.escalations import EscalationRef, EscalationStatus
from models.town import TownPaths
from services.notifications.files import AlertFiles
from tests.ledger.conftest import DoltServer
from tests.ledger.records import SHA, START, a_bead, a_merge, a_rig, a_write
from tests.pace import DEADLINE_S


def test_the_activities_have_the_names_that_workflows_call() -> None:
    made = LedgerActivities(lambda: pytest.fail("opened before it was needed"))
    for name in (
        "admit_bead",
        "record_job",
        "dispatch_facts",
        "load_rig",
        "queue_facts",
        "bead_status",
        "record_escalation",
    ):
        definition = activity._Definition.must_from_callable(getattr(made, name))
        assert (definition.name, definition.is_async) == (name, False)
    made.close()


def test_a_job_is_admitted_recorded_and_read_back(ledger: Ledger, url: str) -> None:
    bead = a_bead(ledger).id
    made = LedgerActivities(lambda: Ledger.open(url), default_agent="claude")
    run = ActivityEnvironment().run
    assert run(made.admit_bead, SlingRequest(bead=bead, rig="shop")).agent == "claude"
    writes = JobWrites(writes=(a_write(bead, 1, 1), a_merge(bead, 1, 2)))
    run(made.record_job, writes)
    run(made.record_job, writes)
    reply = run(made.bead_status, BeadRef(bead=bead))
    assert (reply.status, reply.merged_sha, reply.close_reason) == (BeadStatus.CLOSED, SHA, "merged")
    assert run(made.dispatch_facts, DispatchFactsRequest(rig="shop", beads=(bead,))).open_dependencies == {bead: ()}
    assert run(made.load_rig, RigName(rig="shop")).rig == a_rig()
    escalation = EscalationStatus(
        id="e1", severity="high", kind="help", source="x", bead=bead, opened_at=START, acked=False, message="m"
    )
    run(made.record_escalation, escalation)
    assert ledger.escalations() == [escalation]
    assert run(made.recorded_escalation, EscalationRef(id="e1")) == escalation
    with pytest.raises(GtError) as failure:
        run(made.recorded_escalation, EscalationRef(id="e9"))
    assert failure.value.code is ErrorCode.NOT_FOUND
    made.close()


def test_alert_rules_are_mirrored_into_the_town_whenever_its_settings_are_read(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    files = AlertFiles(TownPaths(tmp_path))
    made = LedgerActivities(lambda: Ledger.open(url), alert_files=files)
    rule = ledger.set_alert_rule(AlertRule(type=AlertType.DISK_FULL, priority=Priority.CRITICAL, created_at=START))
    ledger.set_setting("town", "alerts.quiet_hours", "22:00-07:00")
    facts = ActivityEnvironment().run(made.town_facts)
    assert facts.settings.alerts.quiet_hours == "22:00-07:00"
    assert files.mirror() == AlertMirror(rules=(rule,), alerts=facts.settings.alerts)
    made.close()


def test_settings_are_read_although_the_mirror_cannot_be_written(url: str, ledger: Ledger, tmp_path: Path) -> None:
    in_the_way = tmp_path / "run"
    in_the_way.write_text("")
    made = LedgerActivities(lambda: Ledger.open(url), alert_files=AlertFiles(TownPaths(tmp_path)))
    assert ActivityEnvironment().run(made.town_facts).settings.alerts.rate == 20
    made.close()


def test_a_worker_starts_while_the_ledger_is_down_and_works_once_it_is_up(
    mortal_server: DoltServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.2)
    url = mortal_server.url("town")
    seeded = Ledger.open(url)
    bead = a_bead(seeded).id
    seeded.close()
    mortal_server.kill()
    made = LedgerActivities(lambda: Ledger.open(url))
    with pytest.raises(GtError) as failure:
        made.bead_status(BeadRef(bead=bead))
    assert failure.value.code is ErrorCode.LEDGER_UNREACHABLE
    assert failure.value.retryable
    mortal_server.start()
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", DEADLINE_S)
    assert made.bead_status(BeadRef(bead=bead)).status is BeadStatus.OPEN
    mortal_server.kill()
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.2)
    with pytest.raises(GtError):
        made.bead_status(BeadRef(bead=bead))
    mortal_server.start()
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", DEADLINE_S)
    assert made.bead_status(BeadRef(bead=bead)).status is BeadStatus.OPEN
    made.close()


def test_the_ledger_is_opened_anew_after_damage(
    embedded_url: str, open_ledger: Callable[[str], Ledger], tmp_path: Path
) -> None:
    ledger = open_ledger(embedded_url)
    bead = a_bead(ledger).id
    file, aside = tmp_path / "ledger.doltlite", tmp_path / "aside"
    opened: list[Ledger] = []

    def source() -> Ledger:
        opened.append(Ledger.open(embedded_url, create=False))
        return opened[-1]

    made = LedgerActivities(source)
    made.bead_status(BeadRef(bead=bead))
    made.bead_status(BeadRef(bead=bead))
    assert len(opened) == 1
    file.rename(aside)
    with pytest.raises(GtError):
        made.bead_status(BeadRef(bead=bead))
    aside.rename(file)
    made.bead_status(BeadRef(bead=bead))
    assert len(opened) == 2
    made.close()
