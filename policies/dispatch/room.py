"""What fits into what a rig's long-lived workflow carries: Temporal takes no message above 2 MB, and a run that cannot
hand over hears nothing any more. What does not fit waits in the ledger, and comes in when there is room.

Pure. Sizes are of JSON, in bytes, rounded up: of what a job or a change may grow to while it is carried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from models.ledger.records import MergeRequest

JOBS_BYTES: Final = 1_400_000
"""of all jobs of a Dispatcher; some 1,700 with a URL of 60 characters"""
CHANGES_BYTES: Final = 800_000
"""of all changes in a Refinery's queue, which remembers verdicts beside them; some 800"""
AT_ONCE: Final = 50
"""jobs or changes that come in from the ledger in one cycle"""
_JOB: Final = 700
"""a job with its names, its polecat and what it asks for"""
_CHANGE: Final = 600
"""a change's ids, commits and marks"""
USUAL_CHANGE: Final = 1_000
"""a change as most are, with all that it may come to take"""
REASON_LENGTH: Final = 300
"""characters of why the last merge of a change did not finish"""


def job_bytes(whereabouts: str, dependencies: Iterable[str]) -> int:
    """What a job may come to take.

    Args:
        whereabouts: of its rig; what the job takes it to be is carried twice.
        dependencies: beads that it waits for.
    """
    return _JOB + 2 * len(whereabouts.encode()) + sum(len(bead) + 3 for bead in dependencies)


def change_bytes(request: MergeRequest) -> int:
    """What a change in the queue may come to take."""
    words = (request.title, request.branch, request.target)
    bases = sum(len(base.target.encode()) + len(base.sha) + 24 for base in request.bases)
    return _CHANGE + REASON_LENGTH + sum(len(word.encode()) for word in words) + bases


def has_room(carried: Iterable[int], more: int, limit: int) -> bool:
    """Whether one of `more` bytes fits beside what is carried."""
    return sum(carried) + more <= limit


def room_for(carried: Iterable[int], each: int, limit: int) -> int:
    """How many of `each` bytes come in now."""
    return min(max(limit - sum(carried), 0) // each, AT_ONCE)
