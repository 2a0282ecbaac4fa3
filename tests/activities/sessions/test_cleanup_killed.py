"""Killed at any of its durable steps and run again, a cleanup ends as one that nobody disturbed."""

from __future__ import annotations

import pytest

from activities.crash_points import CLEANUP_POINTS
from tests.activities.sessions.desk import Desk
from tests.activities.workshop import Workshop, git

PARKED = "refs/gastown/parked/sh-1/1"
SHARED = ("session.evidence_saved", "session.ended")


@pytest.mark.parametrize("point", [*CLEANUP_POINTS, *SHARED])
def test_a_cleanup_killed_at_a_durable_step_loses_nothing_and_a_retry_finishes_it(
    desk: Desk, workshop: Workshop, point: str
) -> None:
    desk.start(
        "echo one > done.txt; git add done.txt; git commit -qm Done; echo half > half.txt; echo words; exec sleep 600"
    )
    desk.shown("words")
    desk.killed_at(point, "clean_up", desk.cleanup_request())
    done = desk.clean_up()
    assert (done.parked_ref, done.worktree_freed, done.kept_reason) == (PARKED, True, "")
    assert git(workshop.remote, "show", f"{PARKED}:half.txt") == "half"
    assert git(workshop.remote, "show", f"{PARKED}:done.txt") == "one"
    assert "words" in desk.evidence()["pane.txt"]
    assert "?? half.txt" in desk.evidence()["git-status.txt"]
    assert desk.pane() is None
    worktree = desk.paths.worktree("shop", "toast")
    assert not worktree.exists()
