"""Labels and comments, on both engines."""

from __future__ import annotations

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.beads import BeadFilter
from tests.ledger.records import START, a_bead, find_beads


def failure_code(action: object) -> ErrorCode:
    with pytest.raises(GtError) as failure:
        action()  # type: ignore[operator]
    return failure.value.code


def test_labels_are_put_and_taken_off_and_saying_it_twice_is_once(ledger: Ledger) -> None:
    bead = a_bead(ledger, labels=("ui", "area:login", "ui"))
    assert bead.labels == ("area:login", "ui")
    for _ in range(2):
        assert ledger.change_labels(bead.id, add=["größe", "ui"], remove=["area:login", "never"]) == ("größe", "ui")
    assert ledger.bead(bead.id).labels == ("größe", "ui")
    assert [entry.message for entry in ledger.bead_history(bead.id)][1:] == [
        f"{bead.id}: labels +größe -area:login",
    ]


def test_labels_are_counted(ledger: Ledger) -> None:
    a_bead(ledger, labels=("ui", "slow"))
    a_bead(ledger, labels=("ui",))
    assert ledger.labels() == {"slow": 1, "ui": 2}


@pytest.mark.parametrize(
    "label", ["", "two words", "a\nb", "-x", "'; DROP TABLE labels; --", "x" * 101, "a\x00", "\ud83d"]
)
def test_what_is_no_label_is_refused(ledger: Ledger, label: str) -> None:
    bead = a_bead(ledger)
    assert failure_code(lambda: ledger.change_labels(bead.id, add=[label])) is ErrorCode.INVALID_VALUE
    assert failure_code(lambda: a_bead(ledger, labels=(label,))) is ErrorCode.INVALID_VALUE
    assert len(ledger.beads()) == 1
    assert ledger.labels() == {}


def test_comments_are_kept_in_order_as_they_were_written(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    texts = ["first", "zweitens: '\\%s 😀\n\n", "third"]
    for text in texts:
        told = ledger.add_comment(bead.id, "ada", text)
        assert (told.text, told.author, told.bead) == (text, "ada", bead.id)
        assert told.at > START
    assert [comment.text for comment in ledger.comments(bead.id)] == texts
    assert ledger.bead_history(bead.id)[-1].message == f"{bead.id}: comment by ada"
    assert ledger.bead(bead.id).updated_at > bead.updated_at


def test_a_comment_that_is_told_again_is_one(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    first = ledger.add_comment(bead.id, "ada", "hello", id="c1")
    assert ledger.add_comment(bead.id, "ada", "hello", id="c1") == first
    assert ledger.comments(bead.id) == [first]


@pytest.mark.parametrize("text", ["", " \n", "a\x00b", "half \ud83d", "x" * 1_000_001])
def test_a_comment_that_cannot_be_kept_is_refused(ledger: Ledger, text: str) -> None:
    bead = a_bead(ledger)
    assert failure_code(lambda: ledger.add_comment(bead.id, "ada", text)) is ErrorCode.INVALID_VALUE
    assert ledger.comments(bead.id) == []


def test_nothing_is_said_about_a_bead_that_is_not_there(ledger: Ledger) -> None:
    a_bead(ledger)
    for action in (
        lambda: ledger.add_comment("sh-zzz", "ada", "hello"),
        lambda: ledger.comments("sh-zzz"),
        lambda: ledger.change_labels("sh-zzz", add=["ui"]),
    ):
        assert failure_code(action) is ErrorCode.NOT_FOUND
    assert ledger.labels() == {}


def test_a_comment_is_found_by_its_words(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    a_bead(ledger, "another")
    ledger.add_comment(bead.id, "ada", "ÄRGER with 100% of logins")
    for text in ("ärger", "100% of", "WITH"):
        assert [found.id for found in find_beads(ledger, BeadFilter(text=text))] == [bead.id]
