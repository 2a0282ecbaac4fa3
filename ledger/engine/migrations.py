"""Bringing a ledger to this program's schema, once, whoever else opens it at the same time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, inspect, select, text, update
from sqlalchemy.schema import CreateColumn

from ledger.engine import schema
from ledger.engine.engines import embedded_url, open_engine
from ledger.engine.rows import upsert
from ledger.engine.transactions import Transactions, new_token
from ledger.engine.versioning import Versioning
from models.errors import DAMAGED_HINT, ErrorCode, GtError


def _tables(connection: Connection) -> None:
    """Make the tables that are missing; a new ledger gets all of today's, and later steps find nothing to do."""
    schema.metadata.create_all(connection)


def _alerts(connection: Connection) -> None:
    """Alert rules; what the Mayor knows of an escalation."""
    _tables(connection)
    _add_columns(connection, schema.escalations, {"level": "L3", "evidence": "", "tried": "", "repeats": 0})
    _add_columns(connection, schema.escalations, {"rig": None, "resolved_at": None, "resolved_by": None})


def _talk(connection: Connection) -> None:
    """Comments, labels, molecules, mail, the town's epoch; where an imported bead came from."""
    _tables(connection)
    _add_columns(connection, schema.beads, {"origin": None, "extra": None})


def _agents(connection: Connection) -> None:
    """The agent of each job, so that a job can be rebuilt from its row."""
    _tables(connection)
    _add_columns(connection, schema.jobs, {"agent": None})


def _targets(connection: Connection) -> None:
    """The branch that a bead's work lands on, where that is not its rig's; integration branches landed as one."""
    _tables(connection)
    _add_columns(connection, schema.beads, {"target": None, "integrates": None, "integrates_sha": None})
    _add_columns(connection, schema.merge_requests, {"whole": None})


_STEPS: Final[dict[int, Callable[[Connection], None]]] = {1: _tables, 2: _alerts, 3: _talk, 4: _agents, 5: _targets}
"""Step n leads from schema n - 1 to n and may run again after it was interrupted."""


def _add_columns(connection: Connection, table: Table, fills: dict[str, Any]) -> None:
    """Add the columns that the table lacks; rows that were there get the value given, NULL for None."""
    known = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for name, value in fills.items():
        if name not in known:
            added = CreateColumn(table.c[name]).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {added}")
        if value is not None:
            connection.execute(update(table).where(table.c[name].is_(None)).values({name: value}))


def stored_version(connection: Connection) -> int:
    """The schema that a ledger has; 0 for one that was never set up."""
    if not inspect(connection).has_table(schema.schema_version.name):
        return 0
    found = connection.execute(select(schema.schema_version.c.version)).scalar()
    return 0 if found is None else int(found)


def require_current(version: int) -> None:
    """Refuse to work on a ledger of another schema.

    Raises:
        GtError: LEDGER_NEWER where a newer program wrote it; REFUSED where an older one did;
            LEDGER_DAMAGED where none has set it up.
    """
    if version > schema.SCHEMA_VERSION:
        raise GtError(
            ErrorCode.LEDGER_NEWER,
            f"the ledger has schema {version}, this program knows up to {schema.SCHEMA_VERSION}",
            "install the newer release of gt",
        )
    if version == 0:
        raise GtError(ErrorCode.LEDGER_DAMAGED, "the ledger was never set up", "gt up")
    if version < schema.SCHEMA_VERSION:
        raise GtError(
            ErrorCode.REFUSED, f"the ledger has schema {version}, this program needs {schema.SCHEMA_VERSION}", "gt up"
        )


