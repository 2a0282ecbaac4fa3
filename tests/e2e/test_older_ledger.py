"""A ledger that was put back from an older backup is found out by the town itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.mayor.escalations import EscalationStatus
from services.supervisor.client import Supervisor
from services.supervisor.programs import WORKER, supervisor_socket
from services.temporal.client import connect
from services.temporal.schedules import verify_soon
from services.worker.ledger_head import head_path
from tests.e2e.held_agents import supervised_town
from tests.e2e.living_town import QUICK, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown


@pytest.fixture
def town() -> Iterator[QuickTown]:
    with supervised_town(QUICK, max_polecats=None) as living:
        yield living


def disagreements(town: QuickTown, words: str) -> list[EscalationStatus]:
    told = [one for one in town.escalations() if one.kind == "disagreement" and not one.resolved]
    return [one for one in told if words in one.message]


def land(town: QuickTown, file: str) -> str:
    bead = town.bead(f"add {file}")
    town.sling(bead, shell_agent(file=file))
    town.wait_closed(bead)
    return bead


@contextlib.contextmanager
def no_worker(town: QuickTown) -> Iterator[None]:
    """Nothing writes to the ledger inside; another worker starts at the end."""
    supervisor = Supervisor(supervisor_socket(town.town))
    supervisor.stop(WORKER)
    try:
        yield
    finally:
        supervisor.start(WORKER)


def swap(town: QuickTown, ledger: Path, into: Path) -> None:
    """Put `ledger` in the place of `into`, which is kept in its place."""
    with no_worker(town):
        into.rename(before := into.with_suffix(".before"))
        ledger.rename(into)
        before.rename(ledger)


def verify(town: QuickTown) -> bool:
    """As the worker does some while after its start."""

    async def ask() -> bool:
        return await verify_soon(await connect(town.town))

    return asyncio.run(ask())


def test_a_ledger_older_than_what_landed_is_told_after_the_next_start_until_a_newer_one_is_back(
    town: QuickTown,
) -> None:
    ledger = town.town.paths.doltlite_file
    other, note = town.folder / "other", head_path(town.town.paths)

    def newest_noted() -> bool:
        with town.record() as record:
            newest, _ = record.head("")
        return note.exists() and note.read_text().strip() == newest

    known = land(town, "a.py")
    with no_worker(town):
        shutil.copyfile(ledger, other)
    lost = land(town, "b.py")
    wait_until("the newest commit to be noted", newest_noted)
    swap(town, other, into=ledger)
    (told,) = wait_until("the town to find out", lambda: disagreements(town, lost))
    assert told.level == "L3"
    assert town.landed(lost)[0][:12] in told.message
    assert known not in told.message
    (swapped,) = wait_until("the swap to be told", lambda: disagreements(town, "swapped for an older copy"))
    assert swapped.severity == "critical"
    assert str(note) in swapped.evidence

    swap(town, other, into=ledger)
    wait_until("the town to be compared", lambda: verify(town))
    wait_until("the town to find that all is well", lambda: not disagreements(town, ""))
