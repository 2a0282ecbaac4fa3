"""What commands ask about beads, in SQL that both engines understand.

Text, not SQLAlchemy's expressions: importing SQLAlchemy takes longer than everything else that `bd show` does,
so `ask_once` asks these over the bare driver, and the ledger over its own connections.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from ledger.engine import embedded
from models.errors import ErrorCode, GtError
from models.ledger.beads import BeadFilter, Comment
from models.ledger.records import Bead, BeadStatus

T = TypeVar("T")
Ask = Callable[[str, Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""Runs one query and returns its rows by column; `:name` in it stands for a value. All see one state of the ledger."""

SCHEMA_VERSION: Final = 5
"""of the tables that these queries, and ledger/engine/schema.py, know"""
_PATIENCE_S: Final = 5
_EMBEDDED: Final = "doltlite:///"
_SERVER: Final = "mysql+pymysql"
_MYSQL_PORT: Final = 3306
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_IDS_PER_QUERY: Final = 500
_WHOLE_TABLE_FROM: Final = 2000
"""Beads from which one scan of the table is quicker than asking for them by id."""
_OLDEST_FIRST: Final = "ORDER BY beads.created_at, beads.id"
_URGENT_FIRST: Final = "ORDER BY beads.priority, beads.created_at, beads.id"


def bead(ask: Ask, bead: str) -> Bead:
    """One bead; GtError(NOT_FOUND) where there is none."""
    found = _beads(ask, ["beads.id = :id"], {"id": bead}, _OLDEST_FIRST, None)
    if not found:
        raise no_bead(bead)
    return found[0]


def find(ask: Ask, wanted: BeadFilter, limit: int | None) -> list[Bead]:
    """Beads that fit every part of the filter, oldest first."""
    conditions, values = _fitting(wanted)
    return _beads(ask, conditions, values, _OLDEST_FIRST, limit)


def ready(ask: Ask, rig: str | None, limit: int | None) -> list[Bead]:
    """Open beads whose dependencies are all closed: urgent first, then oldest first."""
    waits = (
        "SELECT 1 FROM dependencies JOIN beads AS needed ON needed.id = dependencies.needs"
        " WHERE dependencies.bead = beads.id AND needed.status <> :closed"
    )
    conditions, values = _fitting(BeadFilter(rig=rig, status=(BeadStatus.OPEN,)))
    values["closed"] = BeadStatus.CLOSED.value
    return _beads(ask, [*conditions, f"NOT EXISTS ({waits})"], values, _URGENT_FIRST, limit)


def comments(ask: Ask, bead: str) -> list[Comment]:
    """What was said about a bead, oldest first; GtError(NOT_FOUND) for the bead."""
    if not ask("SELECT id FROM beads WHERE id = :id", {"id": bead}):
        raise no_bead(bead)
    rows = ask("SELECT * FROM comments WHERE bead = :bead ORDER BY at, id", {"bead": bead})
    return [Comment.model_validate(row) for row in rows]


def require_rig(ask: Ask, rig: str) -> None:
    """GtError(NOT_FOUND) where there is no such rig."""
    if not ask("SELECT name FROM rigs WHERE name = :name", {"name": rig}):
        raise no_rig(rig)


