"""Making the tables of a new ledger, once, whoever else opens it at the same time; telling what differs from them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, text, update
from sqlalchemy.schema import CreateColumn

from ledger.engine import schema
from ledger.engine.engines import embedded_url, open_engine
from ledger.engine.rows import upsert
from ledger.engine.transactions import Transactions, new_token
from ledger.engine.versioning import Versioning
from models.errors import DAMAGED_HINT, ErrorCode, GtError


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
            ErrorCode.REFUSED,
            f"the ledger has schema {version} of no released version, this program needs {schema.SCHEMA_VERSION}",
            "make a new town: gt init DIR",
        )


def set_up(transactions: Transactions, versioning: Versioning, *, empty_is_new: bool) -> None:
    """Make the tables of a ledger that has none; finish what was interrupted.

    Args:
        empty_is_new: set up a ledger without tables; otherwise it counts as damaged.

    Raises:
        GtError: LEDGER_UNREACHABLE, LEDGER_DAMAGED.
    """
    if transactions.read(stored_version) > 0:
        return
    if not empty_is_new:
        raise GtError(ErrorCode.LEDGER_DAMAGED, "the ledger is damaged: its tables are gone", DAMAGED_HINT)

    def make(connection: Connection) -> tuple[None, str | None]:
        with versioning.sole_setup(connection):
            if stored_version(connection) == 0:
                create_tables(connection)
                versioning.commit(connection, f"schema {schema.SCHEMA_VERSION}", transactions.author)
        return None, None

    transactions.write(make)


def create_tables(connection: Connection) -> None:
    """Make the tables that are missing, and note their version."""
    schema.metadata.create_all(connection)
    upsert(connection, schema.schema_version, {"id": 1}, {"version": schema.SCHEMA_VERSION})


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
    """Make what `drift` misses: tables, columns, indexes, the version. What is there too much stays.

    Rows get a new column's default; a column that has none and must not be empty cannot be made.
    """
    create_tables(connection)
    look = inspect(connection)
    for table in schema.metadata.sorted_tables:
        known = {column["name"] for column in look.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known and column.nullable:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {added}")
                filled = getattr(column.default, "arg", None)
                if filled is not None:
                    connection.execute(update(table).values({column.name: filled}))
        indexed = {index["name"] for index in look.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                index.create(connection)


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
        set_up(Transactions(engine, versioning), versioning, empty_is_new=True)
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
