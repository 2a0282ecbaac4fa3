"""Opening: versions, damage, wrong files, and what loading doltlite does to the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, update

from ledger.engine import schema
from ledger.store import Ledger
from models.errors import ErrorCode, GtError, Level
from models.ledger.records import NewBead
from tests.ledger.conftest import ROOT, DoltServer, free_port
from tests.ledger.records import a_bead, a_rig
from tests.pace import DEADLINE_S

OpenLedger = Callable[[str], Ledger]


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={key: value for key, value in os.environ.items() if "DOLTLITE" not in key}
        | {"PYTHONPATH": str(ROOT)}
        | environment,
    )


OPEN = "import sys; from ledger.store import Ledger; from models.errors import GtError\n"
TRY_OPEN = OPEN + (
    "try:\n    Ledger.open(sys.argv[1]).ping()\n    print('opened')\n"
    "except GtError as error:\n    print(error.code.value, '|', error.message, '|', error.hint)\n"
)


def failure_of(action: Callable[[], object]) -> GtError:
    with pytest.raises(GtError) as failure:
        action()
    return failure.value


def drop(connection: Connection, table: Table) -> bool:
    table.drop(connection)
    return True


def test_a_ledger_opened_again_still_holds_everything(ledger: Ledger, url: str, open_ledger: OpenLedger) -> None:
    bead = a_bead(ledger)
    ledger.close()
    again = open_ledger(url)
    again.ping()
    assert again.schema_version() == schema.SCHEMA_VERSION
    assert again.bead(bead.id) == bead


def test_a_ledger_of_a_newer_program_is_not_touched(ledger: Ledger, url: str) -> None:
    ledger.write(
        lambda connection: (connection.execute(update(schema.schema_version).values(version=99)).rowcount, "upgraded")
    )
    for create in (True, False):
        failure = failure_of(lambda create=create: Ledger.open(url, create=create))  # type: ignore[misc]
        assert failure.code is ErrorCode.LEDGER_NEWER
        assert "99" in failure.message
    assert ledger.schema_version() == 99


def test_a_ledger_of_an_older_schema_is_not_touched(ledger: Ledger, url: str) -> None:
    bead = a_bead(ledger)
    ledger.write(lambda connection: (connection.execute(update(schema.schema_version).values(version=1)), "older"))
    for create in (True, False):
        failure = failure_of(lambda create=create: Ledger.open(url, create=create))  # type: ignore[misc]
        assert failure.code is ErrorCode.REFUSED
        assert "schema 1" in failure.message
    assert ledger.schema_version() == 1
    assert ledger.bead(bead.id) == bead


def test_without_creation_nothing_is_made(
    embedded_url: str, tmp_path: Path, dolt_server: DoltServer, server_url: str
) -> None:
    assert failure_of(lambda: Ledger.open(embedded_url, create=False)).code is ErrorCode.LEDGER_UNREACHABLE
    assert list(tmp_path.iterdir()) == []
    assert failure_of(lambda: Ledger.open(server_url, create=False)).code is ErrorCode.LEDGER_UNREACHABLE
    assert failure_of(lambda: Ledger.open(dolt_server.url("mysql"), create=False)).code is ErrorCode.LEDGER_DAMAGED


def test_an_interrupted_setup_of_a_database_is_finished_by_the_next_opening(
    server_url: str, open_ledger: OpenLedger
) -> None:
    first = open_ledger(server_url)
    first.write(lambda connection: (drop(connection, schema.schema_version), "half set up"))
    first.close()
    second = open_ledger(server_url)
    assert second.schema_version() == schema.SCHEMA_VERSION
    assert a_bead(second).rig == "shop"


def test_a_setup_of_a_file_that_is_killed_leaves_no_file_there(
    embedded_url: str, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    kill = (
        "import os, ledger.engine.setup as m\nreal = m.create_tables\n"
        "m.create_tables = lambda connection: (real(connection), os._exit(9))\n"
    )
    assert run_python(kill + TRY_OPEN, embedded_url).returncode == 9
    assert not (tmp_path / "ledger.doltlite").exists()
    assert a_bead(open_ledger(embedded_url)).rig == "shop"


def test_a_new_file_leaves_nothing_else_behind(embedded_url: str, open_ledger: OpenLedger, tmp_path: Path) -> None:
    a_bead(open_ledger(embedded_url))
    assert {path.name for path in tmp_path.iterdir()} <= {"ledger.doltlite", ".ledger.doltlite-lock"}


@pytest.mark.parametrize(
    "wrong", ["postgresql://h/d", "sqlite:////tmp/x", "mysql+pymysql://h:1", "mysql+pymysql://h:1/", "nonsense", ""]
)
def test_a_url_of_no_known_engine_is_refused(wrong: str) -> None:
    assert failure_of(lambda: Ledger.open(wrong)).code is ErrorCode.INVALID_VALUE


def test_a_server_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.2)
    failure = failure_of(lambda: Ledger.open(f"mysql+pymysql://root:secret@127.0.0.1:{free_port()}/town"))
    assert (failure.code, failure.hint) == (ErrorCode.LEDGER_UNREACHABLE, "gt up")
    assert "secret" not in failure.message


def test_the_server_lets_nobody_in_without_the_password(dolt_server: DoltServer) -> None:
    for password in ("", ":wrong"):
        url = f"mysql+pymysql://root{password}@127.0.0.1:{dolt_server.port}/town"
        failure = failure_of(lambda url=url: Ledger.open(url))  # type: ignore[misc]
        assert failure.code is ErrorCode.LEDGER_UNREACHABLE
        assert "password" in failure.message


def test_missing_tables_are_damage(ledger: Ledger) -> None:
    ledger.write(lambda connection: (drop(connection, schema.beads), "dropped"))
    failure = failure_of(ledger.beads)
    assert (failure.code, failure.level) == (ErrorCode.LEDGER_DAMAGED, Level.L4)
    assert "a backup of the ledger in its place" in failure.hint


def test_a_file_that_is_no_database_is_damage_and_stays_as_it_is(embedded_url: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.doltlite"
    file.write_bytes(b"not a database at all " * 300)
    before = file.read_bytes()
    failure = failure_of(lambda: Ledger.open(embedded_url))
    assert failure.code is ErrorCode.LEDGER_DAMAGED
    assert "a backup of the ledger in its place" in failure.hint
    assert file.read_bytes() == before


def test_a_plain_sqlite_file_is_refused_and_stays_as_it_is(embedded_url: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.doltlite"
    made = run_python("import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('create table t(a)')", str(file))
    assert made.returncode == 0, made.stderr
    before = file.read_bytes()
    failure = failure_of(lambda: Ledger.open(embedded_url))
    assert failure.code is ErrorCode.LEDGER_DAMAGED
    assert "plain SQLite" in failure.message
    assert file.read_bytes() == before


@pytest.mark.parametrize("harm", ["cut", "zeroed at the head", "zeroed"])
def test_a_damaged_file_is_never_taken_for_a_new_one_and_stays_as_it_is(
    embedded_url: str, open_ledger: OpenLedger, tmp_path: Path, harm: str
) -> None:
    ledger = open_ledger(embedded_url)
    for number in range(10):
        a_bead(ledger, f"bead {number}", description="x" * 1000)
    ledger.close()
    file = tmp_path / "ledger.doltlite"
    whole = file.read_bytes()
    damaged = {
        "cut": whole[:5000],
        "zeroed at the head": whole[:200] + bytes(64) + whole[264:],
        "zeroed": whole[:200] + bytes(len(whole) - 400) + whole[-200:],
    }[harm]
    file.write_bytes(damaged)
    failure = failure_of(lambda: Ledger.open(embedded_url))
    assert failure.code is ErrorCode.LEDGER_DAMAGED
    assert "a backup of the ledger in its place" in failure.hint
    assert file.read_bytes() == damaged


def test_an_emptied_file_is_never_taken_for_a_new_one(embedded_url: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.doltlite").touch()
    for _ in range(2):
        assert failure_of(lambda: Ledger.open(embedded_url)).code is ErrorCode.LEDGER_DAMAGED


def test_a_file_that_was_moved_aside_is_not_written_and_not_replaced_by_an_empty_one(
    embedded_url: str, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    ledger = open_ledger(embedded_url)
    ledger.add_rig(a_rig())
    file, aside = tmp_path / "ledger.doltlite", tmp_path / "aside"
    file.rename(aside)
    before = aside.read_bytes()
    assert failure_of(lambda: ledger.create_bead(NewBead(rig="shop", title="x"))).code is ErrorCode.LEDGER_UNREACHABLE
    assert not file.exists()
    assert aside.read_bytes() == before
    aside.rename(file)
    assert ledger.create_bead(NewBead(rig="shop", title="x")).title == "x"


def test_a_restored_file_is_read_through_new_connections(
    embedded_url: str, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    ledger = open_ledger(embedded_url)
    bead = a_bead(ledger)
    ledger.close()
    file = tmp_path / "ledger.doltlite"
    (tmp_path / "backup").write_bytes(file.read_bytes())
    ledger = open_ledger(embedded_url)
    late = a_bead(ledger, "after the backup")
    file.rename(tmp_path / "aside")
    (tmp_path / "backup").rename(file)
    assert [known.id for known in ledger.beads()] == [bead.id]
    assert failure_of(lambda: ledger.bead(late.id)).code is ErrorCode.NOT_FOUND


def test_a_child_process_of_a_process_with_an_embedded_ledger_is_not_marked(
    embedded_url: str, open_ledger: OpenLedger
) -> None:
    open_ledger(embedded_url)
    assert "_DOLTLITE_BOOTSTRAPPED" not in os.environ
    assert "doltlite" not in os.environ.get("LD_PRELOAD", "")
    child = subprocess.run(
        [sys.executable, "-c", TRY_OPEN, embedded_url],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (child.stdout, child.stderr) == ("opened\n", "")


def test_a_mark_inherited_from_another_program_does_not_lead_to_stock_sqlite(embedded_url: str) -> None:
    child = run_python(TRY_OPEN, embedded_url, _DOLTLITE_BOOTSTRAPPED="1")
    assert (child.stdout, child.stderr) == ("opened\n", "")


def test_a_program_that_imported_sqlite3_first_is_told_so_and_not_started_again(
    embedded_url: str, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sqlite3\nprint('started')\n" + TRY_OPEN)
    child = subprocess.run(
        [sys.executable, str(script), embedded_url],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    started, said = child.stdout.splitlines()
    assert started == "started"
    assert said.startswith("program_missing | sqlite3 was imported before")


def test_a_python_whose_sqlite_is_built_in_is_told_so(embedded_url: str) -> None:
    # Loading a library that brings no sqlite3 symbols is what a built-in SQLite amounts to.
    code = "import ctypes\nreal = ctypes.CDLL\nctypes.CDLL = lambda *a, **k: real(None)\n" + TRY_OPEN
    child = run_python(code, embedded_url)
    assert child.stdout.startswith("program_missing | this Python has SQLite built in"), child.stderr


def test_a_missing_doltlite_library_is_said(embedded_url: str) -> None:
    child = run_python(TRY_OPEN, embedded_url, DOLTLITE_LIB="/nowhere/libdoltlite.so")
    assert child.stdout.startswith("program_missing | doltlite, the embedded ledger's engine, does not load")


def test_importing_the_ledger_alone_loads_neither_sqlite_nor_doltlite() -> None:
    child = run_python("import sys, ledger.store; print([m for m in ('sqlite3', 'doltlite') if m in sys.modules])")
    assert child.stdout == "[]\n"


def test_the_file_of_a_ledger_is_its_owners_alone(embedded_url: str, open_ledger: OpenLedger, tmp_path: Path) -> None:
    open_ledger(embedded_url)
    assert (tmp_path / "ledger.doltlite").stat().st_mode & 0o077 == 0
