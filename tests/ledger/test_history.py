"""What was, who changed it and why; on both engines."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.history import BeadDifference, DifferenceKind
from models.ledger.records import BeadChanges, BeadStatus
from tests.ledger.records import SHA, a_bead, a_merge, a_write


def failure_of(action: Callable[[], object]) -> GtError:
    with pytest.raises(GtError) as failure:
        action()
    return failure.value


def next_second() -> datetime:
    """A moment with everything before it in an earlier second: commits are told apart to the second."""
    now = datetime.now(UTC)
    time.sleep((1_000_000 - now.microsecond) / 1e6 + 0.01)
    return now.replace(microsecond=0)


def test_the_log_tells_every_commit_newest_first(ledger: Ledger) -> None:
    ledger.author = "ada"
    bead = a_bead(ledger).id
    ledger.close_bead(bead, "wontfix")
    told = ledger.log(limit=3)
    assert [(entry.by, entry.message) for entry in told] == [
        ("ada", f"{bead}: closed (wontfix)"),
        ("ada", f"{bead}: created (Fix the login page)"),
        ("ada", "rig shop: added"),
    ]
    assert told[0].commit == ledger.bead_history(bead)[-1].commit
    assert ledger.log()[:3] == told
    assert abs(datetime.now(UTC) - told[0].at) < timedelta(minutes=1)


def test_a_bead_is_shown_as_it_was_at_a_commit(ledger: Ledger) -> None:
    need = a_bead(ledger, "need").id
    first = a_bead(ledger, dependencies=(need,), labels=("ui",))
    created = ledger.log(limit=1)[0]
    ledger.update_bead(first.id, BeadChanges(title="New words", priority=0))
    changed = ledger.bead(first.id)
    ledger.remove_dependency(first.id, need)
    ledger.change_labels(first.id, add=["slow"], remove=["ui"])
    ledger.record_job([a_write(first.id, 1, 1), a_merge(first.id, 1, 2)])
    assert ledger.bead_as_of(first.id, created.commit) == (first, created)
    assert ledger.bead_as_of(first.id, created.commit[:8])[0] == first
    renamed = ledger.bead_history(first.id)[1].commit
    assert ledger.bead_as_of(first.id, renamed)[0] == changed
    assert ledger.bead_as_of(first.id, ledger.log(limit=1)[0].commit)[0] == ledger.bead(first.id)


def test_a_bead_is_shown_as_it_was_at_a_time(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    then = next_second()
    ledger.close_bead(bead.id, "wontfix")
    assert ledger.bead_as_of(bead.id, then)[0] == bead
    zone = datetime.now().astimezone().tzinfo
    assert ledger.bead_as_of(bead.id, then.astimezone(zone))[0] == bead
    assert ledger.bead_as_of(bead.id, datetime.now(UTC) + timedelta(days=1))[0].status is BeadStatus.CLOSED


def test_what_was_not_there_yet_is_not_found(ledger: Ledger) -> None:
    first = a_bead(ledger)
    before = ledger.log(limit=1)[0].commit
    late = a_bead(ledger, "late")
    for moment in (before, datetime(1969, 1, 1, tzinfo=UTC), "0000000", first.created_at - timedelta(days=1)):
        failure = failure_of(lambda moment=moment: ledger.bead_as_of(late.id, moment))  # type: ignore[misc]
        assert failure.code is ErrorCode.NOT_FOUND
    for moment in ("main", "HEAD~1", "a'; --", "", "0" * 70):
        failure = failure_of(lambda moment=moment: ledger.bead_as_of(late.id, moment))  # type: ignore[misc]
        assert failure.code is ErrorCode.INVALID_VALUE


def test_a_difference_names_what_came_changed_and_went(ledger: Ledger) -> None:
    kept, need = a_bead(ledger, "kept"), a_bead(ledger, "need", labels=("ui",))
    start = ledger.log(limit=1)[0]
    ledger.update_bead(kept.id, BeadChanges(title="renamed"))
    ledger.add_dependency(kept.id, need.id)
    ledger.change_labels(need.id, remove=["ui"])
    ledger.add_comment(need.id, "ada", "why?")
    middle = ledger.log(limit=1)[0]
    new = a_bead(ledger, "new")
    told = ledger.difference(start.commit)
    assert (told.older, told.newer) == (start, ledger.log(limit=1)[0])
    by_bead = {one.bead: one for one in told.beads}
    assert by_bead[kept.id] == BeadDifference(
        bead=kept.id, title="renamed", kind=DifferenceKind.CHANGED,
        changes={"title": ("kept", "renamed"), "dependencies": ([], [need.id])},
    )  # fmt: skip
    assert by_bead[need.id].changes == {"labels": (["ui"], []), "comments": ([], ["why?"])}
    assert (by_bead[new.id].kind, by_bead[new.id].changes["title"]) == (DifferenceKind.ADDED, (None, "new"))
    assert [one.bead for one in ledger.difference(middle.commit).beads] == [new.id]
    assert {one.bead for one in ledger.difference(start.commit, middle.commit).beads} == {kept.id, need.id}
    assert ledger.difference(told.newer.commit).beads == ()


def test_a_difference_since_before_the_first_commit_is_all_there_is(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    told = ledger.difference(datetime(1969, 12, 31, tzinfo=UTC))
    assert [(one.bead, one.kind) for one in told.beads] == [(bead.id, DifferenceKind.ADDED)]


def test_a_merge_is_in_the_history_with_its_commit(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1), a_merge(bead, 1, 2, detail="green on mill")])
    entry = ledger.bead_history(bead)[-1]
    assert entry.message == f"{bead}: merged as {SHA[:8]} (attempt 1): green on mill"
    assert entry.changes["status"] == ("in_progress", "closed")
