"""What the Deacon carries from run to run."""

from __future__ import annotations

from pydantic import Field

from models.base import Frozen
from models.mayor.alerts import Notice
from models.mayor.escalations import Escalation, Letter
from models.supervision.messages import TownFacts
from policies.supervision.town_checks import TownMemory
from policies.supervision.watchdog import Watch, WatchClock


class DeaconState(Frozen):
    """All that a Deacon knows. An empty one is a fresh start."""

    clock: WatchClock = WatchClock()
    watches: dict[str, Watch] = Field(default_factory=dict)
    """by workflow id"""
    facts: TownFacts | None = None
    """the last that could be read"""
    town: TownMemory = TownMemory()
    """what the town checks remember"""
    letters: tuple[Letter, ...] = ()
    """not delivered yet, in order"""
    open: tuple[Escalation, ...] = ()
    """what was escalated and is not over"""
    announcements: tuple[Notice, ...] = ()
    """for people directly: not taken yet by every channel, in order"""
    announced: tuple[str, ...] = ()
    """ids of escalations that people are told of directly, since the Mayor did not work, and that are not over"""
    stopped: bool = False
    stop_reason: str = ""
    cycles: int = 0
    patience: int = 1000
    """messages after which a run hands over"""
