"""Upkeep over a real ledger of either engine, as Temporal runs it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.ledger_gc import UpkeepActivities, bytes_of
from ledger.engine import engines
from ledger.store import Ledger
from models.ledger.records import BeadChanges
from models.upkeep.ledger_gc import UpkeepReport, UpkeepRequest
from tests.ledger.conftest import DoltServer
from tests.ledger.records import a_bead


def look(made: UpkeepActivities, last: UpkeepReport | None) -> UpkeepReport:
    return ActivityEnvironment().run(made.keep_ledger_small, UpkeepRequest(last=last))


def test_garbage_is_collected_once_an_interval_and_rows_and_history_stay(ledger: Ledger, url: str) -> None:
    made = UpkeepActivities(lambda: Ledger.open(url, create=False), None)
    bead = a_bead(ledger, description="x" * 5000)
    for number in range(5):
        ledger.update_bead(bead.id, BeadChanges(title=f"title {number}"))
    first = look(made, None)
    assert first.why
    assert look(made, first) == first.model_copy(update={"why": ""})
    late = first.model_copy(update={"collected_at": datetime.now(UTC) - timedelta(days=2)})
    assert look(made, late).collected_at > first.collected_at
    assert ledger.bead(bead.id).title == "title 4"
    assert len(ledger.bead_history(bead.id)) == 6


def test_growth_of_a_file_is_seen_before_the_interval_ends(ledger_of_a_file: tuple[Ledger, Path]) -> None:
    ledger, file = ledger_of_a_file
    made = UpkeepActivities(lambda: Ledger.open(f"doltlite:///{file}", create=False), file)
    first = look(made, None)
    assert first.kept_bytes == file.stat().st_size
    ledger.set_setting("town", "ledger.gc_growth_bytes", 10_000)
    a_bead(ledger, description="word " * 20_000)
    again = look(made, first)
    assert again.why.startswith("grown by")
    assert look(made, again).why == ""


@pytest.fixture
def ledger_of_a_file(embedded_url: str, open_ledger: Callable[[str], Ledger], tmp_path: Path) -> tuple[Ledger, Path]:
    return open_ledger(embedded_url), tmp_path / "ledger.doltlite"


def test_what_a_server_keeps_is_all_files_of_its_folder(
    dolt_server: DoltServer, server_url: str, tmp_path: Path
) -> None:
    before = bytes_of(dolt_server.folder / "data") or 0
    Ledger.open(server_url).close()
    assert (bytes_of(dolt_server.folder / "data") or 0) > before > 0
    assert bytes_of(tmp_path / "none") is None
    assert bytes_of(None) is None


def test_a_collection_may_take_longer_than_any_other_statement(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sleeps in place of collecting much garbage."""
    ledger = Ledger.open(server_url)
    ledger.close()
    monkeypatch.setattr(engines, "STATEMENT_TIMEOUT_S", 1)
    ledger = Ledger.open(server_url)
    monkeypatch.setattr(
        ledger._versioning,
        "collect_garbage",
        lambda connection: connection.exec_driver_sql("SELECT SLEEP(1.5)").all(),
    )
    ledger.collect_garbage()
    ledger.close()
