"""An embedded ledger that goes back in time is found out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from ledger.store import Ledger
from models.ledger.records import Rig
from models.mayor.escalations import Escalation, SourceReset
from services.init_town import create_town
from services.town import Town
from services.worker import life
from services.worker.ledger_head import head_path, lost_commit
from tests.pace import DEADLINE_S


def add_rig(town: Town, name: str) -> None:
    with contextlib.closing(Ledger.open(town.ledger_url())) as ledger:
        ledger.add_rig(Rig(name=name, url="/x.git", prefix=name, branch="main", created_at=datetime.now(UTC)))


def look(town: Town) -> str:
    with contextlib.closing(Ledger.open(town.ledger_url(), create=False)) as ledger:
        return lost_commit(ledger, town.paths)


def written_over(file: Path, older: bytes) -> None:
    file.write_bytes(older)


def swapped(file: Path, older: bytes) -> None:
    file.with_suffix(".old").write_bytes(older)
    file.with_suffix(".old").rename(file)


def truncated(file: Path, older: bytes) -> None:
    with file.open("r+b") as stream:
        stream.truncate(len(older))


@pytest.mark.parametrize("rolled_back", [written_over, swapped, truncated])
def test_an_older_state_is_found_until_the_newer_is_back(
    tmp_path: Path, rolled_back: Callable[[Path, bytes], None]
) -> None:
    town = create_town(tmp_path / "town", "test", "embedded").town
    file = town.paths.doltlite_file
    add_rig(town, "aa")
    assert look(town) == ""
    older = file.read_bytes()
    add_rig(town, "bb")
    assert look(town) == ""
    noted, newer = head_path(town.paths).read_text().strip(), file.read_bytes()
    rolled_back(file, older)
    assert look(town) == noted
    add_rig(town, "cc")
    assert look(town) == noted, "what is written meanwhile does not hide it"
    swapped(file, newer)
    assert look(town) == ""
    swapped(file, older)
    head_path(town.paths).unlink()
    assert (look(town), look(town)) == ("", ""), "a person has accepted it"


async def test_that_it_is_back_is_told_by_a_worker_that_did_not_tell_that_it_was_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: asyncio.Queue[Escalation | SourceReset] = asyncio.Queue()

    async def tell(_: Client, message: Escalation | SourceReset) -> None:
        await told.put(message)

    monkeypatch.setattr(life, "tell_mayor", tell)
    monkeypatch.setattr(life, "LEDGER_EVERY_S", 0.05)
    town = create_town(tmp_path / "town", "test", "embedded").town
    file = town.paths.doltlite_file
    add_rig(town, "aa")
    older = file.read_bytes()
    add_rig(town, "bb")
    look(town)
    newer = file.read_bytes()
    written_over(file, older)
    nobody: Any = None
    async with asyncio.timeout(DEADLINE_S):
        worker = asyncio.create_task(life.watch_embedded_ledger(nobody, town))
        gone = await told.get()
        worker.cancel()
        written_over(file, newer)
        worker = asyncio.create_task(life.watch_embedded_ledger(nobody, town))
        assert isinstance(gone, Escalation)
        assert await told.get() == SourceReset(source=gone.source)
        worker.cancel()
