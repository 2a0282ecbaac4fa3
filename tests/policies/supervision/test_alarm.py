"""What the supervisor's alarm tells: one edge at the start and one at the end, whatever happens between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mayor.alerts import AlertType, Edge, Priority
from models.settings import DiskSettings
from policies.mayor.notification_rules import Condition, edges
from policies.supervision.alarm import (
    OUTAGE_S,
    SHORT_LIVES,
    STARTING_S,
    ServiceLook,
    disk_conditions,
    service_conditions,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
WELL = ServiceLook(name="worker")
FAILING = ServiceLook(name="worker", short_lives=SHORT_LIVES, ailment="does not run")
HANGING = ServiceLook(name="worker", ailment="has been silent", ailing_s=STARTING_S)
SILENT = ServiceLook(name="dolt", type=AlertType.DOLT_DOWN, ailment="does not answer", may_start=False)


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (WELL, None),
        (ServiceLook(name="worker", short_lives=SHORT_LIVES - 1, ailment="does not run", ailing_s=59), None),
        (FAILING, "worker of h1 keeps ending soon after its start"),
        (ServiceLook(name="worker", short_lives=SHORT_LIVES), "worker of h1 keeps ending soon after its start"),
        (HANGING, "worker of h1 does not do its work: has been silent"),
        (SILENT.model_copy(update={"ailing_s": OUTAGE_S - 1}), None),
        (SILENT.model_copy(update={"ailing_s": OUTAGE_S}), "dolt of h1 does not do its work: does not answer"),
        (SILENT.model_copy(update={"ailing_s": STARTING_S - 1, "may_start": True}), None),
    ],
)
def test_a_service_is_told_of_when_it_keeps_ending_or_hangs(look: ServiceLook, words: str | None) -> None:
    found = list(service_conditions([look], {}, "h1", START).values())
    assert [one.title for one in found] == ([] if words is None else [words])
    assert all((one.severity, one.type) == (Priority.CRITICAL, look.type) for one in found)


looks = st.builds(
    ServiceLook,
    name=st.just("worker"),
    short_lives=st.integers(0, 9),
    ailment=st.sampled_from(["", "does not run"]),
    ailing_s=st.sampled_from([0.0, 30.0, STARTING_S, 900.0]),
    may_start=st.booleans(),
)


@given(st.lists(st.one_of(st.none(), looks), max_size=40))
def test_starts_and_ends_alternate_and_an_end_means_that_it_is_well_or_was_stopped(
    story: list[ServiceLook | None],
) -> None:
    told: dict[str, Condition] = {}
    for minute, look in enumerate(story):
        now = START + timedelta(minutes=minute)
        after = service_conditions([] if look is None else [look], told, "h1", now)
        found = [notice.edge for notice in edges(told, after, (), now)]
        assert found in ([], [Edge.END] if told else [Edge.START])
        if found == [Edge.END]:
            assert look is None or (not look.ailment and not look.short_lives)
        told = after


def told_of_disk(*course: float) -> list[tuple[Edge, str]]:
    """Every edge of a disk that is used by these percentages, one after the other."""
    told: dict[str, Condition] = {}
    found = []
    for minute, percent in enumerate(course):
        now = START + timedelta(minutes=minute)
        after = disk_conditions(percent, DiskSettings(warn_percent=85, stop_percent=95), told, "h1", now)
        found += [(notice.edge, notice.priority.value) for notice in edges(told, after, (), now)]
        told = after
    return found


def test_a_disk_is_told_of_at_each_threshold_and_is_over_a_little_below() -> None:
    assert told_of_disk(84.9) == []
    assert told_of_disk(85.0, 94.9) == [(Edge.START, "high")]
    assert told_of_disk(96.0) == [(Edge.START, "high"), (Edge.START, "critical")]
    assert told_of_disk(96.0, 93.5, 96.0, 92.9)[2:] == [(Edge.END, "critical")]
    assert told_of_disk(86.0, 83.0, 86.0, 82.9) == [(Edge.START, "high"), (Edge.END, "high")]
