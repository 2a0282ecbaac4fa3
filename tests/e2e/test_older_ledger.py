"""A ledger that was put back from an older backup is found out by the town itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.mayor.escalations import EscalationStatus
from tests.e2e.held_agents import supervised_town
from tests.e2e.living_town import shell_agent, wait_until
from tests.e2e.quick_town import QuickTown


@pytest.fixture
def town() -> Iterator[QuickTown]:
    with supervised_town({}, max_polecats=None) as living:
        yield living


def disagreements(town: QuickTown, bead: str) -> list[EscalationStatus]:
    """What is told of a bead; that the ledger's file is an older copy may be told beside it."""
    told = [one for one in town.escalations() if one.kind == "disagreement" and not one.resolved]
    return [one for one in told if bead in one.message]


def land(town: QuickTown, file: str) -> str:
    bead = town.bead(f"add {file}")
    town.sling(bead, shell_agent(file=file))
    town.wait_closed(bead)
    return bead


def put(town: QuickTown, ledger: Path, into: Path) -> None:
    town.run("gt", "down")
    shutil.copyfile(ledger, into)


def test_a_ledger_older_than_what_landed_is_told_after_the_next_start_until_a_newer_one_is_back(
    town: QuickTown,
) -> None:
    ledger = town.town.paths.doltlite_file
    older, newer = town.folder / "older", town.folder / "newer"
    known = land(town, "a.py")
    put(town, ledger, older)
    town.up()
    lost = land(town, "b.py")
    put(town, ledger, newer)
    shutil.copyfile(older, ledger)
    town.up()
    (told,) = wait_until("the town to find out", lambda: disagreements(town, lost))
    assert told.level == "L3"
    assert town.landed(lost)[0][:12] in told.message
    assert known not in told.message
    town.run("gt", "down")
    shutil.copyfile(newer, ledger)
    town.up()
    wait_until("the town to find that all is well", lambda: not disagreements(town, lost))
