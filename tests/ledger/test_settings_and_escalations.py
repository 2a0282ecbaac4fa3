"""Settings and escalations, on both engines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from ledger.engine import schema
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.mayor.escalations import EscalationStatus
from models.settings import Settings
from tests.ledger.records import START, a_rig


def test_a_rig_overrides_the_town_which_overrides_the_default(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    assert ledger.effective_settings(None) == ledger.effective_settings("shop") == Settings()
    ledger.set_setting("town", "health.check_interval", "2m")
    ledger.set_setting("town", "recovery.max_retries", 5)
    ledger.set_setting("shop", "recovery.max_retries", 1)
    ledger.set_setting("shop", "polecat.auto_done", False)
    settings = ledger.effective_settings("shop")
    assert (settings.health.check_interval, settings.recovery.max_retries) == (120, 1)
    assert settings.polecat.auto_done is False
    assert ledger.effective_settings(None).recovery.max_retries == 5
    assert ledger.settings("town") == {"health.check_interval": 120, "recovery.max_retries": 5}
    origins = ledger.setting_origins("shop")
    assert origins["health.check_interval"] == "town"
    assert origins["recovery.max_retries"] == "rig"
    assert origins["health.grace"] == "default"
    assert ledger.setting_origins(None)["recovery.max_retries"] == "town"


def test_an_unset_setting_falls_back(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    ledger.set_setting("town", "health.grace", 7)
    ledger.set_setting("shop", "health.grace", 8)
    for _ in range(2):
        ledger.unset_setting("shop", "health.grace")
        assert ledger.effective_settings("shop").health.grace == 7
    ledger.unset_setting("town", "health.grace")
    assert ledger.effective_settings("shop") == Settings()


@pytest.mark.parametrize(
    ("scope", "key", "value", "code"),
    [
        ("town", "no.such", 1, ErrorCode.NOT_FOUND),
        ("nowhere", "health.grace", 1, ErrorCode.NOT_FOUND),
        ("town", "health.grace", 3601, ErrorCode.INVALID_VALUE),
        ("town", "health.grace", "soon", ErrorCode.INVALID_VALUE),
    ],
)
def test_a_wrong_setting_is_refused(ledger: Ledger, scope: str, key: str, value: Any, code: ErrorCode) -> None:
    with pytest.raises(GtError) as failure:
        ledger.set_setting(scope, key, value)
    assert failure.value.code is code
    assert ledger.settings("town") == {}


def test_stored_values_of_another_release_leave_the_default(ledger: Ledger) -> None:
    rows = [("health.grace", "999999"), ("later.key", "1"), ("disk.warn_percent", '"much"'), ("recovery.window", "{")]
    ledger.write(
        lambda connection: (
            connection.execute(
                insert(schema.settings), [{"scope": "town", "key": key, "value": value} for key, value in rows]
            ),
            "settings of another release",
        )
    )
    assert ledger.effective_settings(None) == Settings()
    assert ledger.settings("town") == {}


def an_escalation(**changes: Any) -> EscalationStatus:
    values: dict[str, Any] = {
        "id": "polecat/shop/sh-1a2.1.stuck",
        "severity": "high",
        "kind": "polecat_stuck",
        "source": "polecat/shop/sh-1a2",
        "bead": "sh-1a2",
        "opened_at": START,
        "acked": False,
        "message": "no progress for 30 minutes",
    }
    return EscalationStatus(**values | changes)


def test_an_escalation_is_told_once_however_often_it_is_recorded(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.record_escalation(an_escalation())
    assert ledger.escalations() == [an_escalation()]
    ledger.record_escalation(an_escalation(severity="critical"))
    assert ledger.escalations() == [an_escalation(severity="critical")]


def test_what_was_acknowledged_or_resolved_is_not_taken_back_by_a_late_write(ledger: Ledger) -> None:
    acked = an_escalation(acked=True)
    resolved = an_escalation(acked=True, resolved=True, action="retry")
    for stage, late in ((acked, [an_escalation()]), (resolved, [an_escalation(), acked])):
        ledger.record_escalation(stage)
        for write in late:
            ledger.record_escalation(write)
        assert ledger.escalations(open_only=False) == [stage]
    assert ledger.escalations() == []


def test_a_condition_that_comes_back_opens_its_escalation_again(ledger: Ledger) -> None:
    ledger.record_escalation(an_escalation(resolved=True))
    again = an_escalation(opened_at=START + timedelta(hours=1))
    ledger.record_escalation(again)
    assert ledger.escalations() == [again]


def test_a_keyed_write_is_applied_once_however_late_it_is_repeated(ledger: Ledger) -> None:
    assert not ledger.applied("mayor/run/1")
    ledger.record_escalation(an_escalation(), key="mayor/run/1")
    ledger.record_escalation(an_escalation(severity="critical"), key="mayor/run/2")
    ledger.record_escalation(an_escalation(), key="mayor/run/1")
    assert ledger.applied("mayor/run/1")
    assert ledger.escalations() == [an_escalation(severity="critical")]


def test_everything_that_is_known_of_an_escalation_is_kept(ledger: Ledger) -> None:
    whole = an_escalation(
        level="L2", rig="shop", evidence="$ pytest\n😀", tried="3 restarts", repeats=2, acked=True, resolved=True,
        action="retry", resolved_at=START + timedelta(hours=2), resolved_by="ada",
    )  # fmt: skip
    ledger.record_escalation(whole)
    assert ledger.escalations(open_only=False) == [whole]
    ledger.record_escalation(an_escalation(repeats=2, evidence="half \ud83d\x00", opened_at=START + timedelta(days=1)))
    assert ledger.escalations()[0].evidence == "half \ufffd\ufffd"


def test_a_late_write_does_not_take_back_a_repetition(ledger: Ledger) -> None:
    ledger.record_escalation(an_escalation(repeats=2, severity="critical"))
    ledger.record_escalation(an_escalation(repeats=1))
    assert ledger.escalations() == [an_escalation(repeats=2, severity="critical")]