def values_of(ask: Ask, table: str, value: str, beads: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The column `value` of each bead's rows in a table of pairs, sorted; a bead without rows has no entry."""
    found: dict[str, list[str]] = defaultdict(list)
    for condition, ids in _parts(beads):
        for row in ask(f"SELECT bead, {value} FROM {table} {condition}", ids):  # noqa: S608
            found[row["bead"]].append(row[value])
    wanted = set(beads)
    return {bead: tuple(sorted(values)) for bead, values in found.items() if bead in wanted}


def as_beads(ask: Ask, rows: Sequence[Mapping[str, Any]]) -> list[Bead]:
    """Rows of beads, with what they need and how they are labelled."""
    ids = [row["id"] for row in rows]
    needs, labels = values_of(ask, "dependencies", "needs", ids), values_of(ask, "labels", "label", ids)
    return [
        Bead.model_validate({**row, "dependencies": needs.get(row["id"], ()), "labels": labels.get(row["id"], ())})
        for row in rows
    ]


def no_bead(bead: str) -> GtError:
    return GtError(ErrorCode.NOT_FOUND, f"there is no bead {bead!r}", "bd list")


def no_rig(rig: str) -> GtError:
    return GtError(ErrorCode.NOT_FOUND, f"there is no rig {rig!r}", "gt rig list")


def _beads(ask: Ask, conditions: list[str], values: dict[str, Any], order: str, limit: int | None) -> list[Bead]:
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    at_most = "" if limit is None else f"LIMIT {limit:d}"
    return as_beads(ask, ask(f"SELECT beads.* FROM beads {where} {order} {at_most}", values))  # noqa: S608


def _fitting(wanted: BeadFilter) -> tuple[list[str], dict[str, Any]]:
    """Conditions on rows of beads, and the values in them."""
    values: dict[str, Any] = {"rig": wanted.rig, "priority": wanted.priority, "assignee": wanted.assignee or None}
    values["type"] = None if wanted.type is None else wanted.type.value
    conditions = [f"beads.{name} = :{name}" for name, value in values.items() if value is not None]
    if wanted.assignee == "":
        conditions.append("beads.assignee IS NULL")
    if wanted.status:
        named = {f"status{n}": status.value for n, status in enumerate(wanted.status)}
        conditions.append(f"beads.status IN ({_names(named)})")
        values |= named
    for n, label in enumerate(wanted.labels):
        of_bead = f"SELECT 1 FROM labels WHERE labels.bead = beads.id AND labels.label = :label{n}"  # noqa: S608
        conditions.append(f"EXISTS ({of_bead})")
        values[f"label{n}"] = label
    if wanted.text is not None:
        conditions.append(_holding("text"))
        values["text"] = f"%{_literally(wanted.text.lower())}%"
    return conditions, {name: value for name, value in values.items() if value is not None}


def _holding(name: str) -> str:
    def found_in(column: str) -> str:
        return f"LOWER({column}) LIKE :{name} ESCAPE '/'"

    commented = f"SELECT 1 FROM comments WHERE comments.bead = beads.id AND {found_in('comments.text')}"  # noqa: S608
    own = " OR ".join(found_in(f"beads.{column}") for column in ("id", "title", "description"))
    return f"({own} OR EXISTS ({commented}))"


def _literally(text: str) -> str:
    """`text` as a pattern that only it fits."""
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _parts(beads: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    if len(beads) >= _WHOLE_TABLE_FROM:
        yield "", {}
        return
    for start in range(0, len(beads), _IDS_PER_QUERY):
        ids = {f"id{n}": bead for n, bead in enumerate(beads[start : start + _IDS_PER_QUERY])}
        yield f"WHERE bead IN ({_names(ids)})", ids


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(f":{name}" for name in values)


class Unanswered(Exception):
    """The ledger was not as it should be, or the question failed: ask a `Ledger`."""


def ask_once(url: str, question: Callable[[Ask], T]) -> T:
    """What `question` makes of the ledger behind `url`; all it asks sees one state.

    Raises:
        Unanswered: for everything but an answer and what `question` itself refuses.
        GtError: what `question` refuses.
    """
    with ExitStack() as opened:
        # Neither is swallowed: the ledger meets it again, and says what it means.
        try:
            ask = opened.enter_context(_connected(url))
            versions = [row["version"] for row in ask("SELECT version FROM schema_version", {})]
        except Exception as error:
            raise Unanswered from error
        if versions != [SCHEMA_VERSION]:
            raise Unanswered
        try:
            return question(ask)
        except GtError:
            raise
        except Exception as error:
            raise Unanswered from error


@contextmanager
def _connected(url: str) -> Iterator[Ask]:
    if "?" in url:
        # Options of SQLAlchemy's dialect.
        raise Unanswered
    if url.startswith(_EMBEDDED):
        with closing(_embedded(Path(url.removeprefix(_EMBEDDED)))) as connection:
            connection.execute("BEGIN")
            yield lambda query, values: _dicts(connection.execute(query, values))
        return
    with closing(_server(url)) as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION")

        def ask(query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
            cursor.execute(re.sub(r":(\w+)", r"%(\1)s", query), values or None)
            return list(cursor.fetchall())

        yield ask


def _embedded(file: Path) -> Any:
    return embedded.connect(embedded.load_doltlite(), file, busy_timeout_s=_PATIENCE_S)


def _dicts(cursor: Any) -> list[dict[str, Any]]:
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor]


def _server(url: str) -> Any:
    # Not at the top: an embedded ledger does without.
    import pymysql  # noqa: PLC0415
    from pymysql.cursors import DictCursor  # noqa: PLC0415

    parts = urlsplit(url)
    if parts.scheme != _SERVER:
        raise Unanswered
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or _MYSQL_PORT,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/"),
        charset="utf8mb4",
        connect_timeout=_PATIENCE_S,
        read_timeout=_PATIENCE_S,
        write_timeout=_PATIENCE_S,
        autocommit=None,
        cursorclass=DictCursor,
        # The certificates that a system trusts take 25 ms to load. A server on this machine that wants TLS all the same
        # refuses, and is asked by a `Ledger` then.
        ssl_disabled=parts.hostname in _LOOPBACK,
    )