def migrate(transactions: Transactions, versioning: Versioning, *, empty_is_new: bool) -> None:
    """Bring the ledger to this program's schema.

    Args:
        empty_is_new: set up a ledger without tables; otherwise it counts as damaged.

    Raises:
        GtError: LEDGER_NEWER, LEDGER_UNREACHABLE, LEDGER_DAMAGED.
    """
    version = transactions.read(stored_version)
    if version == 0 and not empty_is_new:
        raise GtError(ErrorCode.LEDGER_DAMAGED, "the ledger is damaged: its tables are gone", DAMAGED_HINT)
    if version >= schema.SCHEMA_VERSION:
        require_current(version)
        return

    def steps(connection: Connection) -> tuple[None, str | None]:
        with versioning.migration(connection):
            version = stored_version(connection)
            for step in range(version + 1, schema.SCHEMA_VERSION + 1):
                _STEPS[step](connection)
                upsert(connection, schema.schema_version, {"id": 1}, {"version": step})
            if version < schema.SCHEMA_VERSION:
                versioning.commit(connection, f"schema {schema.SCHEMA_VERSION}", transactions.author)
        return None, None

    transactions.write(steps)


def drift(connection: Connection) -> list[str]:
    """Where the tables differ from what this program expects; each begins with `table:` or `table.column:`."""
    look = inspect(connection)
    there = set(look.get_table_names())
    found: list[str] = []
    for table in schema.metadata.sorted_tables:
        if table.name not in there:
            found.append(f"{table.name}: no such table")
            continue
        has = {column["name"]: column for column in look.get_columns(table.name)}
        found += [
            f"{table.name}.{name}: no such column"
            for name in [column.name for column in table.columns]
            if name not in has
        ]
        found += [f"{table.name}.{name}: a column that no release made" for name in has if name not in table.c]
        keyed = look.get_pk_constraint(table.name)["constrained_columns"]
        if sorted(keyed) != sorted(column.name for column in table.primary_key):
            found.append(f"{table.name}: its key is {', '.join(keyed) or 'none'}")
        indexed = {index["name"] for index in look.get_indexes(table.name)}
        found += [f"{table.name}: no index {index.name}" for index in table.indexes if index.name not in indexed]
    version = stored_version(connection)
    if version != schema.SCHEMA_VERSION:
        found.append(f"schema_version: it says {version}, not {schema.SCHEMA_VERSION}")
    return found


def mend(connection: Connection) -> None:
    """Make what `drift` misses: tables, columns, indexes, the version. What is there too much stays."""
    for step in sorted(_STEPS):
        _STEPS[step](connection)
    look = inspect(connection)
    for table in schema.metadata.sorted_tables:
        indexed = {index["name"] for index in look.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                index.create(connection)
    upsert(connection, schema.schema_version, {"id": 1}, {"version": schema.SCHEMA_VERSION})


def found_file(file: Path) -> None:
    """Make a new embedded ledger at `file`, whole or not at all; one that others made first stays.

    doltlite shows a damaged file as a database without tables, and setting that up again would
    bury what can still be saved. So a file at this path has always been set up.
    """
    try:
        # Not what is above it: a town that was deleted is not to be made anew.
        file.parent.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise GtError(ErrorCode.LEDGER_UNREACHABLE, f"there is no directory {file.parent.parent}") from None
    sketch = file.with_name(f".{new_token()}.new")
    try:
        os.close(os.open(sketch, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        engine, versioning = open_engine(embedded_url(sketch))
        migrate(Transactions(engine, versioning), versioning, empty_is_new=True)
        engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(sketch, file)
    finally:
        # doltlite's own lock file stands beside it.
        for leftover in file.parent.glob(f"*{sketch.name}*"):
            leftover.unlink()


def create_database(engine: Engine, name: str) -> None:
    """Make the database on a server that lacks it."""
    quoted = engine.dialect.identifier_preparer.quote_identifier(name)
    known = text("SELECT schema_name FROM information_schema.schemata WHERE schema_name = :name")
    with engine.connect() as connection:
        if connection.execute(known, {"name": name}).first() is None:
            connection.execute(text(f"CREATE DATABASE IF NOT EXISTS {quoted}"))
