"""Beads and what they need, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.beads.beads import random_word
from ledger.store import Ledger
from models import names
from models.errors import ErrorCode, ExitCode, GtError
from models.ledger.records import BeadChanges, BeadStatus, BeadType, NewBead
from tests.ledger.records import SHA, a_bead, a_merge, a_rig, a_write


def test_a_bead_gets_a_short_id_with_the_prefix_of_its_rig(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    new = NewBead(rig="shop", title="Fix it", description="a\nb\n", priority=0, type=BeadType.BUG)
    bead = ledger.create_bead(new)
    assert names.bead_prefix(bead.id) == "sh"
    assert len(bead.id) == len("sh-") + 3
    assert (bead.title, bead.description, bead.priority, bead.type) == ("Fix it", "a\nb\n", 0, BeadType.BUG)
    assert (bead.status, bead.assignee, bead.closed_at) == (BeadStatus.OPEN, None, None)
    assert ledger.bead(bead.id) == bead


def test_ids_that_collide_are_drawn_again_and_grow(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.beads.beads.random_word", lambda length: "7" * length)
    made = [a_bead(ledger).id for _ in range(3)]
    assert made == ["sh-777", "sh-7777", "sh-77777"]


def test_a_bead_of_an_unknown_rig_or_with_an_unknown_dependency_is_not_created(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    for new in (NewBead(rig="nowhere", title="x"), NewBead(rig="shop", title="x", dependencies=("sh-zzz",))):
        with pytest.raises(GtError) as failure:
            ledger.create_bead(new)
        assert failure.value.code is ErrorCode.NOT_FOUND
    assert ledger.beads() == []


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d", "", " \n "])
def test_a_title_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(GtError) as failure:
        NewBead(rig="shop", title=text)
    assert failure.value.code is ErrorCode.INVALID_VALUE
    with pytest.raises(GtError):
        BeadChanges(title=text)


def test_a_description_of_a_megabyte_of_any_script_comes_back_unchanged(ledger: Ledger) -> None:
    text = "😀 שלום\r\n\t'\"\\%s\\0 \u202e" * 50_000
    assert len(text.encode()) > 1_000_000
    bead = a_bead(ledger, description=text)
    assert ledger.bead(bead.id).description == text


def test_beads_are_listed_by_rig_status_and_age(ledger: Ledger) -> None:
    first, second = a_bead(ledger, "one"), a_bead(ledger, "two")
    other = a_bead(ledger, "three", rig="market")
    ledger.close_bead(second.id, "wontfix")
    assert [bead.id for bead in ledger.beads()] == [first.id, second.id, other.id]
    assert [bead.id for bead in ledger.beads(rig="shop")] == [first.id, second.id]
    assert [bead.id for bead in ledger.beads(status=BeadStatus.CLOSED)] == [second.id]
    assert [bead.id for bead in ledger.beads(limit=1)] == [first.id]


def test_ready_beads_are_open_need_nothing_open_and_come_urgent_first(ledger: Ledger) -> None:
    late = a_bead(ledger, "late", priority=3)
    urgent = a_bead(ledger, "urgent", priority=0)
    waiting = a_bead(ledger, "waiting", priority=0, dependencies=(late.id, urgent.id))
    deferred = a_bead(ledger, "deferred")
    ledger.update_bead(deferred.id, BeadChanges(status=BeadStatus.DEFERRED))
    assert [bead.id for bead in ledger.ready()] == [urgent.id, late.id]
    ledger.close_bead(urgent.id, "done by hand")
    assert [bead.id for bead in ledger.ready("shop")] == [late.id]
    ledger.close_bead(late.id, "done by hand")
    assert [bead.id for bead in ledger.ready()] == [waiting.id]
    assert ledger.ready("market") == []
    assert ledger.bead(waiting.id).dependencies == tuple(sorted((late.id, urgent.id)))


def test_only_the_given_fields_of_a_bead_change(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    changed = ledger.update_bead(bead.id, BeadChanges(priority=0, assignee="ada"))
    assert changed == bead.model_copy(
        update={"priority": 0, "assignee": "ada", "updated_at": changed.updated_at},
    )
    assert ledger.update_bead(bead.id, BeadChanges(assignee="")).assignee is None
    assert ledger.update_bead(bead.id, BeadChanges()) == ledger.bead(bead.id)


def test_a_status_follows_its_job_while_one_runs(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    with pytest.raises(GtError) as failure:
        ledger.update_bead(bead, BeadChanges(status=BeadStatus.OPEN))
    assert failure.value.code is ErrorCode.REFUSED
    assert ledger.update_bead(bead, BeadChanges(title="New words")).status is BeadStatus.IN_PROGRESS


def test_the_target_of_a_bead_is_a_branch_that_work_can_land_on(ledger: Ledger) -> None:
    bead = a_bead(ledger, target="integration/login")
    assert bead.target == ledger.bead(bead.id).target == "integration/login"
    assert ledger.update_bead(bead.id, BeadChanges(target="")).target is None
    assert a_bead(ledger).target is None
    for name in ("-x", "a..b", "a b", "polecat/sh-1", "x.lock"):
        with pytest.raises(GtError) as failure:
            BeadChanges(target=name)
        assert failure.value.code is ErrorCode.INVALID_NAME, name


def test_the_target_stays_while_a_job_works_for_it_and_once_it_is_merged(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    with pytest.raises(GtError, match="its job works for the target") as failure:
        ledger.update_bead(bead, BeadChanges(target="next"))
    assert failure.value.hint == f"gt job cancel {bead}"
    ledger.record_job([a_merge(bead, 1, 2)])
    with pytest.raises(GtError, match="its target stays"):
        ledger.update_bead(bead, BeadChanges(target="next"))
    ledger.reopen_bead(bead)
    assert ledger.update_bead(bead, BeadChanges(target="next")).target == "next"


def test_closing_is_not_an_update_and_nobody_closes_as_merged(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    refusals: list[Callable[[], Any]] = [
        lambda: ledger.update_bead(bead, BeadChanges(status=BeadStatus.CLOSED)),
        lambda: ledger.close_bead(bead, "Merged"),
    ]
    for refused in refusals:
        with pytest.raises(GtError) as failure:
            refused()
        assert failure.value.code is ErrorCode.INVALID_VALUE


def test_a_closed_bead_keeps_its_first_reason(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    closed = ledger.close_bead(bead, "wontfix")
    assert (closed.status, closed.close_reason) == (BeadStatus.CLOSED, "wontfix")
    assert closed.closed_at is not None
    assert ledger.close_bead(bead, "other") == closed


def test_a_bead_with_a_running_job_is_not_closed_and_the_hint_cancels_the_job(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    with pytest.raises(GtError) as failure:
        ledger.close_bead(bead, "wontfix")
    assert failure.value.exit_code is ExitCode.REFUSED
    assert failure.value.hint == f"gt job cancel {bead}"
    assert ledger.bead(bead).status is BeadStatus.IN_PROGRESS


def test_a_reopened_bead_is_closed_as_nothing(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_merge(bead, 1, 1)])
    assert ledger.bead(bead).merged_sha == SHA
    opened = ledger.update_bead(bead, BeadChanges(status=BeadStatus.OPEN))
    assert (opened.close_reason, opened.merged_sha, opened.closed_at) == (None, None, None)


def test_dependencies_are_added_and_removed_once(ledger: Ledger) -> None:
    one, two = a_bead(ledger).id, a_bead(ledger).id
    for _ in range(2):
        ledger.add_dependency(one, two)
        assert ledger.bead(one).dependencies == (two,)
    assert ledger.open_dependencies(one) == (two,)
    for _ in range(2):
        ledger.remove_dependency(one, two)
        assert ledger.bead(one).dependencies == ()


def test_a_circle_of_dependencies_is_refused_and_named(ledger: Ledger) -> None:
    one, two, three = (a_bead(ledger).id for _ in range(3))
    ledger.add_dependency(one, two)
    ledger.add_dependency(two, three)
    with pytest.raises(GtError) as failure:
        ledger.add_dependency(three, one)
    assert failure.value.code is ErrorCode.REFUSED
    assert f"{three} needs {one} needs {two} needs {three}" in failure.value.message
    with pytest.raises(GtError):
        ledger.add_dependency(one, one)
    assert ledger.bead(three).dependencies == ()


@pytest.mark.parametrize("change", ["add_dependency", "remove_dependency"])
def test_a_dependency_between_unknown_beads_is_not_found(ledger: Ledger, change: str) -> None:
    bead = a_bead(ledger).id
    for pair in ((bead, "sh-zzz"), ("sh-zzz", bead)):
        with pytest.raises(GtError) as failure:
            getattr(ledger, change)(*pair)
        assert failure.value.code is ErrorCode.NOT_FOUND


def test_an_unknown_bead_is_not_found(ledger: Ledger) -> None:
    asks: list[Any] = [
        ledger.bead,
        ledger.bead_history,
        lambda bead: ledger.close_bead(bead, "x"),
        lambda bead: ledger.update_bead(bead, BeadChanges(title="x")),
    ]
    for ask in asks:
        with pytest.raises(GtError) as failure:
            ask("sh-zzz")
        assert failure.value.code is ErrorCode.NOT_FOUND
    assert ledger.job("sh-zzz") is None


def test_the_history_of_a_bead_names_each_change_and_its_cause(ledger: Ledger) -> None:
    bead, other = a_bead(ledger).id, a_bead(ledger).id
    ledger.update_bead(bead, BeadChanges(title="New words", priority=1))
    ledger.add_dependency(bead, other)
    ledger.record_job([a_write(bead, 1, 1, detail="as toast\non mill"), a_write(bead, 1, 1), a_merge(bead, 1, 2)])
    history = ledger.bead_history(bead)
    assert [entry.message for entry in history] == [
        f"{bead}: created (Fix the login page)",
        f"{bead}: changed title, priority",
        f"{bead}: needs {other}",
        f"{bead}: attempt started (attempt 1): as toast on mill",
        f"{bead}: merged as {SHA[:8]} (attempt 1)",
    ]
    assert history[1].changes == {"title": ("Fix the login page", "New words"), "priority": (2, 1)}
    assert history[2].changes == {"dependencies": ([], [other])}
    assert history[3].changes == {"status": ("open", "in_progress"), "assignee": (None, "shop/toast")}
    assert history[4].changes["merged_sha"] == (None, SHA)
    assert len({entry.commit for entry in history}) == len(history)
    assert [entry.message for entry in ledger.bead_history(other)] == [f"{other}: created (Fix the login page)"]


def test_the_words_of_ids_are_base_36() -> None:
    assert all(names.valid_bead(f"sh-{random_word(5)}") for _ in range(100))


def test_the_history_names_who_wrote(ledger: Ledger) -> None:
    ledger.author = "Ada <b> Lovelace\n"
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1)])
    assert [entry.by for entry in ledger.bead_history(bead)] == ["Ada b Lovelace", f"polecat/shop/{bead}"]


def test_a_reopened_bead_is_no_longer_closed_as_anything_and_says_why(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    ledger.record_job([a_write(bead, 1, 1), a_merge(bead, 1, 2)])
    for _ in range(2):
        opened = ledger.reopen_bead(bead, "it came back")
        assert (opened.status, opened.close_reason, opened.merged_sha) == (BeadStatus.OPEN, None, None)
        assert (opened.closed_at, opened.assignee) == (None, None)
    assert [entry.message for entry in ledger.bead_history(bead)][-1] == f"{bead}: reopened (it came back)"
    with pytest.raises(GtError) as failure:
        ledger.reopen_bead("sh-zzz")
    assert failure.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("status", [BeadStatus.HOOKED, BeadStatus.SUBMITTED])
def test_a_state_that_only_a_job_can_give_is_not_given_by_hand(ledger: Ledger, status: BeadStatus) -> None:
    bead = a_bead(ledger)
    with pytest.raises(GtError) as failure:
        ledger.update_bead(bead.id, BeadChanges(status=status))
    assert (failure.value.code, failure.value.hint) == (ErrorCode.REFUSED, f"gt sling {bead.id} shop")
    assert ledger.bead(bead.id) == bead


def test_a_creation_with_a_key_is_once_whoever_repeats_it(
    ledger: Ledger, url: str, open_ledger: Callable[[str], Ledger]
) -> None:
    ledger.add_rig(a_rig())
    others = [open_ledger(url) for _ in range(3)]
    new = NewBead(rig="shop", title="Fix it")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda one: one.create_bead(new, key="import/7"), [ledger, *others] * 2))
    assert len(set(made)) == 1
    assert ledger.beads() == made[:1]
    assert ledger.create_bead(new, key="import/8") != made[0]
