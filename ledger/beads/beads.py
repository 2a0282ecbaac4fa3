"""Beads: made, read, changed and closed by people. What jobs do to beads is in outbox.py."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from ledger import queries
from ledger.beads.dependencies import dependencies_of, open_dependencies, require_bead
from ledger.beads.labels import put_labels
from ledger.engine import schema
from ledger.engine.rows import asking, now_stamp, stamp
from ledger.engine.transactions import Transactions, new_token
from ledger.rigs import FINAL_STATES, find_rig
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.beads import TreeNode
from models.ledger.records import Bead, BeadChanges, BeadStatus, NewBead
from models.texts import storable_text

MERGED = "merged"
"""The close reason of a bead whose commit was seen on the target: no person may give it."""


def landing_of(told: str) -> str:
    """The commit that a `merged` line of a job's story names; behind a colon may stand how it came there."""
    return told.partition(":")[0].strip()


OF_JOBS = frozenset({BeadStatus.HOOKED, BeadStatus.SUBMITTED})
"""States that only a job can be in."""

_MAX_DEPTH = 50
"""levels of a tree; what is deeper is shown as a leaf"""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORTEST_ID = 3
_LONGEST_ID = 16
_TRIES_PER_LENGTH = 3
_REOPENED = {"closed_at": None, "close_reason": None, "merged_sha": None}
"""It is no longer closed as anything. The history keeps what it was."""


