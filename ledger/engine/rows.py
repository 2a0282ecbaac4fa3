"""Between rows and models: times, text that must fit, and the upsert that both engines understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Table, Update, bindparam, insert, text, update

from ledger.queries import Ask
from models.errors import ErrorCode, GtError


def stamp(moment: datetime) -> str:
    """ISO-8601 UTC of fixed width: sorts as text. A time without a zone counts as UTC.

    Raises:
        GtError: INVALID_VALUE for a time that is in no year of UTC.
    """
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except OverflowError:
        raise GtError(ErrorCode.INVALID_VALUE, f"{moment.isoformat()} is out of range") from None


def now_stamp() -> str:
    return stamp(datetime.now(UTC))


def printable(value: str) -> str:
    """`value` with what no text column may hold (NUL, half a surrogate pair) replaced.

    For what programs said, such as a pane's last words: refusing it would stop a job's record.
    """
    return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_parsed = lru_cache(maxsize=64)(text)
"""SQLAlchemy reads through a text for its parameters each time that it is given one."""


def asking(connection: Connection) -> Ask:
    """Runs the questions of ledger/queries.py over `connection`."""

    def ask(query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in connection.execute(_parsed(query), values).mappings()]

    return ask


@lru_cache(maxsize=64)
def _upserting(table: Table, key: tuple[str, ...]) -> tuple[Update, Insert]:
    """Made once: SQLAlchemy takes longer to make a statement than to run it."""
    return update(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in key)), insert(table)


def upsert(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Update the row with that key, or insert it. Two concurrent inserts end as a conflict."""
    updating, inserting = _upserting(table, tuple(key))
    if not connection.execute(updating, {**{f"of_{name}": value for name, value in key.items()}, **values}).rowcount:
        connection.execute(inserting, key | values)
