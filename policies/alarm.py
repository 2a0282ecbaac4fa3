"""What the process supervisor's alarm tells people: services without which nothing else could tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from models.alerts import AlertType, Priority
from models.base import Frozen
from policies.alerts import Condition

SHORT_LIVES = 5
"""ends soon after the start, in a row: it cannot be kept alive"""
AILING_S = 60.0
"""a service that runs but does not do its work may be starting for this long"""


class ServiceLook(Frozen):
    """How a service that ought to run is found."""

    name: str
    short_lives: int = 0
    """how often in a row it ended soon after its start; 0: it is steady"""
    ailment: str = ""
    """what keeps it from doing its work; "": nothing"""
    ailing_s: float = 0.0
    """for how long, counted while somebody looked"""


def holding(
    looks: Iterable[ServiceLook], told: Mapping[str, Condition], host: str, now: datetime
) -> dict[str, Condition]:
    """The conditions that people ought to know of.

    One that was told lasts until the service does its work again, so that a service between two short lives is
    not called well. What is not looked at, because a person has stopped it, is over.
    """
    found: dict[str, Condition] = {}
    for look in looks:
        key = f"service:{look.name}@{host}"
        before = told.get(key)
        failing = look.short_lives >= SHORT_LIVES
        hanging = bool(look.ailment) and look.ailing_s >= AILING_S
        well = not look.ailment and not look.short_lives
        if before is not None and not well:
            found[key] = before
        elif failing or hanging:
            what = "keeps ending soon after its start" if failing else f"does not do its work: {look.ailment}"
            found[key] = Condition(
                key=key,
                since=now,
                type=AlertType.HOST_LOST,
                severity=Priority.CRITICAL,
                title=f"{look.name} of {host} {what}",
                body="Nothing is watched, recovered or merged there meanwhile.",
                source=f"supervisor of {host}",
                command=f"less logs/{look.name}.log",
            )
    return found