class BeadRecords(Transactions):
    """Units of work."""

    def create_bead(
        self, new: NewBead, also: Callable[[Connection, str], None] | None = None, *, key: str | None = None
    ) -> Bead:
        """Record a unit of work under a new short id.

        Args:
            key: identifies the creation: creating again with it, by whomever and whenever, is once.
            also: writes what belongs to the bead, in the same transaction; gets the new id.

        Raises:
            GtError: NOT_FOUND for the rig or for a dependency; INVALID_VALUE for a label.
        """
        # The token tells our own row, committed before a connection broke, from another's.
        creation = new_token() if key is None else hashlib.sha256(key.encode()).hexdigest()
        candidates = _ids()
        tried: list[str] = []

        def change(connection: Connection) -> tuple[str, str | None]:
            prefix = find_rig(connection, new.rig).prefix
            made = select(schema.beads.c.id).where(schema.beads.c.creation == creation)
            if key is None:
                made = made.where(schema.beads.c.id.in_(tried))
            known = connection.execute(made).scalar()
            if known is not None:
                return known, None
            if key is not None:
                # Two creations with one key write one row, so that the later is refused and finds the earlier.
                row = {"key": f"create/{creation}", "at": now_stamp()}
                connection.execute(insert(schema.applied_writes).values(**row))
            bead = _free_id(connection, prefix, candidates)
            tried.append(bead)
            insert_bead(connection, bead, new, creation)
            if also is not None:
                also(connection, bead)
            return bead, f"{bead}: created ({new.title})"

        return self.write_and_read(change, find_bead)

    def bead(self, bead: str) -> Bead:
        """One bead; GtError(NOT_FOUND) where there is none."""
        return self.read(lambda connection: find_bead(connection, bead))

    def beads(self, rig: str | None = None, status: BeadStatus | None = None, limit: int | None = None) -> list[Bead]:
        """Beads, oldest first."""
        query = select(schema.beads).order_by(schema.beads.c.created_at, schema.beads.c.id)
        if rig is not None:
            query = query.where(schema.beads.c.rig == rig)
        if status is not None:
            query = query.where(schema.beads.c.status == status.value)
        return self.read(lambda connection: beads_of(connection, query.limit(limit)))

    def ready(self, rig: str | None = None, limit: int | None = None) -> list[Bead]:
        """Open beads whose dependencies are all closed: urgent first, then oldest first."""
        return self.read(lambda connection: queries.ready(asking(connection), rig, limit))

    def update_bead(self, bead: str, changes: BeadChanges) -> Bead:
        """Change what a person may change; only the fields given are written.

        Raises:
            GtError: NOT_FOUND; INVALID_VALUE for the status `closed`, which is `close_bead`'s;
                REFUSED for a status while a job decides it, for one that only a job can give, and for
                the target of work that a job is doing or that has landed.
        """
        values = _values(bead, changes)

        def change(connection: Connection) -> tuple[None, str | None]:
            known = _row(connection, bead)
            different = {key: value for key, value in values.items() if known[key] != value}
            if not different:
                return None, None
            if "status" in different:
                _refuse_while_working(connection, bead, "its status follows its job")
                if different["status"] in OF_JOBS:
                    why = f"{bead}: only a job makes a bead {different['status']}"
                    raise GtError(ErrorCode.REFUSED, why, f"gt sling {bead} {known['rig']}")
                different |= _REOPENED
            if "target" in different:
                _refuse_while_working(connection, bead, "its job works for the target that it began with")
                if known["merged_sha"] and "status" not in different:
                    raise GtError(ErrorCode.REFUSED, f"{bead} is merged: its target stays", f"bd reopen {bead}")
            where = schema.beads.c.id == bead
            connection.execute(update(schema.beads).where(where).values(**different, updated_at=now_stamp()))
            return None, f"{bead}: changed {', '.join(key for key in different if key in values)}"

        return self.write_and_read(change, _same_bead(bead))

    def close_bead(self, bead: str, reason: str) -> Bead:
        """Close a bead by hand; one that is closed already keeps its reason.

        Raises:
            GtError: NOT_FOUND; INVALID_VALUE for the reason `merged`; REFUSED with an unfinished job.
        """
        storable_text("reason", reason)
        if reason.strip().lower() == MERGED:
            raise GtError(ErrorCode.INVALID_VALUE, "only a merge closes a bead as merged", "bd close ID --reason TEXT")

        def change(connection: Connection) -> tuple[None, str | None]:
            if _row(connection, bead)["status"] == BeadStatus.CLOSED:
                return None, None
            _refuse_while_working(connection, bead, "it has a running job")
            now = now_stamp()
            values = {"status": BeadStatus.CLOSED.value, "close_reason": reason, "closed_at": now, "updated_at": now}
            connection.execute(update(schema.beads).where(schema.beads.c.id == bead).values(**values))
            return None, f"{bead}: closed ({reason})"

        return self.write_and_read(change, _same_bead(bead))

    def reopen_bead(self, bead: str, reason: str = "") -> Bead:
        """Open a closed bead again; one that is not closed stays as it is.

        Raises:
            GtError: NOT_FOUND; INVALID_VALUE; REFUSED with an unfinished job.
        """
        storable_text("reason", reason)

        def change(connection: Connection) -> tuple[None, str | None]:
            if _row(connection, bead)["status"] != BeadStatus.CLOSED:
                return None, None
            _refuse_while_working(connection, bead, "it has a running job")
            values = _REOPENED | {"status": BeadStatus.OPEN.value, "assignee": None, "updated_at": now_stamp()}
            connection.execute(update(schema.beads).where(schema.beads.c.id == bead).values(**values))
            return None, f"{bead}: reopened ({reason})" if reason else f"{bead}: reopened"

        return self.write_and_read(change, _same_bead(bead))

    def open_dependencies(self, bead: str) -> tuple[str, ...]:
        """Those of a bead's dependencies that are not closed."""
        return self.read(lambda connection: open_dependencies(connection, (bead,))[bead])

    def dependency_tree(self, bead: str) -> TreeNode:
        """A bead and what it needs, down to what needs nothing; GtError(NOT_FOUND) for the bead."""

        def ask(connection: Connection) -> TreeNode:
            find_bead(connection, bead)
            needs, beads = _needed_by(connection, bead)
            return _tree_node(bead, needs, beads, set())

        return self.read(ask)


def find_bead(connection: Connection, bead: str) -> Bead:
    """One bead; GtError(NOT_FOUND) where there is none."""
    return queries.bead(asking(connection), bead)


def _same_bead(bead: str) -> Callable[[Connection, None], Bead]:
    return lambda connection, _: find_bead(connection, bead)


def beads_of(connection: Connection, query: Select[Any]) -> list[Bead]:
    """The beads that a query of their table finds, with what they need and how they are labelled."""
    return queries.as_beads(asking(connection), [dict(row) for row in connection.execute(query).mappings()])


