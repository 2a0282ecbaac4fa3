"""Where the two engines differ: taking the write turn, the Dolt commit, and reading history.

Measured with Dolt 1.86.4 and doltlite 0.51.3: DOLT_COMMIT ends the SQL transaction and makes the
commit in one atomic step on both engines, so there is no change without its commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, CursorResult, bindparam, text
from sqlalchemy.exc import OperationalError

from models.errors import ErrorCode, GtError

_EMAIL_DOMAIN = "gastown"
_SETUP_LOCK_S = 30
_SERVER_COMMIT = text("CALL DOLT_COMMIT('--skip-empty', '-A', '-m', :message, '--author', :author)")
_EMBEDDED_COMMIT = text("SELECT dolt_commit('--skip-empty', '-A', '-m', :message, '--author', :author)")
_IS_LOGGED = text("SELECT 1 FROM dolt_log WHERE commit_hash = :commit LIMIT 1")
_LOG = "SELECT commit_hash, date, committer, message FROM dolt_log"


class LoggedCommit(NamedTuple):
    """One entry of Dolt's log."""

    commit: str
    at: datetime
    by: str
    message: str


class Versioning(Protocol):
    """What an engine does in its own words."""

    def begin_write(self, connection: Connection) -> None:
        """Start a transaction that will write."""

    def begin_read(self, connection: Connection) -> None:
        """Start a transaction whose reads all see one state."""

    def commit(self, connection: Connection, message: str, by: str) -> str | None:
        """Commit the transaction and record it in Dolt's log, in one step.

        Returns:
            The commit's hash; None where the transaction changed nothing.
        """

    def holds(self, connection: Connection, commit: str) -> bool:
        """Whether the log has that commit."""

    def collect_garbage(self, connection: Connection) -> None:
        """Give back the room of what no commit holds; others may work on meanwhile."""

    def log(self, connection: Connection, hashes: Collection[str]) -> list[LoggedCommit]:
        """Those commits, oldest first."""

    def uncommitted(self, connection: Connection) -> list[str]:
        """Tables with changes that no commit has."""

    def damage(self, connection: Connection) -> str:
        """What the engine's own check of its data says is wrong; "" for nothing."""

    def newest(self, connection: Connection, limit: int | None) -> list[LoggedCommit]:
        """The newest commits, newest first."""

    def newest_until(self, connection: Connection, until: datetime) -> LoggedCommit | None:
        """The last commit that is not later than `until`, to the second."""

    def rows_at(self, connection: Connection, table: str, commit: str, key: str, value: str) -> list[dict[str, Any]]:
        """Rows as they were at a commit, those whose column `key` is `value`; none where there was no such table."""

    def differences(self, connection: Connection, table: str, older: str, newer: str) -> list[dict[str, Any]]:
        """What differs between two commits: `from_…` and `to_…` of each column."""

    def sole_setup(self, connection: Connection) -> AbstractContextManager[None]:
        """Nobody else makes or mends tables inside it."""


class ServerVersioning:
    """A Dolt SQL server. Transactions are begun in so many words: Dolt reports a wrong autocommit
    flag, which pymysql believes, so a session commits every statement until it is told otherwise.
    """

    def begin_write(self, connection: Connection) -> None:
        connection.exec_driver_sql("START TRANSACTION")

    def begin_read(self, connection: Connection) -> None:
        connection.exec_driver_sql("START TRANSACTION")

    def commit(self, connection: Connection, message: str, by: str) -> str | None:
        return connection.execute(_SERVER_COMMIT, {"message": message, "author": _author(by)}).scalar() or None

    def holds(self, connection: Connection, commit: str) -> bool:
        return _is_logged(connection, commit)

    def collect_garbage(self, connection: Connection) -> None:
        connection.exec_driver_sql("CALL DOLT_GC()")
        # A server that does not track its sessions gives up each of them then, this one included.
        connection.invalidate()

    def log(self, connection: Connection, hashes: Collection[str]) -> list[LoggedCommit]:
        query = text(f"{_LOG} WHERE commit_hash IN :hashes ORDER BY commit_order").bindparams(
            bindparam("hashes", expanding=True)
        )
        rows = connection.execute(query, {"hashes": sorted(hashes)}) if hashes else ()
        return [_logged(row) for row in rows]

    def uncommitted(self, connection: Connection) -> list[str]:
        return _changed_tables(connection)

    def damage(self, connection: Connection) -> str:
        # The server checks what it reads; its `fsck` needs the server to be down.
        return ""

    def newest(self, connection: Connection, limit: int | None) -> list[LoggedCommit]:
        query = f"{_LOG} ORDER BY commit_order DESC" + ("" if limit is None else f" LIMIT {limit:d}")
        return [_logged(row) for row in connection.execute(text(query))]

    def newest_until(self, connection: Connection, until: datetime) -> LoggedCommit | None:
        query = text(f"{_LOG} WHERE date < :after ORDER BY commit_order DESC LIMIT 1")
        row = connection.execute(query, {"after": _after(until)}).first()
        return None if row is None else _logged(row)

    def rows_at(self, connection: Connection, table: str, commit: str, key: str, value: str) -> list[dict[str, Any]]:
        known = text("SHOW TABLES AS OF :commit")
        if table not in connection.execute(known, {"commit": commit}).scalars().all():
            return []
        query = text(f"SELECT * FROM {table} AS OF :commit WHERE {key} = :value")  # noqa: S608
        return _dicts(connection.execute(query, {"commit": commit, "value": value}))

    def differences(self, connection: Connection, table: str, older: str, newer: str) -> list[dict[str, Any]]:
        query = text(f"SELECT * FROM dolt_diff(:older, :newer, '{table}')")  # noqa: S608
        return _dicts(connection.execute(query, {"older": older, "newer": newer}))

    @contextmanager
    def sole_setup(self, connection: Connection) -> Iterator[None]:
        # DDL commits implicitly on the server, so the transaction alone does not keep others out.
        got = connection.execute(text("SELECT GET_LOCK('gastown.setup', :wait)"), {"wait": _SETUP_LOCK_S})
        if got.scalar() != 1:
            raise GtError(ErrorCode.LEDGER_CONFLICT, "another program is making the tables of the ledger")
        # The transaction's view is older than the lock: look again at what others did meanwhile.
        connection.exec_driver_sql("ROLLBACK")
        self.begin_write(connection)
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK('gastown.setup')")).all()


