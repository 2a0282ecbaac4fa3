"""What a patrol sees of a session, what it makes of it, and the limits that it judges by."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from models.base import Frozen
from models.settings import HealthSettings


class HealthKind(StrEnum):
    """The verdicts of `policies.health.diagnose` (product.md section 4)."""

    HEALTHY = "healthy"
    STALE = "stale"
    """heartbeat too old; may recover within the grace"""
    RECOVERED = "recovered"
    """was stale, stuck or waiting, and works again"""
    UNRESPONSIVE = "unresponsive"
    """pane, session or tmux server gone; or stale for longer than the grace; or too long a session"""
    STUCK = "stuck"
    """no progress for too long"""
    WAITING_FOR_INPUT = "waiting_for_input"
    """stuck, and the pane shows a known prompt"""
    ZOMBIE = "zombie"
    """the job is over, or this attempt is superseded"""
    FINISHED_WITHOUT_DONE = "finished_without_done"
    """the agent ended with exit code 0 and never ran `gt done`"""


class Thresholds(Frozen):
    """When a session is no longer healthy; seconds."""

    polecat_timeout_s: float
    grace_s: float
    stuck_timeout_s: float
    session_timeout_s: float = 0.0
    """0: a session may last for ever"""

    @classmethod
    def of(cls, settings: HealthSettings) -> Thresholds:
        return cls(
            polecat_timeout_s=settings.polecat_timeout,
            grace_s=settings.grace,
            stuck_timeout_s=settings.stuck_timeout,
            session_timeout_s=settings.session_timeout,
        )


class Sighting(Frozen):
    """What one look at one attempt's session shows. Ages are seconds, counted only while somebody watched."""

    started: bool
    """its tmux session has been seen running once"""
    present: bool
    """the tmux session of this very attempt is there"""
    pane_dead: bool = False
    """the agent's process has ended; the pane keeps its last words"""
    exit_code: int | None = None
    """of a dead pane, as a shell would number it; None: not known"""
    done_told: bool = False
    """`gt done` was accepted and is not settled yet"""
    superseded: bool = False
    """the job is over, or a newer attempt of the bead exists"""
    heartbeat_age_s: float | None = None
    """None: this agent neither declares heartbeats nor has ever beaten"""
    progress_age_s: float = 0.0
    """HEAD, index, work tree and phase unchanged for this long"""
    output_age_s: float = 0.0
    session_age_s: float = 0.0
    tail: str = ""
    """last lines of the pane; read only where the verdict may depend on them"""


class Diagnosis(Frozen):
    """A verdict and how it came about; `gt why` shows it."""

    kind: HealthKind
    rule: str
    """name of the rule that fired"""
    reason: str = Field("", description="one line for people, with the figures that decided")
