"""Labels and comments: what people say about beads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from ledger import queries
from ledger.beads.dependencies import require_bead
from ledger.engine import schema
from ledger.engine.rows import asking, now_stamp, stamp
from ledger.engine.transactions import Transactions, new_token
from models.errors import ErrorCode, GtError
from models.ledger.beads import Comment, valid_label
from models.texts import storable_text

MAX_COMMENT = 1_000_000
"""characters"""


class LabelRecords(Transactions):
    """Labels and comments of beads."""

    def change_labels(self, bead: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> tuple[str, ...]:
        """Label a bead and take labels off it; returns what it has now. What is both added and removed is removed.

        Raises:
            GtError: NOT_FOUND; INVALID_VALUE for a label.
        """
        added, removed = [valid_label(label) for label in add], [valid_label(label) for label in remove]

        def change(connection: Connection) -> tuple[None, str | None]:
            require_bead(connection, bead)
            had = set(labels_of(connection, bead))
            new = put_labels(connection, bead, [label for label in added if label not in had.union(removed)])
            gone = sorted(had.intersection(removed))
            where = (schema.labels.c.bead == bead) & schema.labels.c.label.in_(gone)
            connection.execute(delete(schema.labels).where(where))
            if not new and not gone:
                return None, None
            _touch(connection, bead)
            said = [f"+{label}" for label in new] + [f"-{label}" for label in gone]
            return None, f"{bead}: labels {' '.join(said)}"

        return self.write_and_read(change, lambda connection, _: labels_of(connection, bead))

    def labels(self) -> dict[str, int]:
        """Every label in use, and of how many beads."""

        def ask(connection: Connection) -> dict[str, int]:
            counts: dict[str, int] = {}
            for label in connection.execute(select(schema.labels.c.label).order_by(schema.labels.c.label)).scalars():
                counts[label] = counts.get(label, 0) + 1
            return counts

        return self.read(ask)

    def add_comment(self, bead: str, author: str, text: str, *, id: str | None = None) -> Comment:
        """Add a comment.

        Args:
            id: identifies the comment: adding it again is once. Made up where it is not given.

        Raises:
            GtError: NOT_FOUND for the bead; INVALID_VALUE for an empty or unstorable text.
        """
        _require_text(text)
        storable_text("author", author)
        key, at = id or new_token(), now_stamp()

        def change(connection: Connection) -> tuple[None, str | None]:
            require_bead(connection, bead)
            if connection.execute(select(schema.comments.c.id).where(schema.comments.c.id == key)).first():
                return None, None
            row = {"id": key, "bead": bead, "author": author, "at": at, "text": text}
            connection.execute(insert(schema.comments).values(**row))
            _touch(connection, bead)
            return None, f"{bead}: comment by {author}"

        self.write(change)
        return next(comment for comment in self.comments(bead) if comment.id == key)

    def comments(self, bead: str) -> list[Comment]:
        """What was said about a bead, oldest first; GtError(NOT_FOUND) for the bead."""
        return self.read(lambda connection: queries.comments(asking(connection), bead))


def labels_of(connection: Connection, bead: str) -> tuple[str, ...]:
    """A bead's labels, sorted."""
    return queries.values_of(asking(connection), "labels", "label", [bead]).get(bead, ())


def put_labels(connection: Connection, bead: str, labels: Iterable[str]) -> list[str]:
    """Insert labels that the bead has not; returns them, each once."""
    new = list(dict.fromkeys(valid_label(label) for label in labels))
    for label in new:
        connection.execute(insert(schema.labels).values(bead=bead, label=label))
    return new


def all_comments(connection: Connection) -> list[Comment]:
    """What was said about every bead, oldest first."""
    query = select(schema.comments).order_by(schema.comments.c.at, schema.comments.c.id)
    return [_comment(row) for row in connection.execute(query).mappings()]


def insert_comment(connection: Connection, comment: Comment) -> bool:
    """Insert a comment unless its id is known; whether it was new."""
    if connection.execute(select(schema.comments.c.id).where(schema.comments.c.id == comment.id)).first():
        return False
    row = comment.model_dump() | {"at": stamp(comment.at)}
    connection.execute(insert(schema.comments).values(**row))
    return True


def _require_text(text: str) -> None:
    storable_text("comment", text)
    if not text.strip() or len(text) > MAX_COMMENT:
        raise GtError(ErrorCode.INVALID_VALUE, f"a comment has 1 to {MAX_COMMENT} characters and is not blank")


def _comment(row: RowMapping) -> Comment:
    at = datetime.fromisoformat(row["at"])
    return Comment(id=row["id"], bead=row["bead"], author=row["author"], at=at, text=row["text"])


def _touch(connection: Connection, bead: str) -> None:
    connection.execute(update(schema.beads).where(schema.beads.c.id == bead).values(updated_at=now_stamp()))
