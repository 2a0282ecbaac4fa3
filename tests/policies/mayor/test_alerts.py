"""Alerts as decisions: edges, routes, the pace of a channel."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.mayor.alerts import AlertRule, AlertType, Edge, Message, Notice, Priority
from models.settings import AlertSettings
from policies.mayor.notification_rules import (
    WAITING_KEPT,
    ChannelQueue,
    Condition,
    channels_for,
    delivered,
    due,
    edges,
    next_due,
    priority_of,
    put,
    quiet_until,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NIGHT = datetime(2026, 3, 1, 23, tzinfo=UTC)
QUIET = AlertSettings(quiet_hours="22:00-07:00")
LOUD = AlertSettings()


def condition(key: str = "dolt_down", **changes: object) -> Condition:
    values: dict[str, object] = {
        "key": key, "since": NOON, "type": AlertType.DOLT_DOWN, "severity": Priority.HIGH,
        "title": f"{key} is wrong", "source": "deacon",
    }  # fmt: skip
    return Condition.model_validate(values | changes)


def notice(number: int = 1, priority: Priority = Priority.HIGH, edge: Edge = Edge.START, about: str = "") -> Notice:
    key = about or f"c{number}"
    return condition(key).notice(edge, priority, NOON).model_copy(update={"id": f"{key}.{edge.value}.{number}"})


def rule(type: AlertType, channel: str | None = None, priority: Priority | None = None, minute: int = 0) -> AlertRule:
    return AlertRule(type=type, channel=channel, priority=priority, created_at=NOON + timedelta(minutes=minute))


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "holding", "expected"),
    [
        ([], [], []),
        ([], [condition()], [Edge.START]),
        ([condition()], [condition()], []),
        ([condition()], [], [Edge.END]),
        ([condition()], [condition(raises=1)], [Edge.REPEAT]),
        ([condition(raises=1)], [condition(raises=1)], []),
        ([condition()], [condition(since=NOON + timedelta(minutes=1))], [Edge.END, Edge.START]),
        ([condition()], [condition(title="worse", severity=Priority.CRITICAL)], []),
        ([condition("a")], [condition("b")], [Edge.END, Edge.START]),
    ],
)
def test_a_condition_is_told_when_it_starts_ends_or_stays_unanswered(
    told: list[Condition], holding: list[Condition], expected: list[Edge]
) -> None:
    found = edges({one.key: one for one in told}, {one.key: one for one in holding}, (), NOON)
    assert [notice.edge for notice in found] == expected


steps = st.lists(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 2), st.integers(0, 2))), max_size=12)


@given(steps)
def test_no_edge_is_ever_lost_or_told_twice(worlds: list[dict[str, tuple[int, int]]]) -> None:
    """For each condition: starts and ends alternate, beginning with a start, and at last agree with the world."""
    told: dict[str, Condition] = {}
    story: list[Notice] = []
    for hour, world in enumerate([*worlds, {}]):
        holding = {
            key: condition(key, since=NOON + timedelta(hours=opening), raises=raises)
            for key, (opening, raises) in world.items()
        }
        found = edges(told, holding, (), NOON + timedelta(hours=hour))
        again = edges(told, holding, (), NOON + timedelta(hours=hour + 1))
        assert [notice.id for notice in found] == [notice.id for notice in again], "a retry tells the same"
        story += found
        told = holding
        assert edges(told, holding, (), NOON) == []
    for key in "abcd":
        turns = [notice.edge for notice in story if notice.condition == key and notice.edge is not Edge.REPEAT]
        assert turns == [Edge.START, Edge.END] * (len(turns) // 2)


def test_a_condition_that_nobody_answers_becomes_more_urgent_up_to_critical() -> None:
    priorities = [condition(severity=Priority.MEDIUM, raises=raises).priority(()) for raises in range(5)]
    assert priorities == [Priority.MEDIUM, Priority.HIGH, *[Priority.CRITICAL] * 3]


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ("email", "slack")),
        ([rule(AlertType.DISK_FULL, "slack")], ("slack",)),
        ([rule(AlertType.DISK_FULL, "slack"), rule(AlertType.DISK_FULL, "email")], ("email", "slack")),
        ([rule(AlertType.WITNESS_DOWN, "slack")], ("email", "slack")),
        ([rule(AlertType.DISK_FULL, "pager")], ()),
        ([rule(AlertType.DISK_FULL, priority=Priority.CRITICAL)], ("email", "slack")),
    ],
)
def test_rules_choose_channels_and_without_one_every_channel_hears(
    rules: list[AlertRule], expected: tuple[str, ...]
) -> None:
    assert channels_for(AlertType.DISK_FULL, rules, ("email", "slack")) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], Priority.HIGH),
        ([rule(AlertType.DISK_FULL, priority=Priority.CRITICAL)], Priority.CRITICAL),
        ([rule(AlertType.DISK_FULL, "slack", Priority.LOW)], Priority.LOW),
        ([rule(AlertType.DISK_FULL, "slack")], Priority.HIGH),
        ([rule(AlertType.DOLT_DOWN, priority=Priority.LOW)], Priority.HIGH),
        (
            [rule(AlertType.DISK_FULL, None, Priority.LOW, 2), rule(AlertType.DISK_FULL, "x", Priority.MEDIUM, 1)],
            Priority.LOW,
        ),
    ],
)
def test_the_latest_rule_that_names_a_priority_decides(rules: list[AlertRule], expected: Priority) -> None:
    assert priority_of(AlertType.DISK_FULL, Priority.HIGH, rules) is expected


# --- quiet hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "at", "offset_h", "until"),
    [
        ("", "23:00", 0, None),
        ("22:00-07:00", "21:59", 0, None),
        ("22:00-07:00", "22:00", 0, "07:00"),
        ("22:00-07:00", "06:59", 0, "07:00"),
        ("22:00-07:00", "07:00", 0, None),
        ("12:00-13:30", "12:15", 0, "13:30"),
        ("12:00-13:30", "11:00", 0, None),
        ("22:00-07:00", "20:30", 2, "05:00"),
        ("22:00-07:00", "02:00", -5, None),
        ("22:00-07:00", "03:00", -5, "12:00"),
        ("08:00-08:00", "08:00", 0, None),
    ],
)
def test_quiet_hours_end_when_they_say_in_local_time(hours: str, at: str, offset_h: int, until: str | None) -> None:
    now = datetime.combine(NOON.date(), datetime.strptime(at, "%H:%M").time(), tzinfo=UTC)
    end = quiet_until(hours, now, offset_h * 3600)
    assert (None if end is None else end.strftime("%H:%M")) == until
    assert end is None or timedelta(0) < end - now <= timedelta(days=1)


# --- the pace of one channel ------------------------------------------------------------------------


def sent(queue: ChannelQueue, settings: AlertSettings, now: datetime) -> tuple[ChannelQueue, Message | None]:
    """One message on its way, and arrived."""
    queue = due("slack", queue, settings, now)
    message = queue.on_its_way
    return (queue, None) if message is None else (delivered(queue, message), message)


def filled(*notices: Notice) -> ChannelQueue:
    queue = ChannelQueue()
    for one in notices:
        queue = put(queue, one)
    return queue


def test_one_message_at_a_time_and_what_comes_meanwhile_is_bundled() -> None:
    queue = due("slack", filled(notice(1)), LOUD, NOON)
    first = queue.on_its_way
    assert first is not None
    queue = put(put(queue, notice(2)), notice(3))
    assert due("slack", queue, LOUD, NOON).on_its_way == first
    assert next_due(queue, LOUD, NOON) is None
    queue, message = sent(delivered(queue, first), LOUD, NOON)
    assert message is not None
    assert [one.id for one in message.notices] == ["c2.start.2", "c3.start.3"]
    assert queue.empty


def test_an_arrival_that_is_told_twice_changes_nothing() -> None:
    queue = due("slack", filled(notice(1)), LOUD, NOON)
    assert queue.on_its_way is not None
    after = delivered(queue, queue.on_its_way)
    assert delivered(after, queue.on_its_way) == after


def test_in_quiet_hours_only_critical_ones_pass_with_the_story_of_their_condition() -> None:
    held, story = notice(1), notice(2, about="disk")
    queue = filled(held, story, notice(3, Priority.CRITICAL, Edge.REPEAT, about="disk"))
    queue, message = sent(queue, QUIET, NIGHT)
    assert message is not None
    assert [one.id for one in message.notices] == ["disk.start.2", "disk.repeat.3"]
    assert sent(queue, QUIET, NIGHT)[1] is None
    morning = next_due(queue, QUIET, NIGHT)
    assert morning == NIGHT + timedelta(hours=8)
    _, message = sent(queue, QUIET, morning)
    assert message is not None
    assert message.notices == (held,)


def test_past_the_rate_notices_wait_for_the_next_token_and_critical_ones_have_their_own() -> None:
    slow = AlertSettings(rate=2)
    queue = ChannelQueue()
    for number in (1, 2):
        queue, message = sent(put(queue, notice(number)), slow, NOON)
        assert message is not None
    queue, message = sent(put(queue, notice(3)), slow, NOON)
    assert message is None
    assert next_due(queue, slow, NOON) == NOON + timedelta(minutes=30)
    queue, message = sent(put(queue, notice(4, Priority.CRITICAL)), slow, NOON)
    assert message is not None
    assert len(message.notices) == 2, "what waited goes along"
    later = NOON + timedelta(minutes=30)
    assert sent(put(queue, notice(5)), slow, later)[1] is not None


def test_of_a_flood_the_most_urgent_and_the_latest_are_named_and_the_rest_is_counted() -> None:
    urgent = notice(0, Priority.CRITICAL)
    queue = filled(urgent, *(notice(number) for number in range(1, 1001)))
    _, message = sent(queue, LOUD, NOON)
    assert message is not None
    assert len(message.notices) == WAITING_KEPT
    assert message.notices[0] == urgent
    assert message.notices[-1].id == "c1000.start.1000"
    assert message.more == 1001 - WAITING_KEPT


events = st.lists(
    st.tuples(
        st.integers(0, 4 * 3600),
        st.sampled_from(list(Priority)),
        st.sampled_from("abcde"),
        st.booleans(),
    ),
    max_size=60,
)
paces = st.builds(
    AlertSettings, rate=st.integers(1, 30), quiet_hours=st.sampled_from(["", "22:00-07:00", "09:00-17:30"])
)


@settings(max_examples=200)
@given(events, paces, st.sampled_from([0, 3600, -18000]))
def test_each_notice_is_in_exactly_one_message_within_the_rate_and_outside_of_quiet_hours(
    story: list[tuple[int, Priority, str, bool]], pace: AlertSettings, offset_s: int
) -> None:
    now, queue = NOON, ChannelQueue()
    told: list[Notice] = []
    messages: list[tuple[datetime, Message]] = []

    def send() -> None:
        nonlocal queue
        while (queue := due("slack", queue, pace, now, offset_s)).on_its_way is not None:
            message = queue.on_its_way
            messages.append((now, message))
            queue = delivered(queue, message)

    for number, (gap_s, priority, key, is_end) in enumerate(story):
        now += timedelta(seconds=gap_s)
        told.append(notice(number, priority, Edge.END if is_end else Edge.START, about=key))
        queue = put(queue, told[-1])
        send()
    rounds = 0
    while not queue.empty:
        wake = next_due(queue, pace, now, offset_s)
        assert wake is not None, "what waits is never forgotten"
        assert wake > now, "waiting is never in vain"
        now = wake
        send()
        rounds += 1
        assert rounds < 200

    named = [one for _, message in messages for one in message.notices]
    assert max(Counter(one.id for one in named).values(), default=1) == 1
    assert len(named) + sum(message.more for _, message in messages) == len(told)
    assert len({message.id for _, message in messages}) == len(messages)
    for key in "abcde":
        order = [one.id for one in named if one.condition == key]
        assert order == [one.id for one in told if one.id in order], "a condition's story is told in order"
    for at, message in messages:
        critical = {one.condition for one in message.notices if one.priority is Priority.CRITICAL}
        if quiet_until(pace.quiet_hours, at, offset_s) is not None:
            assert {one.condition for one in message.notices} <= critical
    for urgent in (True, False):
        moments = [
            at
            for at, message in messages
            if any(one.priority is Priority.CRITICAL for one in message.notices) is urgent
        ]
        for begin in moments:
            within = [at for at in moments if begin <= at < begin + timedelta(hours=1)]
            assert len(within) <= 2 * pace.rate, "a full bucket and an hour's refill"
