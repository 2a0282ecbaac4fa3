"""What the supervisor's alarm tells: one edge at the start and one at the end, whatever a service does between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alerts import Edge, Priority
from policies.alarm import AILING_S, SHORT_LIVES, ServiceLook, holding
from policies.alerts import Condition, edges

START = datetime(2026, 3, 1, tzinfo=UTC)
WELL = ServiceLook(name="worker")
FAILING = ServiceLook(name="worker", short_lives=SHORT_LIVES, ailment="does not run")
HANGING = ServiceLook(name="worker", ailment="has been silent", ailing_s=AILING_S)


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (WELL, None),
        (ServiceLook(name="worker", short_lives=SHORT_LIVES - 1, ailment="does not run", ailing_s=AILING_S - 1), None),
        (FAILING, "keeps ending soon after its start"),
        (ServiceLook(name="worker", short_lives=SHORT_LIVES), "keeps ending soon after its start"),
        (HANGING, "does not do its work: has been silent"),
    ],
)
def test_a_service_is_told_of_when_it_keeps_ending_or_hangs(look: ServiceLook, words: str | None) -> None:
    found = list(holding([look], {}, "h1", START).values())
    assert [one.title for one in found] == ([] if words is None else [f"worker of h1 {words}"])
    assert all(one.severity is Priority.CRITICAL for one in found)


looks = st.builds(
    ServiceLook,
    name=st.just("worker"),
    short_lives=st.integers(0, 9),
    ailment=st.sampled_from(["", "does not run"]),
    ailing_s=st.sampled_from([0.0, 30.0, AILING_S, 900.0]),
)


@given(st.lists(st.one_of(st.none(), looks), max_size=40))
def test_starts_and_ends_alternate_and_an_end_means_that_it_is_well_or_was_stopped(
    story: list[ServiceLook | None],
) -> None:
    told: dict[str, Condition] = {}
    for minute, look in enumerate(story):
        now = START + timedelta(minutes=minute)
        after = holding([] if look is None else [look], told, "h1", now)
        found = [notice.edge for notice in edges(told, after, (), now)]
        assert found in ([], [Edge.END] if told else [Edge.START])
        if found == [Edge.END]:
            assert look is None or (not look.ailment and not look.short_lives)
        told = after
