"""What the watchers of watchers decide: who is accused, who is restarted, and when a person is called."""

from __future__ import annotations

from datetime import datetime, timedelta

from models.settings import RecoverySettings
from models.supervision import Probe, ProbeResult

WEDGED_AGAIN = "its code fails again after a restart"


def may_boot_restart(
    found: Probe, restarts: tuple[datetime, ...], escalated: bool, now: datetime, settings: RecoverySettings
) -> str:
    """Whether Boot restarts a Deacon that it finds so.

    Args:
        restarts: earlier ones by Boot.
        escalated: the last restart did not help, and a person was told.

    Returns:
        "" for yes, else why not.
    """
    if escalated and found.result is ProbeResult.WEDGED:
        return WEDGED_AGAIN
    recent = within_window(restarts, now, settings)
    if len(recent) >= settings.max_retries:
        return f"{len(recent)} restarts within {settings.window} s did not help"
    return ""


def within_window(restarts: tuple[datetime, ...], now: datetime, settings: RecoverySettings) -> tuple[datetime, ...]:
    """Those that count: a time in the future is of a clock that was set back since."""
    window = timedelta(seconds=settings.window)
    return tuple(at for at in restarts if timedelta(0) <= now - at < window)
