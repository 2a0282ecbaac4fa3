"""Alert rules, on both engines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.mayor.alerts import AlertRule, AlertType, Priority
from tests.ledger.records import START


def a_rule(type: AlertType = AlertType.POLECAT_STUCK, **changes: Any) -> AlertRule:
    values: dict[str, Any] = {"type": type, "channel": "slack", "priority": Priority.HIGH, "created_at": START}
    return AlertRule(**values | changes)


def test_a_type_has_one_rule_for_each_channel_and_one_without(ledger: Ledger) -> None:
    told = [
        a_rule(channel=None, priority=Priority.CRITICAL),
        a_rule(channel="email", priority=None),
        a_rule(),
        a_rule(AlertType.WITNESS_DOWN),
    ]
    for rule in reversed(told):
        assert ledger.set_alert_rule(rule) == rule
    assert ledger.alert_rules() == told


def test_a_rule_that_is_set_again_is_changed_and_telling_it_twice_changes_nothing(ledger: Ledger) -> None:
    first = ledger.set_alert_rule(a_rule())
    assert ledger.set_alert_rule(a_rule(created_at=START + timedelta(days=1))) == first
    louder = a_rule(priority=Priority.CRITICAL, created_at=START + timedelta(days=2))
    assert ledger.set_alert_rule(louder) == louder
    assert ledger.alert_rules() == [louder]


def test_removing_names_what_is_gone_and_leaves_the_rest(ledger: Ledger) -> None:
    rules = [
        ledger.set_alert_rule(rule)
        for rule in (a_rule(channel="email", priority=None), a_rule(), a_rule(AlertType.WITNESS_DOWN))
    ]
    assert ledger.remove_alert_rule(AlertType.POLECAT_STUCK, "slack") == (rules[1],)
    assert ledger.remove_alert_rule(AlertType.POLECAT_STUCK, "slack") == ()
    assert ledger.remove_alert_rule(AlertType.POLECAT_STUCK) == (rules[0],)
    assert ledger.alert_rules() == [rules[2]]


def test_a_rule_that_cannot_be_kept_is_refused(ledger: Ledger) -> None:
    with pytest.raises(GtError) as failure:
        ledger.set_alert_rule(a_rule(channel="a\x00b"))
    assert failure.value.code is ErrorCode.INVALID_VALUE
    assert ledger.alert_rules() == []
