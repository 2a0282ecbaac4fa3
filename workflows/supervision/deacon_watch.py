"""The Witness's line to the Deacon: a ping each cycle, and an alarm when nobody answers."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow

from models.errors import Level
from models.mayor.alerts import AlertType, Priority
from models.supervision.messages import DeaconPong, WitnessPing
from workflows.supervision.witness_faults import Faults
from workflows.supervision.witness_state import WitnessState

LATE = timedelta(seconds=30)
"""A look that comes this much later than it was meant to: nobody watched meanwhile, so nobody is accused."""
DOWN = "deacon_down"


class DeaconWatch:
    """Second-order watch, from below: the Deacon's silence is counted while this Witness runs."""

    def __init__(self, state: WitnessState, faults: Faults) -> None:
        self._state = state
        self._faults = faults

    def heard(self, ping: WitnessPing, pong: DeaconPong | None) -> None:
        """The Deacon has answered this ping, or not."""
        if pong is not None and pong.number >= ping.number:
            self._state.deacon.answered, self._state.deacon.silent_s = True, 0.0
            self._faults.end(DOWN, "the Deacon answers again")

    def look(self) -> None:
        """Count the silence since the last look. After a gap it begins anew."""
        line, now = self._state.deacon, workflow.now()
        if line.due_at is not None and now - line.due_at > LATE:
            line.silent_s = 0.0
        elif line.looked_at is not None and not line.answered:
            line.silent_s += max((now - line.looked_at).total_seconds(), 0.0)
        line.looked_at = now

    def judge(self) -> None:
        """Call the Mayor when the Deacon has been silent for too long."""
        silent_s, limit_s = self._state.deacon.silent_s, self._state.settings.health.deacon_timeout
        if silent_s >= limit_s:
            message = f"the Deacon has not answered the Witness of {self._state.rig} for {silent_s:.0f} s"
            self._faults.begin(
                DOWN,
                AlertType.DEACON_DOWN,
                message,
                level=Level.L3,
                severity=Priority.CRITICAL,
                tried=f"{self._state.deacon.number} pings so far; Boot restarts it every 5 minutes",
            )

    def deadline(self) -> datetime | None:
        """When its silence will have lasted too long; None while it has answered, or is known to be down."""
        line = self._state.deacon
        if line.answered or DOWN in self._state.faults:
            return None
        left_s = max(self._state.settings.health.deacon_timeout - line.silent_s, 0.0)
        return workflow.now() + timedelta(seconds=left_s)
