"""Diagnosis of one session: what a patrol has to report about it."""

from __future__ import annotations

from models.base import Frozen
from models.jobs import ObservationKind


class SessionFacts(Frozen):
    """What one look at a session shows."""

    started: bool
    """its tmux session has been seen running once"""
    present: bool
    """the tmux session of this very attempt is there"""
    pane_dead: bool = False
    """the agent's process has ended; the pane keeps its last words"""
    done_told: bool = False
    """`gt done` was accepted and is not settled yet"""
    heartbeat_age_s: float | None = None
    """None: this agent has never beaten"""


def diagnose(facts: SessionFacts) -> ObservationKind | None:
    """What to report of a session, or None where it simply works.

    An accepted `gt done` comes before death, because agents end after it. A dead pane is dead
    however fresh its heartbeat is. A session that was never seen running cannot have died: its
    start is still under way, or will be repeated.
    """
    if facts.done_told:
        return ObservationKind.DONE
    if facts.started and (facts.pane_dead or not facts.present):
        return ObservationKind.DIED
    return None
