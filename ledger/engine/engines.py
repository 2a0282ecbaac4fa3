"""Opening an engine by URL: pool, time limits, session settings, and checks of what was reached."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import QueuePool

from ledger.engine import embedded
from ledger.engine.versioning import EmbeddedVersioning, ServerVersioning, Versioning
from models.errors import ErrorCode, GtError

POOL_SIZE: Final = 5
MAX_OVERFLOW: Final = 10
CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_S: Final = 20
"""Below the 30 s that an activity may take."""
GC_TIMEOUT_S: Final = 2400
BUSY_TIMEOUT_S: Final = 20.0
POOL_RECYCLE_S: Final = 3600
"""Well below the server's 8 h idle limit."""

_SESSION: Final = "SET @@dolt_transaction_commit = 0"
"""A plain COMMIT is no Dolt commit, whatever the server's default."""


def open_engine(url: str) -> tuple[Engine, Versioning]:
    """The engine behind `url`, and its own words for versioning. Connects to nothing yet.

    Args:
        url: `mysql+pymysql://user:password@host:port/database` or `doltlite:////absolute/file`.

    Raises:
        GtError: INVALID_VALUE for another URL, PROGRAM_MISSING where doltlite cannot be loaded.
    """
    file = embedded_file(url)
    if file is not None:
        return _embedded(file), EmbeddedVersioning()
    return _server(_parsed(url)), ServerVersioning()


def embedded_file(url: str) -> Path | None:
    """The file of an embedded ledger; None where `url` names a server's database.

    Raises:
        GtError: INVALID_VALUE for a URL of neither engine.
    """
    parsed = _parsed(url)
    if parsed.drivername == "doltlite" and parsed.database:
        return Path(parsed.database)
    if parsed.drivername == "mysql+pymysql" and parsed.database:
        return None
    raise GtError(
        ErrorCode.INVALID_VALUE,
        f"the ledger's URL must be mysql+pymysql://…/database or doltlite:///file, not {parsed.drivername}://…",
        "see town.toml",
    )


def embedded_url(file: Path) -> str:
    """The URL of an embedded ledger."""
    return URL.create("doltlite", database=str(file)).render_as_string()


def server_without_database(url: str) -> tuple[Engine, str]:
    """An engine on the server alone, and the name of the database: for making that database."""
    parsed = _parsed(url)
    return _server(parsed._replace(database=None)), parsed.database or ""


def unhurried(engine: Engine) -> Engine:
    """An engine on the same ledger whose statements may take as long as a garbage collection does."""
    if engine.dialect.name != "mysql":
        return engine
    return _server(engine.url, statement_timeout_s=GC_TIMEOUT_S)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise GtError(ErrorCode.INVALID_VALUE, "the ledger's URL is not a URL", "see town.toml") from None


def _server(url: URL, statement_timeout_s: float | None = None) -> Engine:
    patience_s = STATEMENT_TIMEOUT_S if statement_timeout_s is None else statement_timeout_s
    return create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=STATEMENT_TIMEOUT_S,
        pool_pre_ping=True,
        pool_recycle=POOL_RECYCLE_S,
        hide_parameters=True,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": patience_s,
            "write_timeout": patience_s,
            "init_command": _SESSION,
        },
    )


def _embedded(file: Path) -> Engine:
    sqlite3 = embedded.load_doltlite()

    def connect() -> Any:
        return embedded.connect(sqlite3, file, busy_timeout_s=BUSY_TIMEOUT_S)

    engine = create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=STATEMENT_TIMEOUT_S,
        hide_parameters=True,
    )
    _forget_replaced_files(engine, file)
    return engine


def _forget_replaced_files(engine: Engine, file: Path) -> None:
    """A restore moves the file aside: a pooled connection to the old one must not be used again."""

    def identity() -> tuple[int, int] | None:
        try:
            found = os.stat(file)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @event.listens_for(engine, "connect")
    def remember(_connection: Any, record: Any) -> None:
        record.info["identity"] = identity()

    @event.listens_for(engine, "checkout")
    def compare(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("identity") != identity():
            raise DisconnectionError("the ledger's file was replaced")
