"""Any text that a person can write comes back as it was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.store import Ledger
from models.ledger.records import BeadChanges, NewBead
from tests.ledger.records import a_bead, a_rig

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200)
TITLES = TEXT.filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize("engine", ["server_url", "embedded_url"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=TITLES, description=TEXT)
def test_titles_and_descriptions_round_trip(
    engine: str,
    request: pytest.FixtureRequest,
    open_ledger: Callable[[str], Ledger],
    title: str,
    description: str,
) -> None:
    ledger = getattr(request.node, "ledger_under_test", None) or open_ledger(request.getfixturevalue(engine))
    request.node.ledger_under_test = ledger
    ledger.add_rig(a_rig())
    bead = ledger.create_bead(NewBead(rig="shop", title=title, description=description))
    assert (bead.title, bead.description) == (title, description)
    assert ledger.bead(bead.id) == bead


@pytest.mark.parametrize(
    "title", ["😀👩‍👩‍👧", "\u202eright to left", "שלום עולם", "a\nb\r\nc", "'; DROP TABLE beads; --", "%s %(x)s :y"]
)
def test_titles_that_broke_other_programs_round_trip(ledger: Ledger, title: str) -> None:
    bead = a_bead(ledger, title)
    assert bead.title == title
    assert ledger.update_bead(bead.id, BeadChanges(title=title + "!")).title == title + "!"
    assert ledger.bead_history(bead.id)[-1].changes["title"] == (title, title + "!")
