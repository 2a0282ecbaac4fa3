"""Town checks as policy: thresholds, confirmations, and edges that are told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.settings import DiskSettings
from models.supervision.messages import CheckResult, HostSigns, QueueSigns
from policies.supervision.town_checks import (
    Edges,
    TownMemory,
    clock_check,
    disk_checks,
    edges,
    host_check,
    ledger_check,
    queue_check,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DISK = DiskSettings(warn_percent=85, stop_percent=95)


def signs(percent: float = 50.0, *, at: datetime = NOON, steady_s: float = 0.0, boot: str = "b1") -> HostSigns:
    return HostSigns(host="h1", disk_percent=percent, at=at, steady_s=steady_s, steady_since=boot)


def seen(*looks: HostSigns, temporal: datetime | None = None) -> TownMemory:
    memory = TownMemory()
    for look in looks:
        memory = memory.host_seen(look, temporal or look.at)
    return memory


def disk(percent: float, *told: str) -> list[bool]:
    return [check.ok for check in disk_checks("h1", seen(signs(percent)).hosts["h1"], DISK, dict.fromkeys(told, "e"))]


# --- ledger -------------------------------------------------------------------------------------


def test_one_failure_of_the_ledger_is_no_alarm_two_in_a_row_are_and_one_answer_ends_it() -> None:
    memory = TownMemory().ledger_read("refused")
    assert ledger_check(memory).ok
    memory = memory.ledger_read("refused")
    assert not ledger_check(memory).ok
    assert "refused" in ledger_check(memory).detail
    assert ledger_check(memory.ledger_read("")).ok
    assert ledger_check(memory.ledger_read("").ledger_read("refused")).ok


# --- hosts that nobody watches ------------------------------------------------------------------


def test_sessions_on_a_host_that_their_witness_does_not_watch_are_named_until_it_does() -> None:
    memory = seen(signs().model_copy(update={"rigs": ("barn", "shop")}))
    assert memory.unwatched() == (), "of no Witness is it known what it watches"
    memory = memory.patrol_heard("shop", ()).patrol_heard("barn", ("h1",))
    assert memory.unwatched() == (("shop", "h1"),)
    assert memory.patrol_heard("shop", None).unwatched() == (), "a stopped one watches nothing, as it was told"
    assert memory.patrol_heard("shop", ("h1",)).unwatched() == ()
    assert memory.host_missed("h1", 60.0).unwatched() == (), "nobody can look there"
    assert memory.keep(("h1",), ("barn",)).unwatched() == ()


# --- disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "well"),
    [(84.9, [True, True]), (85.0, [False, True]), (94.9, [False, True]), (95.0, [False, False]), (100, [False, False])],
)
def test_a_disk_alarms_at_each_threshold(percent: float, well: list[bool]) -> None:
    assert disk(percent) == well


def test_an_alarm_that_stands_ends_two_points_below_its_threshold() -> None:
    both = ("disk_full/h1", "disk_full/h1/stop")
    assert disk(93.5, *both) == [False, False]
    assert disk(92.9, *both) == [False, True]
    assert disk(83.5, both[0]) == [False, True]
    assert disk(82.9, both[0]) == [True, True]


def test_of_a_host_that_has_not_told_nothing_is_said() -> None:
    memory = TownMemory().host_missed("h1", 60)
    assert disk_checks("h1", memory.hosts["h1"], DISK, {}) == ()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_a_disk_that_wavers_by_less_than_the_slack_alarms_once(course: list[float]) -> None:
    told: dict[str, str] = {}
    begun = 0
    for wobble in course:
        percent = 85.0 + (wobble - 50) / 51  # within one point of the threshold
        results = disk_checks("h1", seen(signs(percent)).hosts["h1"], DISK, told)
        news = edges(results, told)
        begun += len(news.begun)
        told |= {result.key: "e" for result in news.begun}
        assert news.over == {}
    assert begun <= 1


# --- hosts and clocks ---------------------------------------------------------------------------


def test_a_host_that_misses_a_look_is_lost_until_it_takes_one() -> None:
    memory = seen(signs()).host_missed("h1", 60)
    lost = host_check("h1", memory.hosts["h1"])
    assert (lost.ok, lost.level, lost.key) == (False, "L4", "host_lost/h1")
    assert host_check("h1", memory.host_seen(signs(), NOON).hosts["h1"]).ok


def test_a_clock_that_is_set_forward_an_hour_is_noted_and_the_next_steady_look_ends_it() -> None:
    later = NOON + timedelta(hours=1, seconds=60)
    jumped = seen(signs(at=NOON, steady_s=100), signs(at=later, steady_s=160))
    check = clock_check("h1", jumped.hosts["h1"])
    assert not check.ok
    assert "3600 s ahead" in check.detail
    steady = jumped.host_seen(signs(at=later + timedelta(seconds=60), steady_s=220), later + timedelta(seconds=60))
    assert clock_check("h1", steady.hosts["h1"]).ok


def test_sleep_and_a_reboot_are_no_jump() -> None:
    asleep = seen(signs(at=NOON, steady_s=100), signs(at=NOON + timedelta(hours=8), steady_s=100 + 8 * 3600))
    rebooted = seen(signs(at=NOON, steady_s=9999), signs(at=NOON + timedelta(minutes=5), steady_s=20, boot="b2"))
    assert clock_check("h1", asleep.hosts["h1"]).ok
    assert clock_check("h1", rebooted.hosts["h1"]).ok


def test_a_host_whose_clock_differs_from_temporals_is_noted() -> None:
    check = clock_check("h1", seen(signs(at=NOON), temporal=NOON + timedelta(seconds=90)).hosts["h1"])
    assert not check.ok
    assert "90 s behind" in check.detail


# --- queues -------------------------------------------------------------------------------------


def queue(**signs: int | bool | str) -> QueueSigns:
    return QueueSigns.model_validate({"rig": "shop", "waiting": 1, "mark": "a", **signs})


def stands(signs: QueueSigns, for_s: float, gates_s: int = 100) -> bool:
    return queue_check(TownMemory().queue_seen(signs, 0.0).queues["shop"], gates_s, 300.0, for_s).ok


def test_a_queue_that_waits_without_getting_further_has_stalled() -> None:
    assert stands(queue(), 299)
    assert not stands(queue(), 300)


def test_a_merge_may_take_as_long_as_its_gates() -> None:
    assert stands(queue(merging=1), 999)
    assert not stands(queue(merging=1), 1000)


def test_a_queue_that_is_empty_or_paused_cannot_stall() -> None:
    assert stands(queue(waiting=0), 1e6)
    assert stands(queue(paused=True), 1e6)


def test_a_queue_that_gets_further_or_was_resumed_has_its_whole_limit_again() -> None:
    memory = TownMemory().queue_seen(queue(mark="a"), 0).queue_seen(queue(mark="b"), 250)
    assert queue_check(memory.queues["shop"], 0, 300, 549).ok
    resumed = TownMemory().queue_seen(queue(paused=True), 0).queue_seen(queue(), 1000)
    assert queue_check(resumed.queues["shop"], 0, 300, 1299).ok
    assert queue_check(memory.forgive(500).queues["shop"], 0, 300, 799).ok


# --- edges --------------------------------------------------------------------------------------

CHECKS = st.lists(
    st.builds(
        CheckResult,
        name=st.sampled_from(["dolt_down", "host_lost"]),
        subject=st.sampled_from(["", "a"]),
        ok=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda check: check.key,
)


@given(st.lists(CHECKS, max_size=40))
def test_each_episode_is_told_once_and_ended_once(course: list[list[CheckResult]]) -> None:
    told: dict[str, str] = {}
    number = 0
    for results in course:
        news = edges(tuple(results), told)
        assert not {result.key for result in news.begun} & set(told)
        assert set(news.over) <= set(told.values())
        for result in news.begun:
            number += 1
            told[result.key] = str(number)
        told = {key: name for key, name in told.items() if name not in news.over}
    failing = {result.key for results in course[-1:] for result in results if not result.ok}
    assert failing <= set(told)


def test_what_is_not_looked_at_says_nothing_and_what_is_gone_ends() -> None:
    told = {"host_lost/h1": "e1", "host_lost/h2": "e2"}
    assert edges((), told) == Edges()
    assert set(edges((), told, ("host_lost/h2",)).over) == {"e2"}


def test_hosts_and_rigs_that_the_record_does_not_name_are_forgotten() -> None:
    memory = seen(signs()).queue_seen(queue(), 0).keep(("h2",), ())
    assert (memory.hosts, memory.queues) == ({}, {})