class EmbeddedVersioning:
    """A doltlite file: one writer at a time, taken at the start so that no transaction is upgraded."""

    def begin_write(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_read(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    def commit(self, connection: Connection, message: str, by: str) -> str | None:
        return connection.execute(_EMBEDDED_COMMIT, {"message": message, "author": _author(by)}).scalar() or None

    def holds(self, connection: Connection, commit: str) -> bool:
        return _is_logged(connection, commit)

    def collect_garbage(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT dolt_gc()").all()

    def log(self, connection: Connection, hashes: Collection[str]) -> list[LoggedCommit]:
        # A condition on the hash would make doltlite look each one up and lose the log's order.
        rows = connection.execute(text(_LOG)).all()
        return [_logged(row) for row in reversed(rows) if row[0] in hashes]

    def uncommitted(self, connection: Connection) -> list[str]:
        return _changed_tables(connection)

    def damage(self, connection: Connection) -> str:
        said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        return "" if said == ["ok"] else " ".join(" ".join(map(str, said)).split())

    def newest(self, connection: Connection, limit: int | None) -> list[LoggedCommit]:
        query = _LOG + ("" if limit is None else f" LIMIT {limit:d}")
        return [_logged(row) for row in connection.execute(text(query))]

    def newest_until(self, connection: Connection, until: datetime) -> LoggedCommit | None:
        query = text(f"{_LOG} WHERE date < :after LIMIT 1")
        row = connection.execute(query, {"after": str(_after(until))}).first()
        return None if row is None else _logged(row)

    def rows_at(self, connection: Connection, table: str, commit: str, key: str, value: str) -> list[dict[str, Any]]:
        query = text(f"SELECT * FROM dolt_at_{table}(:commit) WHERE {key} = :value")  # noqa: S608
        try:
            return _dicts(connection.execute(query, {"commit": commit, "value": value}))
        except OperationalError as error:
            if f"table not found: {table} at" in str(error.orig):
                return []
            raise

    def differences(self, connection: Connection, table: str, older: str, newer: str) -> list[dict[str, Any]]:
        query = text(f"SELECT * FROM dolt_diff_{table}(:older, :newer)")  # noqa: S608
        return _dicts(connection.execute(query, {"older": older, "newer": newer}))

    @contextmanager
    def sole_setup(self, connection: Connection) -> Iterator[None]:
        yield


def changes_of_row(connection: Connection, table: str, key: str, value: str) -> list[dict[str, Any]]:
    """Every committed change of the rows of `table` whose `key` is `value`: `dolt_diff_<table>`."""
    rows = connection.execute(
        text(f"SELECT * FROM dolt_diff_{table} WHERE to_{key} = :value OR from_{key} = :value"),  # noqa: S608
        {"value": value},
    )
    return _dicts(rows)


def _dicts(rows: CursorResult[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows.mappings()]


def _after(until: datetime) -> datetime:
    """The first second after `until`; Dolt's log has UTC without a zone, doltlite's to the second."""
    return until.astimezone(UTC).replace(microsecond=0, tzinfo=None) + timedelta(seconds=1)


def _changed_tables(connection: Connection) -> list[str]:
    return sorted(set(connection.execute(text("SELECT table_name FROM dolt_status")).scalars()))


def _is_logged(connection: Connection, commit: str) -> bool:
    return connection.execute(_IS_LOGGED, {"commit": commit}).first() is not None


def _author(by: str) -> str:
    """`by` in git's form. Angle brackets and line ends would break it."""
    name = " ".join("".join(character for character in by if character not in "<>\x00").split()) or "gt"
    return f"{name} <{name.replace(' ', '.')}@{_EMAIL_DOMAIN}>"


def _logged(row: Sequence[Any]) -> LoggedCommit:
    return LoggedCommit(row[0], _as_time(row[1]), row[2], row[3])


def _as_time(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC)
