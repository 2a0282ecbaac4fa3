"""A ledger of every earlier schema becomes one of today's, with all that it held; on both engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from ledger.engine import migrations, schema
from ledger.engine.embedded import load_doltlite
from ledger.engine.engines import embedded_file, open_engine, server_without_database
from ledger.engine.migrations import create_database
from ledger.engine.transactions import Transactions
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.mayor.escalations import EscalationStatus
from tests.ledger.records import START, a_bead, a_merge
from tests.ledger.versions import record

EARLIER = sorted(int(file.stem) for file in record.FOLDER.glob("*.json"))
OpenLedger = Callable[[str], Ledger]


def make(url: str, version: int) -> None:
    """A ledger as a program of that version left it."""
    file = embedded_file(url)
    if file is None:
        server, name = server_without_database(url)
        create_database(server, name)
        server.dispose()
    else:
        load_doltlite().connect(file).close()
    engine, versioning = open_engine(url)

    def fill(connection: Connection) -> tuple[None, str]:
        record.load(connection, version)
        return None, f"schema {version}"

    Transactions(engine, versioning).write(fill)
    engine.dispose()


def rows(ledger: Ledger, table: str) -> list[dict[str, Any]]:
    query = select(schema.metadata.tables[table])
    return ledger.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


def test_every_earlier_schema_is_on_record() -> None:
    assert list(range(1, schema.SCHEMA_VERSION)) == EARLIER


@pytest.mark.parametrize("version", EARLIER)
def test_a_ledger_of_an_earlier_schema_keeps_every_row(url: str, open_ledger: OpenLedger, version: int) -> None:
    make(url, version)
    ledger = open_ledger(url)
    assert ledger.schema_version() == schema.SCHEMA_VERSION
    held = json.loads((record.FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    for name in held.keys() - {"schema_version"}:
        kept = [{column: row[column] for column in held[name]["rows"][0]} for row in rows(ledger, name)]
        assert sorted(map(str, kept)) == sorted(map(str, held[name]["rows"])), name


@pytest.mark.parametrize("version", EARLIER)
def test_a_ledger_of_an_earlier_schema_can_be_worked_on_at_once(
    url: str, open_ledger: OpenLedger, version: int
) -> None:
    make(url, version)
    ledger = open_ledger(url)
    old = ledger.escalations(open_only=False)
    assert [one.id for one in old] == ["e0", "e1", "e2"]
    assert {(one.level, one.rig, one.repeats, one.resolved_at) for one in old} == {("L3", None, 0, None)}
    told = EscalationStatus(
        **old[0].model_dump() | {"level": "L2", "rig": "shop", "repeats": 1, "acked": True, "resolved_by": "ada"},
    )
    ledger.record_escalation(told)
    assert ledger.escalations()[0] == told
    second = next(bead for bead in ledger.beads() if bead.title == "waits")
    ledger.record_job([a_merge(second.id, 1, 2)])
    assert ledger.bead_history(second.id)[-1].message.startswith(f"{second.id}: merged")
    assert {bead.target for bead in ledger.beads()} == {None}
    assert a_bead(ledger, target="next").created_at > START


def columns(ledger: Ledger) -> dict[str, set[tuple[str, bool]]]:
    from sqlalchemy import inspect

    def ask(connection: Connection) -> dict[str, set[tuple[str, bool]]]:
        look = inspect(connection)
        return {
            name: {(column["name"], bool(column["nullable"])) for column in look.get_columns(name)}
            for name in schema.metadata.tables
        }

    return ledger.read(ask)


@pytest.mark.parametrize("version", EARLIER)
def test_an_upgraded_ledger_has_the_tables_of_a_new_one(
    url: str, open_ledger: OpenLedger, version: int, tmp_path: Path
) -> None:
    make(url, version)
    new = open_ledger(f"doltlite:///{tmp_path / 'new.doltlite'}")
    assert columns(open_ledger(url)) == columns(new)


def test_a_migration_that_was_interrupted_is_finished_by_the_next_opening(
    url: str, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(url, 1)
    real = migrations._STEPS[2]

    def interrupted(connection: Connection) -> None:
        real(connection)
        raise KeyboardInterrupt

    monkeypatch.setitem(migrations._STEPS, 2, interrupted)
    with pytest.raises(KeyboardInterrupt):
        Ledger.open(url)
    monkeypatch.setitem(migrations._STEPS, 2, real)
    ledger = open_ledger(url)
    assert ledger.schema_version() == schema.SCHEMA_VERSION
    assert {one.level for one in ledger.escalations(open_only=False)} == {"L3"}


def test_a_ledger_of_an_earlier_schema_is_not_touched_without_leave(url: str) -> None:
    make(url, 1)
    with pytest.raises(GtError) as failure:
        Ledger.open(url, migrate=False)
    assert failure.value.code is ErrorCode.REFUSED
    assert "schema 1" in failure.value.message


def test_a_lost_schema_version_does_not_lose_the_rows(url: str, open_ledger: OpenLedger) -> None:
    ledger = open_ledger(url)
    bead = a_bead(ledger)
    ledger.write(lambda connection: (connection.execute(update(schema.schema_version).values(version=1)), "older"))
    assert open_ledger(url).bead(bead.id) == bead
