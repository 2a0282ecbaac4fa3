"""Where tests kill: every durable step of the main path announces itself here.

In production nothing is armed and `crash_point` returns at once. A test arms one point through
the environment: GT_CRASH_POINT names it, GT_CRASH_MARK names a file that remembers that the kill
has happened, so that the restarted process runs on.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

JOB_POINTS: Final[tuple[str, ...]] = (
    "attempt.worktree_ready",
    "attempt.folder_written",
    "attempt.session_started",
    "work.verified",
    "work.pushed",
    "work.intent_settled",
    "session.evidence_saved",
    "session.ended",
    "worktree.parked",
    "worktree.released",
    "chain.fetched",
    "chain.built",
    "gate.checked_out",
    "gate.started",
    "gate.finished",
    "land.before_push",
    "land.pushed",
    "land.verified",
    "land.branches_deleted",
    "land.confirmed",
    "ledger.before_commit",
    "ledger.committed",
    "mayor.told",
    "notice.logged",
)
"""On the way of every job; each is killed at in tests/e2e/test_crash_points.py."""

CLEANUP_POINTS: Final[tuple[str, ...]] = (
    "cleanup.evidence_saved",
    "cleanup.parked",
    "cleanup.sessions_ended",
    "cleanup.parked_again",
    "cleanup.freed",
)
"""Each is killed at in tests/activities/sessions/test_cleanup_killed.py."""

CHECKPOINT_POINTS: Final[tuple[str, ...]] = ("checkpoint.committed", "checkpoint.pushed")
"""Each is killed at in tests/activities/git/test_checkpoints_killed.py."""

NUDGE_POINTS: Final[tuple[str, ...]] = ("nudge.pasted", "nudge.entered")
"""Each is killed at in tests/activities/sessions/test_cleanup.py."""

CRASH_POINTS: Final = (*JOB_POINTS, *CLEANUP_POINTS, *CHECKPOINT_POINTS, *NUDGE_POINTS)
"""Every registered point; a test fails when code names another, or when one is never reached."""


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if the test armed `name` and it has not fired yet."""
    if os.environ.get("GT_CRASH_POINT") != name:
        return
    mark = Path(os.environ["GT_CRASH_MARK"])
    try:
        handle = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.fsync(handle)
    os.close(handle)
    os.kill(os.getpid(), signal.SIGKILL)
