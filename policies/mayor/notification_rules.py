"""Who hears of what, and when: routes, edges, and the pace of each channel.

Three steps, each a pure function of what is passed in:

1. `edges` compares the conditions that hold now with those that people were told of. A condition is told once
   when it starts, once when it ends, and once each time that nobody answered in time.
2. `channels_for` and `priority_of` apply people's rules.
3. A `ChannelQueue` collects what one channel has not been sent yet. `due` says what may go now: at most one
   message is on its way, a token bucket bounds messages an hour, quiet hours let critical ones pass. What
   has to wait is bundled into the next message, so that a flood becomes few messages and none of its
   notices is lost: each is in exactly one message, named or counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta
from math import ceil

from models.base import Frozen
from models.mayor.alerts import AlertRule, AlertType, Edge, Message, Notice, Priority
from models.settings import AlertSettings

WAITING_KEPT = 20
"""notices that one channel's next message names; further ones are counted"""
FULL = 1.0 - 1e-6
"""of a token; so that rounding never keeps a message back"""
HOUR = timedelta(hours=1)


# --- edges ------------------------------------------------------------------------------------


class Condition(Frozen):
    """Something that people ought to know of for as long as it holds."""

    key: str
    since: datetime
    type: AlertType
    severity: Priority
    """as it was when it started"""
    raises: int = 0
    """by how many steps it became more urgent since, of itself or because nobody answered"""
    tellings: int = 0
    """further questions about it since"""
    title: str
    body: str = ""
    source: str
    command: str = ""

    def priority(self, rules: Iterable[AlertRule]) -> Priority:
        """How urgent it is by now."""
        priority = priority_of(self.type, self.severity, rules)
        for _ in range(min(self.raises, len(Priority))):
            priority = priority.raised()
        return priority

    def notice(self, edge: Edge, priority: Priority, at: datetime) -> Notice:
        which = f"{edge.value}.{self.raises}.{self.tellings}" if edge is Edge.REPEAT else edge.value
        return Notice(
            id=f"{self.key}@{int(self.since.timestamp() * 1000)}.{which}",
            condition=self.key,
            type=self.type,
            priority=priority,
            edge=edge,
            title=self.title,
            body=self.body,
            source=self.source,
            command="" if edge is Edge.END else self.command,
            at=at,
        )


def edges(
    told: Mapping[str, Condition], holding: Mapping[str, Condition], rules: Sequence[AlertRule], now: datetime
) -> list[Notice]:
    """What people have to be told so that they know what holds now.

    A condition that ended and came back meanwhile (`since` differs) is told as an end and a start.
    """
    notices = []
    for key, before in told.items():
        after = holding.get(key)
        if after is None or after.since != before.since:
            notices.append(before.notice(Edge.END, before.priority(rules), now))
    for key, after in holding.items():
        known = told.get(key)
        if known is None or known.since != after.since:
            notices.append(after.notice(Edge.START, after.priority(rules), now))
        elif (after.raises, after.tellings) > (known.raises, known.tellings):
            notices.append(after.notice(Edge.REPEAT, after.priority(rules), now))
    return notices


# --- rules ------------------------------------------------------------------------------------


def priority_of(type: AlertType, severity: Priority, rules: Iterable[AlertRule]) -> Priority:
    """The priority of the latest rule that names one for this type, else the severity it came with."""
    named = [rule for rule in rules if rule.type is type and rule.priority is not None]
    latest = max(named, key=lambda rule: rule.created_at, default=None)
    return severity if latest is None or latest.priority is None else latest.priority


def channels_for(type: AlertType, rules: Iterable[AlertRule], channels: Sequence[str]) -> tuple[str, ...]:
    """Which of `channels`, those that have a URL, hear of a type.

    The ones that rules name for it; all of them where no rule names one, so that a channel that was added
    is never silent for want of a rule. A channel without a URL hears nothing: log, terminal and inbox do.
    """
    named = {rule.channel for rule in rules if rule.type is type and rule.channel is not None}
    return tuple(channel for channel in channels if not named or channel in named)


# --- the pace of one channel ------------------------------------------------------------------


class Bucket(Frozen):
    """A token bucket: full at first, refilled over an hour."""

    spent: float = 0.0
    at: datetime | None = None

    def level(self, rate: int, now: datetime) -> float:
        """Tokens at hand."""
        if self.at is None:
            return float(rate)
        refilled = max((now - self.at) / HOUR, 0.0) * rate
        return float(rate) - max(self.spent - refilled, 0.0)

    def take(self, rate: int, now: datetime) -> Bucket:
        return Bucket(spent=rate - self.level(rate, now) + 1.0, at=now)

    def next_token(self, rate: int, now: datetime) -> datetime:
        """When there will be a whole token, in whole seconds from now."""
        missing = max(FULL - self.level(rate, now), 0.0)
        return now + timedelta(seconds=ceil(missing / rate * HOUR.total_seconds()))


