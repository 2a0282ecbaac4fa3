"""The brake: most polecats die again at once → pause; a single bad bead, or one cause for all, never."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.supervision.restart_breaker import (
    QUICK,
    TOGETHER,
    Memory,
    fallen,
    next_look,
    probed,
    pulled,
    pulls,
    released,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def fall(memory: Memory, bead: str, start_s: float, *, lived_s: float = 5, shared: bool = False) -> Memory:
    """Die, be restarted, and die again `lived_s` later."""
    first = memory.agents[bead].attempt + 1 if bead in memory.agents else 1
    memory = memory.started(bead, first, at(start_s))
    memory = memory.died(bead, first, at(start_s + 1), shared_cause=shared)
    memory = memory.started(bead, first + 1, at(start_s + 2))
    return memory.died(bead, first + 1, at(start_s + 2 + lived_s), shared_cause=shared)


def beads(count: int) -> frozenset[str]:
    return frozenset(f"sh-{number}" for number in range(count))


def after_falls(falls: int, **how: bool) -> Memory:
    memory = Memory()
    for bead in sorted(beads(falls)):
        memory = fall(memory, bead, 0, **how)
    return memory


@pytest.mark.parametrize(
    ("polecats", "falls", "expected"),
    [
        (1, 1, False), (2, 2, False),  # fewer than three
        (3, 2, False), (3, 3, True), (5, 3, True), (6, 3, True),
        (7, 3, False), (7, 4, True), (20, 9, False), (20, 10, True),  # at least half
    ],
)  # fmt: skip
def test_the_brake_is_pulled_by_three_and_half_of_the_polecats(polecats: int, falls: int, expected: bool) -> None:
    assert pulls(after_falls(falls), beads(polecats), at(10)) is expected


@given(st.integers(1, 50))
def test_one_cause_for_all_never_pulls_the_brake(polecats: int) -> None:
    memory = after_falls(polecats, shared=True)
    assert not pulls(memory, beads(polecats), at(10))


@given(st.integers(1, 50))
def test_a_single_death_each_never_pulls_the_brake(polecats: int) -> None:
    memory = Memory()
    for bead in beads(polecats):
        memory = memory.started(bead, 1, at(0)).died(bead, 1, at(1), shared_cause=False)
    assert not pulls(memory, beads(polecats), at(2))


@given(st.permutations(range(12)), st.integers(1, 3))
def test_the_order_and_the_repetition_of_messages_do_not_matter(order: list[int], times: int) -> None:
    memory = Memory()
    for number in order:
        for _ in range(times):
            memory = memory.started(f"sh-{number}", 1, at(0))
            memory = memory.died(f"sh-{number}", 1, at(1), shared_cause=False)
    for number in reversed(order):
        for _ in range(times):
            memory = memory.started(f"sh-{number}", 2, at(2))
            memory = memory.died(f"sh-{number}", 2, at(7), shared_cause=False)
    assert pulls(memory, beads(12), at(10))
    assert fallen(memory, at(10)) == beads(12)


@pytest.mark.parametrize(("lived_s", "expected"), [(0, True), (59.9, True), (60, False), (600, False)])
def test_only_a_death_within_a_minute_of_the_restart_is_dying_again(lived_s: float, expected: bool) -> None:
    memory = fall(Memory(), "sh-0", 0, lived_s=lived_s)
    assert bool(fallen(memory, at(3 + lived_s))) is expected


def test_a_quick_death_of_a_first_attempt_or_of_a_rework_is_not_dying_again() -> None:
    first = Memory().started("sh-0", 1, at(0)).died("sh-0", 1, at(5), shared_cause=False)
    rework = Memory().started("sh-0", 1, at(0)).started("sh-0", 2, at(10)).died("sh-0", 2, at(15), shared_cause=False)
    assert not fallen(first, at(20))
    assert not fallen(rework, at(20))


def test_bad_beads_one_after_another_are_not_one_trouble() -> None:
    memory = Memory()
    for number in range(10):
        memory = fall(memory, f"sh-{number}", number * TOGETHER.total_seconds())
        assert not pulls(memory, beads(3), at(number * TOGETHER.total_seconds() + 10))


def test_who_has_lived_a_minute_since_or_has_handed_work_in_is_not_fallen_any_more() -> None:
    memory = fall(Memory(), "sh-0", 0).started("sh-0", 3, at(40))
    assert fallen(memory, at(41))
    assert not fallen(memory, at(40) + QUICK)
    assert not fallen(memory.finished("sh-0", 3), at(41))
    assert fallen(memory.finished("sh-0", 2), at(41)), "an older attempt's work proves nothing"


def test_under_the_brake_one_start_is_tried_at_a_time_ever_more_rarely_and_without_end() -> None:
    memory = after_falls(3)
    brake = pulled(memory, beads(3), at(10), first_s=30)
    assert brake.reason.startswith("the agents of 3 of 3 polecats died within 60 s of their restart")
    waits, now = [], at(10)
    for _ in range(6):
        assert probed(brake, brake.probe_at - timedelta(seconds=1), 600) is brake
        waits.append((brake.probe_at - now).total_seconds())
        now = brake.probe_at
        assert next_look(brake, memory, now - timedelta(seconds=1)) == now
        brake = probed(brake, now, most_s=600)
    assert waits == [60, 120, 240, 480, 600, 600]
    assert brake.probes == 6


def test_the_brake_is_released_by_a_start_under_it_that_lives_and_by_no_other() -> None:
    memory = after_falls(3).started("sh-9", 1, at(0))
    brake = pulled(memory, beads(3), at(10), first_s=30)
    assert not released(brake, memory, at(1000)), "one that lived through it all proves nothing about starting"
    probe = memory.started("sh-0", 3, at(70))
    assert not released(brake, probe, at(129))
    assert next_look(brake, probe, at(100)) == min(brake.probe_at, at(130))
    assert released(brake, probe, at(130))
    assert not released(brake, probe.died("sh-0", 3, at(80), shared_cause=False), at(1000))
    assert released(brake, probe.finished("sh-0", 3), at(71))


def test_a_start_under_the_brake_that_is_ended_before_it_lived_a_minute_proves_nothing() -> None:
    brake = pulled(after_falls(3), beads(3), at(10), first_s=30)
    probe = after_falls(3).started("sh-0", 3, at(70))
    cancelled = probe.ended("sh-0", 3, at(129))
    assert not released(brake, cancelled, at(1000))
    assert "sh-0" in fallen(cancelled, at(131))
    assert next_look(brake, cancelled, at(100)) == brake.probe_at
    assert released(brake, probe.ended("sh-0", 3, at(130)), at(131)), "it had lived its minute"
    assert released(brake, probe.finished("sh-0", 3).ended("sh-0", 3, at(75)), at(76)), "its work was taken"
    assert released(brake, cancelled.started("sh-0", 4, at(200)), at(260)), "the next one may"
    assert probe.ended("sh-0", 2, at(80)) == probe, "late news of an older one"


def test_beads_that_nothing_is_heard_of_any_more_are_forgotten() -> None:
    memory = after_falls(3).started("sh-8", 1, at(0)).forgotten(frozenset({"sh-0"}), at(7200))
    assert set(memory.agents) == {"sh-0"}