def insert_bead(connection: Connection, bead: str, new: NewBead, creation: str, **more: Any) -> None:
    """Insert a new bead with what it needs and its labels; `more` are columns that a person does not give.

    Raises:
        GtError: NOT_FOUND for a dependency; INVALID_VALUE for a label.
    """
    needed = tuple(dict.fromkeys(new.dependencies))
    for need in needed:
        require_bead(connection, need)
    now = stamp(datetime.now(UTC))
    row = new.model_dump(mode="json", exclude={"dependencies", "labels"}) | {
        "id": bead,
        "status": BeadStatus.OPEN.value,
        "creation": creation,
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(insert(schema.beads).values(**row | more))
    for need in needed:
        connection.execute(insert(schema.dependencies).values(bead=bead, needs=need))
    put_labels(connection, bead, new.labels)


def _needed_by(connection: Connection, bead: str) -> tuple[dict[str, tuple[str, ...]], dict[str, Bead]]:
    """Everything that `bead` needs, near and far: the edges, and the beads by id."""
    edges: dict[str, tuple[str, ...]] = {}
    frontier = [bead]
    while frontier:
        found = dependencies_of(connection, frontier)
        edges |= {one: found.get(one, ()) for one in frontier}
        frontier = sorted({need for needs in found.values() for need in needs} - edges.keys())
    known: dict[str, Bead] = {}
    ids = sorted(edges)
    for start in range(0, len(ids), 500):
        query = select(schema.beads).where(schema.beads.c.id.in_(ids[start : start + 500]))
        known |= {one.id: one for one in beads_of(connection, query)}
    return edges, known


def _tree_node(
    bead: str, edges: dict[str, tuple[str, ...]], known: dict[str, Bead], shown: set[str], depth: int = 0
) -> TreeNode:
    it = known[bead]
    repeated = bead in shown and bool(edges[bead])
    shown.add(bead)
    # A dependency on nothing is `bd verify`'s to report.
    below = () if repeated or depth >= _MAX_DEPTH else tuple(need for need in edges[bead] if need in known)
    needs = tuple(_tree_node(need, edges, known, shown, depth + 1) for need in below)
    return TreeNode(id=it.id, title=it.title, status=it.status, priority=it.priority, needs=needs, repeated=repeated)


def _row(connection: Connection, bead: str) -> RowMapping:
    """A bead without what hangs on it; GtError(NOT_FOUND) where there is none."""
    found = connection.execute(select(schema.beads).where(schema.beads.c.id == bead)).mappings().first()
    if found is None:
        raise queries.no_bead(bead)
    return found


def _refuse_while_working(connection: Connection, bead: str, why: str) -> None:
    state = connection.execute(select(schema.jobs.c.state).where(schema.jobs.c.bead == bead)).scalar()
    if state is not None and state not in FINAL_STATES:
        raise GtError(ErrorCode.REFUSED, f"{bead}: {why} (it is {state})", f"gt job cancel {bead}")


def _values(bead: str, changes: BeadChanges) -> dict[str, Any]:
    if changes.status is BeadStatus.CLOSED:
        raise GtError(ErrorCode.INVALID_VALUE, "a bead is closed with a reason", f"bd close {bead}")
    values = changes.model_dump(mode="json", exclude_none=True)
    storable_text("assignee", changes.assignee)
    cleared = [name for name in ("assignee", "target") if values.get(name) == ""]
    return values | dict.fromkeys(cleared)


def _ids() -> Iterable[str]:
    """Random base-36 words, longer after some collisions."""
    for length in range(_SHORTEST_ID, _LONGEST_ID + 1):
        for _ in range(_TRIES_PER_LENGTH):
            yield random_word(length)


def random_word(length: int) -> str:
    """`length` random base-36 digits."""
    return "".join(random.choices(_DIGITS, k=length))  # noqa: S311 - an id, not a secret


def _free_id(connection: Connection, prefix: str, candidates: Iterable[str]) -> str:
    for word in candidates:
        bead = names.valid_bead(f"{prefix}-{word}")
        if connection.execute(select(schema.beads.c.id).where(schema.beads.c.id == bead)).first() is None:
            return bead
    raise GtError(ErrorCode.LEDGER_CONFLICT, f"no free id with the prefix {prefix} was found")
