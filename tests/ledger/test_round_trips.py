"""How often a write asks the engine: each time costs the server's way there and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event

from ledger.store import Ledger
from models.ledger.records import BeadChanges, NewBead
from tests.ledger.records import a_bead, a_write


@pytest.mark.parametrize(
    ("write", "most"),
    [
        # Begin, look, change, commit; begin, find the commit, read the bead with its needs and labels.
        (lambda ledger, bead: ledger.update_bead(bead, BeadChanges(title="new")), 9),
        (lambda ledger, bead: ledger.create_bead(NewBead(rig="shop", title="another")), 11),
        (lambda ledger, bead: ledger.record_job([a_write(bead, 1, 1)]), 13),
    ],
    ids=["update", "create", "transition of a job"],
)
def test_a_write_with_its_commit_and_read_back_takes_few_statements(
    ledger: Ledger, write: Callable[[Ledger, str], object], most: int
) -> None:
    bead = a_bead(ledger).id
    said: list[str] = []

    @event.listens_for(ledger._engine, "before_cursor_execute")
    def listen(*told: object) -> None:
        said.append(str(told[2]))

    write(ledger, bead)
    assert len(said) <= most, said
    assert sum("DOLT_COMMIT" in one.upper() for one in said) == 1
    assert sum("dolt_log" in one for one in said) == 1
