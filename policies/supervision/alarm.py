"""What the process supervisor's alarm tells people: a service that does not do its work, a disk that fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from models.base import Frozen
from models.mayor.alerts import AlertType, Priority
from models.settings import DiskSettings
from policies.mayor.notification_rules import Condition
from policies.supervision.town_checks import DISK_SLACK

SHORT_LIVES = 5
"""ends soon after the start, in a row: it cannot be kept alive"""
OUTAGE_S = 15.0
"""a server that did its work and does not any more; its restart takes seconds, and people hear within 30 s"""
STARTING_S = 60.0
"""what a start may take: of a service that has not been seen at work yet, and of a worker, which is started often"""


class ServiceLook(Frozen):
    """How a service that ought to run is found."""

    name: str
    type: AlertType = AlertType.HOST_LOST
    short_lives: int = 0
    """how often in a row it ended soon after its start; 0: it is steady"""
    ailment: str = ""
    """what keeps it from doing its work; "": nothing"""
    ailing_s: float = 0.0
    """for how long, counted while somebody looked"""
    may_start: bool = True
    """it has as long as a start may take; False: it is given the time of a restart"""
    command: str = ""
    """what a person can run about it"""


def service_conditions(
    looks: Iterable[ServiceLook], told: Mapping[str, Condition], host: str, now: datetime
) -> dict[str, Condition]:
    """Which services people ought to know to be down.

    One that was told lasts until the service does its work again, so that a service between two short lives is
    not called well. What is not looked at, because a person has stopped it, is over.
    """
    found: dict[str, Condition] = {}
    for look in looks:
        key = f"service:{look.name}@{host}"
        before = told.get(key)
        failing = look.short_lives >= SHORT_LIVES
        down = bool(look.ailment) and look.ailing_s >= (STARTING_S if look.may_start else OUTAGE_S)
        well = not look.ailment and not look.short_lives
        if before is not None and not well:
            found[key] = before
        elif failing or down:
            what = "keeps ending soon after its start" if failing else f"does not do its work: {look.ailment}"
            ledger = look.type is AlertType.DOLT_DOWN
            found[key] = Condition(
                key=key,
                since=now,
                type=look.type,
                severity=Priority.CRITICAL,
                title=f"{look.name} of {host} {what}",
                body="Jobs go on; what they write waits until it is back."
                if ledger
                else "Nothing is watched, recovered or merged there meanwhile.",
                source=f"supervisor of {host}",
                command=look.command,
            )
    return found


def disk_conditions(
    used_percent: float, settings: DiskSettings, told: Mapping[str, Condition], host: str, now: datetime
) -> dict[str, Condition]:
    """Which thresholds people ought to know to be passed; one that was told ends a little below its threshold."""
    found: dict[str, Condition] = {}
    for name, limit, severity, note in (
        ("warn", settings.warn_percent, Priority.HIGH, ""),
        ("stop", settings.stop_percent, Priority.CRITICAL, "No further work is started until there is room."),
    ):
        key = f"disk:{name}@{host}"
        before = told.get(key)
        if used_percent < (limit if before is None else limit - DISK_SLACK):
            continue
        found[key] = before or Condition(
            key=key,
            since=now,
            type=AlertType.DISK_FULL,
            severity=severity,
            title=f"{used_percent:.0f} % of the town's disk on {host} are used",
            body=note,
            source=f"supervisor of {host}",
            command="gt polecat parked expire",
        )
    return found