class ChannelQueue(Frozen):
    """What one channel has not been sent yet."""

    waiting: tuple[Notice, ...] = ()
    more: int = 0
    bucket: Bucket = Bucket()
    urgent: Bucket = Bucket()
    """of messages that hold something critical: others never use up theirs"""
    on_its_way: Message | None = None

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.more and self.on_its_way is None


def put(queue: ChannelQueue, notice: Notice) -> ChannelQueue:
    """The queue with one more notice; past WAITING_KEPT the oldest of the least urgent is only counted."""
    waiting = (*queue.waiting, notice)
    if len(waiting) <= WAITING_KEPT:
        return queue.model_copy(update={"waiting": waiting})
    least = min(waiting, key=lambda one: one.priority.rank)
    kept = tuple(one for one in waiting if one is not least)
    return queue.model_copy(update={"waiting": kept, "more": queue.more + 1})


def due(
    channel: str, queue: ChannelQueue, settings: AlertSettings, now: datetime, utc_offset_s: int = 0
) -> ChannelQueue:
    """The queue with the message that may be sent now as `on_its_way`; unchanged when there is none."""
    if queue.on_its_way is not None:
        return queue
    going, urgent, quiet_end = _next(queue, settings, now, utc_offset_s)
    bucket = queue.urgent if urgent else queue.bucket
    something = going or (queue.more and quiet_end is None)
    if not something or bucket.level(settings.rate, now) < FULL:
        return queue
    everything = len(going) == len(queue.waiting)
    staying = tuple(notice for notice in queue.waiting if notice not in going)
    message = Message(
        id=_message_id(channel, going, queue.more if everything else 0, now),
        channel=channel,
        notices=going,
        more=queue.more if everything else 0,
    )
    spent = {"urgent" if urgent else "bucket": bucket.take(settings.rate, now)}
    more = 0 if everything else queue.more
    return queue.model_copy(update={"waiting": staying, "more": more, "on_its_way": message, **spent})


def next_due(queue: ChannelQueue, settings: AlertSettings, now: datetime, utc_offset_s: int = 0) -> datetime | None:
    """When `due` may have something to send, unless a notice comes before; None: not by waiting."""
    if queue.on_its_way is not None or (not queue.waiting and not queue.more):
        return None
    going, urgent, quiet_end = _next(queue, settings, now, utc_offset_s)
    if going or quiet_end is None:
        bucket = queue.urgent if urgent else queue.bucket
        return bucket.next_token(settings.rate, now)
    return quiet_end


def delivered(queue: ChannelQueue, message: Message) -> ChannelQueue:
    """The queue after `message` has arrived."""
    arrived = queue.on_its_way is not None and queue.on_its_way.id == message.id
    return queue.model_copy(update={"on_its_way": None}) if arrived else queue


def _next(
    queue: ChannelQueue, settings: AlertSettings, now: datetime, utc_offset_s: int
) -> tuple[tuple[Notice, ...], bool, datetime | None]:
    """What would go now if the bucket allows; whether something critical is in it; when quiet hours end."""
    critical = {notice.condition for notice in queue.waiting if notice.priority is Priority.CRITICAL}
    quiet_end = quiet_until(settings.quiet_hours, now, utc_offset_s)
    if quiet_end is None:
        return queue.waiting, bool(critical), None
    # What waits of the same condition goes along, so that its story arrives in order.
    return tuple(notice for notice in queue.waiting if notice.condition in critical), bool(critical), quiet_end


def quiet_until(quiet_hours: str, now: datetime, utc_offset_s: int = 0) -> datetime | None:
    """When the quiet hours that hold now end; None outside of them.

    Args:
        quiet_hours: like `22:00-07:00`, in local time; "" or equal ends: none.
        now: UTC.
        utc_offset_s: local time minus UTC.
    """
    if not quiet_hours:
        return None
    begin, end = (time.fromisoformat(part) for part in quiet_hours.split("-"))
    local = now + timedelta(seconds=utc_offset_s)
    since_begin = _after(begin, local)
    length = _after(begin, datetime.combine(local.date(), end, tzinfo=local.tzinfo))
    return now + (length - since_begin) if since_begin < length else None


def _after(begin: time, moment: datetime) -> timedelta:
    """Time of day that has passed since `begin`, around the clock."""
    start = datetime.combine(moment.date(), begin, tzinfo=moment.tzinfo)
    return (moment - start) % timedelta(days=1)


def _message_id(channel: str, notices: Sequence[Notice], more: int, now: datetime) -> str:
    story = "\n".join([channel, *(notice.id for notice in notices), str(more), "" if notices else now.isoformat()])
    return f"{channel}-{hashlib.sha256(story.encode()).hexdigest()[:16]}"
