"""Loading doltlite, the embedded Dolt, under Python's own `sqlite3` module.

`import doltlite` makes its library's symbols win over the system's libsqlite3. That works only
before `sqlite3` is first imported; afterwards (and always on macOS) doltlite would start the
interpreter again in place, which would kill a worker in the middle of its work. It also leaves a
mark in the environment that makes a child process believe that it is loaded already and run on
stock SQLite. So it is imported here alone, under guard, and the mark is removed.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from models.errors import DAMAGED_HINT, ErrorCode, GtError

_MARK = "_DOLTLITE_BOOTSTRAPPED"
_SERVER_HINT = "install dolt and use the server: gt init --store server"


def load_doltlite() -> Any:
    """Return the `sqlite3` module of this process, running on doltlite.

    Raises:
        GtError: PROGRAM_MISSING where doltlite is not installed or cannot take sqlite3's place.
    """
    if "_sqlite3" not in sys.modules and sys.platform != "darwin":
        _import_doltlite()
    # Not a plain import: the order is the point, doltlite must come first.
    sqlite3 = importlib.import_module("sqlite3")
    if not _has_dolt(sqlite3):
        raise GtError(ErrorCode.PROGRAM_MISSING, _why_not(), _SERVER_HINT)
    return sqlite3


def _import_doltlite() -> None:
    os.environ.pop(_MARK, None)
    try:
        importlib.import_module("doltlite")
    except (ImportError, OSError, RuntimeError) as error:
        raise GtError(
            ErrorCode.PROGRAM_MISSING, f"doltlite, the embedded ledger's engine, does not load: {error}", _SERVER_HINT
        ) from error
    finally:
        os.environ.pop(_MARK, None)


def _has_dolt(sqlite3: Any) -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("SELECT dolt_version()").fetchall()
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _why_not() -> str:
    if sys.platform == "darwin":
        return "the embedded ledger is not supported on macOS unless doltlite was loaded before Python started"
    if "doltlite" in sys.modules:
        return "this Python has SQLite built in, so doltlite cannot take its place; a distribution's Python can"
    return "sqlite3 was imported before the ledger was opened, so doltlite cannot take its place in this process"


def connect(sqlite3: Any, file: Path, *, busy_timeout_s: float) -> Any:
    """A connection to the ledger's file, in manual transaction mode, checked to be doltlite's format.

    Raises:
        GtError: LEDGER_UNREACHABLE where there is no file; LEDGER_DAMAGED for a file of plain SQLite.
        sqlite3.DatabaseError: for a file that is no database.
    """
    if not file.exists():
        raise GtError(ErrorCode.LEDGER_UNREACHABLE, f"there is no ledger at {file}", "gt up")
    connection = sqlite3.connect(
        f"file:{_uri_path(file)}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        engine = connection.execute("SELECT doltlite_engine()").fetchone()[0]
        if engine != "prolly":
            raise GtError(
                ErrorCode.LEDGER_DAMAGED,
                f"{file} is a plain SQLite file, not a ledger",
                DAMAGED_HINT,
            )
        # SQLite's own knows ASCII alone; a search must find the same on both engines.
        connection.create_function("lower", 1, _lower, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _uri_path(file: Path) -> str:
    return file.as_uri().removeprefix("file://")
