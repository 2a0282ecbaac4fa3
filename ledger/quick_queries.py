"""Asking the ledger without SQLAlchemy, whose import costs more than the answer.

One try over the bare driver. Whatever is odd about the ledger (no file, damage, another schema, a server
that does not answer) is left to `Ledger`, which retries, and says what it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from ledger.engine import embedded
from ledger.engine.version import SCHEMA_VERSION
from ledger.queries import Ask
from models.errors import GtError

T = TypeVar("T")

_PATIENCE_S: Final = 5
_EMBEDDED: Final = "doltlite:///"
_SERVER: Final = "mysql+pymysql"
_MYSQL_PORT: Final = 3306


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
    )
