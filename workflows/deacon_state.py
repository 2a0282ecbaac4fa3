"""What the Deacon carries from run to run."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from models.base import Frozen
from models.supervision import WitnessPing


class Heard(Frozen):
    """The last ping of one Witness."""

    ping: WitnessPing
    at: datetime


class DeaconState(Frozen):
    """All that a Deacon knows. An empty one is a fresh start."""

    heard: dict[str, Heard] = Field(default_factory=dict)
    """by the Witness's workflow id"""
    patience: int = 1000
    """messages after which a run hands over"""
