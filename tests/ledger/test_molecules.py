"""Molecules and the town's epoch, on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.beads import MoleculePlan, StepPlan
from models.ledger.records import BeadStatus, BeadType
from tests.ledger.records import a_rig


def a_plan(**changes: Any) -> MoleculePlan:
    values: dict[str, Any] = {
        "template": "release",
        "title": "Release 1.2",
        "description": "All of it.",
        "priority": 1,
        "type": BeadType.EPIC,
        "labels": ("release",),
        "steps": (
            StepPlan(name="build", title="Build it"),
            StepPlan(name="test", title="Test it 😀", description="with care", needs=("build",)),
            StepPlan(name="notes", title="Write notes"),
            StepPlan(name="ship", title="Ship it", needs=("test", "notes")),
        ),
    }
    return MoleculePlan(**values | changes)


def failure_of(action: Any) -> GtError:
    with pytest.raises(GtError) as failure:
        action()
    return failure.value


def test_a_molecule_is_a_bead_with_steps(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    made = ledger.create_molecule("shop", a_plan())
    bead = ledger.bead(made.bead)
    assert (bead.title, bead.description, bead.priority, bead.type) == ("Release 1.2", "All of it.", 1, BeadType.EPIC)
    assert bead.labels == ("release",)
    assert [(step.number, step.name, step.needs) for step in made.steps] == [
        (1, "build", ()),
        (2, "test", ("build",)),
        (3, "notes", ()),
        (4, "ship", ("test", "notes")),
    ]
    assert (made.template, made.status, made.done) == ("release", BeadStatus.OPEN, 0)
    assert [step.name for step in made.next_steps] == ["build", "notes"]
    assert ledger.molecules() == ledger.molecules("shop") == [made]
    assert ledger.molecules("market") == []


def test_steps_are_done_in_their_order_and_saying_it_twice_is_once(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    bead = ledger.create_molecule("shop", a_plan()).bead
    refused = failure_of(lambda: ledger.mark_step(bead, "ship", done=True, by="ada"))
    assert (refused.code, "test, notes" in refused.message) == (ErrorCode.REFUSED, True)
    first = ledger.mark_step(bead, "build", done=True, by="ada")
    assert ledger.mark_step(bead, "build", done=True, by="bob") == first
    assert (first.steps[0].done_by, first.done) == ("ada", 1)
    ledger.mark_step(bead, "test", done=True, by="ada")
    assert failure_of(lambda: ledger.mark_step(bead, "build", done=False, by="ada")).code is ErrorCode.REFUSED
    undone = ledger.mark_step(bead, "test", done=False, by="ada")
    assert (undone.done, undone.steps[1].done_at, undone.steps[1].done_by) == (1, None, None)
    assert [step.name for step in undone.next_steps] == ["test", "notes"]


def test_only_steps_of_closed_molecules_are_cleaned_and_the_beads_stay(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    over, going = (ledger.create_molecule("shop", a_plan(title=title)).bead for title in ("over", "going on"))
    ledger.close_bead(over, "shipped")
    assert ledger.clean_molecules("shop") == [over]
    assert ledger.clean_molecules() == []
    assert [molecule.bead for molecule in ledger.molecules()] == [going]
    assert ledger.bead(over).close_reason == "shipped"
    assert failure_of(lambda: ledger.molecule(over)).code is ErrorCode.NOT_FOUND
    assert len(ledger.molecule(going).steps) == 4


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((), "no steps"),
        ((StepPlan(name="a", title="A"), StepPlan(name="a", title="B")), "two steps"),
        ((StepPlan(name="a", title="A", needs=("b",)), StepPlan(name="b", title="B")), "does not stand before"),
        ((StepPlan(name="a", title="A", needs=("a",)),), "does not stand before"),
    ],
)
def test_a_plan_without_order_makes_nothing(ledger: Ledger, steps: tuple[StepPlan, ...], said: str) -> None:
    ledger.add_rig(a_rig())
    failure = failure_of(lambda: ledger.create_molecule("shop", a_plan(steps=steps)))
    assert failure.code is ErrorCode.INVALID_VALUE
    assert said in failure.message
    assert ledger.beads() == []


def test_what_is_not_there_is_not_found(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    bead = ledger.create_molecule("shop", a_plan()).bead
    for action in (
        lambda: ledger.molecule("sh-zzz"),
        lambda: ledger.mark_step("sh-zzz", "build", done=True, by="ada"),
        lambda: ledger.mark_step(bead, "never", done=True, by="ada"),
        lambda: ledger.create_molecule("nowhere", a_plan()),
    ):
        assert failure_of(action).code is ErrorCode.NOT_FOUND


def test_the_epoch_is_raised_from_the_one_that_was_expected_and_once(ledger: Ledger) -> None:
    assert ledger.town_epoch().epoch == 1
    for _ in range(2):
        raised = ledger.raise_epoch(1, "ada", "the primary is down")
        assert (raised.epoch, raised.raised_by, raised.cause) == (2, "ada", "the primary is down")
    assert failure_of(lambda: ledger.raise_epoch(1, "bob", "me too")).code is ErrorCode.REFUSED
    assert ledger.raise_epoch(2, "bob", "again").epoch == 3
    assert ledger.town_epoch().epoch == 3
