"""Alerts: what is told to people, by which rule, under which priority."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from models.base import Frozen
from models.choices import AlertType as AlertType
from models.choices import Priority as Priority
from models.settings import AlertSettings, DeadmanSettings, DiskSettings


class AlertRule(Frozen):
    """A person's word about one type of alert. Its key is (type, channel)."""

    type: AlertType
    channel: str | None = None
    """a channel's name; None: the rule says nothing about channels"""
    priority: Priority | None = None
    """None: the rule says nothing about priority"""
    created_at: datetime


class Edge(StrEnum):
    START = "start"
    END = "end"
    REPEAT = "repeat"
    """still unanswered"""


class Notice(Frozen):
    """One thing to be told to people. The id is the key: telling it twice is one."""

    id: str
    condition: str = ""
    """the key of what it is about: start and end of one condition share it"""
    type: AlertType
    priority: Priority
    edge: Edge
    title: str
    """one line"""
    body: str = ""
    source: str
    """workflow id, service or person"""
    command: str = ""
    """what a person can run about it"""
    at: datetime


class Notices(Frozen):
    """Notices to be written down here, whatever becomes of them elsewhere."""

    notices: tuple[Notice, ...]


class Message(Frozen):
    """What one channel is sent at one time. The id is the key: sending it twice is one."""

    id: str
    channel: str
    notices: tuple[Notice, ...]
    """in the order in which they happened"""
    more: int = 0
    """notices that are counted here only; the log has them"""


class AlertMirror(Frozen):
    """What the record says about alerts, in a file of the town: it is read while the ledger is down."""

    rules: tuple[AlertRule, ...] = ()
    alerts: AlertSettings = AlertSettings()
    deadman: DeadmanSettings = DeadmanSettings()
    disk: DiskSettings = DiskSettings()


class Alerting(AlertMirror):
    """Everything that decides who hears of an alert."""

    channels: tuple[str, ...] = ()
    """names of the channels that have a URL"""
    utc_offset_s: int = 0
    """of this machine's time, for quiet hours"""


class ChannelFailure(Frozen):
    """A channel that does not take what it is sent."""

    channel: str
    since: datetime
    tries: int
    error: str
    """as the service put it, without secrets"""
    title: str
    """of the message that waits"""


class ChannelNames(Frozen):
    """The channels that had a URL when their list was last read."""

    names: tuple[str, ...] = ()


class Outage(Frozen):
    """What a host's alarm has told people, and when."""

    type: AlertType
    since: datetime
    until: datetime | None = None
    """None: it lasts"""
    title: str = ""


class AlarmSigns(Frozen):
    """What the alarm of a host's supervisor watches, and what it has found lately."""

    tells: tuple[AlertType, ...] = ()
    """kinds of which it tells people both edges itself"""
    outages: tuple[Outage, ...] = ()
    """those that last, and the latest that are over"""
