"""Finding beads and what hangs on them, on both engines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ledger import queries
from ledger.queries import ask_once
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.beads import BeadFilter, TreeNode
from models.ledger.records import BeadChanges, BeadStatus, BeadType
from tests.ledger.records import a_bead, find_beads


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "abcd"),
        ({"rig": "market"}, "d"),
        ({"status": (BeadStatus.OPEN,)}, "abd"),
        ({"status": (BeadStatus.CLOSED, BeadStatus.DEFERRED)}, "c"),
        ({"type": BeadType.BUG}, "b"),
        ({"priority": 0}, "a"),
        ({"assignee": "ada"}, "b"),
        ({"assignee": ""}, "acd"),
        ({"labels": ("ui",)}, "ab"),
        ({"labels": ("ui", "slow")}, "b"),
        ({"labels": ("none",)}, ""),
        ({"text": "LOGIN"}, "ac"),
        ({"text": "über"}, "d"),
        ({"text": "50%"}, "b"),
        ({"text": "5_%"}, ""),
        ({"text": "'; --"}, ""),
        ({"text": "login", "status": (BeadStatus.CLOSED,)}, "c"),
    ],
)
def test_beads_are_found_by_what_is_known_of_them(ledger: Ledger, url: str, wanted: dict[str, Any], found: str) -> None:
    made = {
        "a": a_bead(ledger, "Fix the login", priority=0, labels=("ui",)),
        "b": a_bead(ledger, "Make it 50% faster", type=BeadType.BUG, labels=("ui", "slow")),
        "c": a_bead(ledger, "Other", description="about the Login page"),
        "d": a_bead(ledger, "ÜBERMUT", rig="market"),
    }
    ledger.update_bead(made["b"].id, BeadChanges(assignee="ada"))
    ledger.close_bead(made["c"].id, "wontfix")
    ids = [bead.id for bead in find_beads(ledger, BeadFilter(**wanted))]
    assert ids == [made[name].id for name in found]
    assert [bead.id for bead in ask_once(url, lambda ask: queries.find(ask, BeadFilter(**wanted), None))] == ids
    assert [bead.id for bead in find_beads(ledger, BeadFilter(**wanted), limit=1)] == ids[:1]


def test_a_bead_is_found_by_a_part_of_its_id(ledger: Ledger) -> None:
    bead = a_bead(ledger)
    assert find_beads(ledger, BeadFilter(text=bead.id.upper())) == [bead]


def shape(node: TreeNode) -> dict[str, Any]:
    return {node.title + ("…" if node.repeated else ""): [shape(need) for need in node.needs]}


def test_a_tree_shows_all_that_a_bead_needs_and_each_part_once(ledger: Ledger) -> None:
    base = a_bead(ledger, "base")
    left = a_bead(ledger, "left", dependencies=(base.id,))
    right = a_bead(ledger, "right", dependencies=(base.id, left.id))
    top = a_bead(ledger, "top", dependencies=(left.id, right.id))
    flat = shape(ledger.dependency_tree(top.id))
    below_left: dict[str, Any] = {"left": [{"base": []}]}
    first, again = (below_left, {"left…": []}) if left.id < right.id else ({"left…": []}, below_left)
    below_right = [again, {"base": []}] if left.id < base.id else [{"base": []}, again]
    tops = [first, {"right": below_right}] if left.id < right.id else [{"right": below_right}, first]
    assert flat == {"top": tops}
    assert shape(ledger.dependency_tree(base.id)) == {"base": []}


def test_a_long_chain_is_cut_and_not_followed_for_ever(ledger: Ledger) -> None:
    last = a_bead(ledger, "0")
    for number in range(1, 60):
        last = a_bead(ledger, str(number), dependencies=(last.id,))
    depth, node = 0, ledger.dependency_tree(last.id)
    while node.needs:
        depth, node = depth + 1, node.needs[0]
    assert depth == 50


def test_there_is_no_tree_of_a_bead_that_is_not_there(ledger: Ledger) -> None:
    with pytest.raises(GtError) as failure:
        ledger.dependency_tree("sh-zzz")
    assert failure.value.code is ErrorCode.NOT_FOUND


def test_a_list_longer_than_one_question_has_everyones_labels_and_needs(ledger: Ledger) -> None:
    """Above some hundred beads the tables are read in parts, above some thousand as a whole."""
    made = [a_bead(ledger, f"bead {number}", labels=(f"l{number % 3}",)) for number in range(12)]
    for need, bead in itertools.pairwise(made):
        ledger.add_dependency(bead.id, need.id)
    plain = ledger.beads()
    for parts, whole in ((5, 1000), (5, 6)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(queries, "_IDS_PER_QUERY", parts)
            patched.setattr(queries, "_WHOLE_TABLE_FROM", whole)
            assert ledger.beads() == plain
            assert find_beads(ledger, BeadFilter(labels=("l1",))) == [bead for bead in plain if "l1" in bead.labels]
    assert [bead.dependencies for bead in plain] == [(), *((need.id,) for need in made[:-1])]
