"""What a merge makes of host work that has failed: who has to act, and when it is tried again.

Pure. Work that fails for what is outside (the remote, a full disk, a worker that is gone) is tried for ever, less and
less often, and a person is told. Everything else was tried a few times already and is the business of those who asked:
the chain of one of its changes, the gate of its candidate.
"""

from __future__ import annotations

from datetime import timedelta

from models.errors import ErrorCode

OUTSIDE = frozenset(
    code.value
    for code in (
        ErrorCode.REMOTE_UNREACHABLE,
        ErrorCode.DISK_FULL,
        ErrorCode.TIMED_OUT,
        ErrorCode.TEMPORAL_UNREACHABLE,
        ErrorCode.LEDGER_UNREACHABLE,
    )
)
"""nobody's change is the reason, and waiting helps"""
OF_THE_TARGET = frozenset(
    code.value
    for code in (
        ErrorCode.NO_SUCH_BRANCH,
        ErrorCode.NOT_FOUND,
        ErrorCode.NOT_A_REPOSITORY,
        ErrorCode.REMOTE_REFUSED,
        ErrorCode.PROGRAM_MISSING,
    )
)
"""the host, the remote or the target is the reason, and waiting does not help"""
_FIRST, _LAST = timedelta(seconds=5), timedelta(minutes=1)
TOLD_AFTER = timedelta(minutes=5)
"""work that has not come about for so long is told to a person, and tried on"""


def waits_for_outside(kind: str | None) -> bool:
    """Whether work that failed so is tried again until it succeeds.

    Args:
        kind: the error's code; None: a time limit, or a worker that is gone.
    """
    return kind is None or kind in OUTSIDE


def may_be_a_change(kind: str | None) -> bool:
    """Whether work that failed so may have failed for what is in one change's tree."""
    return not waits_for_outside(kind) and kind not in OF_THE_TARGET


def pause_after(failures: int) -> timedelta:
    """How long to wait before work that fails for what is outside is tried again."""
    return min(_FIRST * int(2 ** min(failures - 1, 10)), _LAST)


def is_overdue(waited: timedelta, expected: timedelta, *, failed: bool) -> bool:
    """Whether a person must hear of work that has been waited for so long.

    Args:
        expected: how long it may take when all is well.
        failed: it is tried again after a failure.
    """
    return waited >= (TOLD_AFTER if failed else expected + TOLD_AFTER)
