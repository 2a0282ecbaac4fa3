"""How a job stops or ends without a merge: one table for every way, and who hears of it.

Whatever no person asked for is escalated, so that it stands in `gt inbox` and `gt escalate list` with its reason and
the command that answers it. Who ends a job names its `End`; the rest follows from ENDS.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from models.ledger.records import JobState
from models.mayor.alerts import AlertType, Priority
from models.mayor.escalations import JOB_ENDED
from policies.mayor.decisions import HELP


class End(StrEnum):
    """Why a job goes no further."""

    CANCELLED = "cancelled"
    """a person's order, or decision about an escalation"""
    CLEARED = "cleared"
    """a person cleared the merge queue of its change"""
    CLOSED_ELSEWHERE = "closed_elsewhere"
    """a person closed the bead meanwhile"""
    NOTHING_TO_DO = "nothing_to_do"
    """its agent says that the bead needs no code, and why"""
    DEFERRED = "deferred"
    """its agent gave it back for later"""
    AGENT_BLOCKED = "agent_blocked"
    """its agent gave it back: it cannot go on"""
    NOTHING_CHANGED = "nothing_changed"
    """its agents ended well, again, without a change and without a word"""
    CANNOT_START = "cannot_start"
    SETUP_FAILED = "setup_failed"
    """its worktree could not be set up: no agent was started"""
    WORK_NOT_TAKEN = "work_not_taken"
    """what was handed in could not be published: the remote refuses it, as a rule"""
    BRANCH_GONE = "branch_gone"
    """accepted work vanished from the remote, and publishing it again did not help"""
    RETURNED = "returned"
    """the Refinery gave the change back for another reason"""
    REWORKS_SPENT = "reworks_spent"
    RUNS_SPENT = "runs_spent"
    """its agents die again and again"""
    STEP_FAILED = "step_failed"
    """a step on its host failed for good"""


class Ruling(NamedTuple):
    """What becomes of the job, and how people hear of it."""

    state: JobState
    asks: str = ""
    """the kind of the escalation; "" where a person asked for it, or the work is done"""
    severity: Priority = Priority.HIGH
    event: str = "blocked"
    """the line of the job's story, where its cause has no name of its own there"""


ENDS: dict[End, Ruling] = {
    End.CANCELLED: Ruling(JobState.ABANDONED, event="abandoned"),
    End.CLEARED: Ruling(JobState.ABANDONED, event="abandoned"),
    End.CLOSED_ELSEWHERE: Ruling(JobState.ABANDONED, event="closed_elsewhere"),
    End.NOTHING_TO_DO: Ruling(JobState.CLOSED, event="closed"),
    End.DEFERRED: Ruling(JobState.ABANDONED, JOB_ENDED, Priority.MEDIUM, event="abandoned"),
    End.AGENT_BLOCKED: Ruling(JobState.BLOCKED, HELP),
    End.NOTHING_CHANGED: Ruling(JobState.BLOCKED, HELP),
    End.CANNOT_START: Ruling(JobState.BLOCKED, AlertType.POLECAT_EXHAUSTED.value),
    # Not exhausted: the Mayor would give it to another polecat, where the same command fails again.
    End.SETUP_FAILED: Ruling(JobState.BLOCKED, HELP),
    End.WORK_NOT_TAKEN: Ruling(JobState.BLOCKED, HELP),
    End.BRANCH_GONE: Ruling(JobState.BLOCKED, HELP),
    End.RETURNED: Ruling(JobState.BLOCKED, HELP),
    End.REWORKS_SPENT: Ruling(JobState.BLOCKED, AlertType.MERGE_FAILED.value),
    End.RUNS_SPENT: Ruling(JobState.BLOCKED, AlertType.POLECAT_EXHAUSTED.value),
    End.STEP_FAILED: Ruling(JobState.BLOCKED, HELP),
}

ASKED_FOR = frozenset({End.CANCELLED, End.CLEARED, End.CLOSED_ELSEWHERE})
"""by a person, who knows of it"""
