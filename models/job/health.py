"""What a patrol sees of a session, what it makes of it, and the limits that it judges by."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from models.base import Frozen
from models.settings import HealthSettings


class HealthKind(StrEnum):
    """The verdicts of `policies.job.health.diagnose` (product.md section 4)."""

    HEALTHY = "healthy"
    STALE = "stale"
    """heartbeat too old; may recover within the grace"""
    RECOVERED = "recovered"
    """was stale, stuck or waiting, and works again"""
    UNRESPONSIVE = "unresponsive"
    """pane, session or tmux server gone; or stale for as long as the grace; or too long a session"""
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


class Sparse(Frozen):
    """Written without what has its default: one of these per session travels with each report, both ways."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {name: value for name, value in written.items() if getattr(self, name) != fields[name].default}


class Sighting(Sparse):
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
    """HEAD, index and work tree unchanged for this long; each attempt, so each phase of its job, begins anew"""
    output_age_s: float = 0.0
    session_age_s: float = 0.0
    verdict_age_s: float = 0.0
    """the verdict before has stood for this long"""
    tail: str = ""
    """last lines of the pane; read only where the verdict may depend on them"""


class Diagnosis(Sparse):
    """A verdict and how it came about; `gt why` shows it."""

    kind: HealthKind
    rule: str
    """name of the rule that fired"""
    reason: str = Field("", description="one line for people, with the figures that decided")


class HealthReport(Sparse):
    """What the last look made of one attempt, and all that a fresh watcher needs to go on from there.

    `diagnose(sighting, thresholds, earlier)` gave `diagnosis`.
    """

    polecat: str
    attempt: int
    sighting: Sighting
    """its tail is short, and empty unless the verdict depended on it"""
    earlier: HealthKind | None = None
    """the verdict before; None: this was the first look"""
    diagnosis: Diagnosis
    episode: str = ""
    """of the current or last accusation; goes into the keys of what was reported of it"""
    beat: int = 0
    """of the heartbeat file: modification time in ns; 0: has never beaten"""
    output_at: int = 0
    """Unix time that tmux gives for the last output; only compared, never subtracted"""
    progress: str = ""
    """fingerprint; only compared"""


class Zombie(Frozen):
    """A session or an open attempt whose job is over, or that a newer attempt has superseded."""

    rig: str
    polecat: str
    bead: str
    attempt: int
    session_lives: bool
    """False: only its folder and worktree are left"""
    age_s: float
    """seen as such for this long; an end that is under way is seen as one for a moment"""
    reason: str = ""
