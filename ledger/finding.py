"""Finding beads by what is known of them, and what hangs on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, or_, select

from ledger import schema
from ledger.beads import beads_of, find_bead
from ledger.dependencies import dependencies_of
from ledger.transactions import Transactions
from models.beads import BeadFilter, TreeNode
from models.records import Bead

_MAX_DEPTH = 50
"""levels of a tree; what is deeper is shown as a leaf"""


class FindingRecords(Transactions):
    """Questions about many beads."""

    def find_beads(self, wanted: BeadFilter, limit: int | None = None) -> list[Bead]:
        """Beads that fit every part of the filter, oldest first."""
        query = _filtered(select(schema.beads), wanted)
        ordered = query.order_by(schema.beads.c.created_at, schema.beads.c.id).limit(limit)
        return self.read(lambda connection: beads_of(connection, ordered))

    def count_beads(self, wanted: BeadFilter) -> int:
        """How many beads fit the filter."""
        query = _filtered(select(func.count()).select_from(schema.beads), wanted)
        return self.read(lambda connection: int(connection.execute(query).scalar() or 0))

    def dependency_tree(self, bead: str) -> TreeNode:
        """A bead and what it needs, down to what needs nothing; GtError(NOT_FOUND) for the bead."""

        def ask(connection: Connection) -> TreeNode:
            find_bead(connection, bead)
            needs, beads = _below(connection, bead)
            return _node(bead, needs, beads, set())

        return self.read(ask)


def _filtered(query: Select[Any], wanted: BeadFilter) -> Select[Any]:
    beads, labels = schema.beads.c, schema.labels.c
    if wanted.rig is not None:
        query = query.where(beads.rig == wanted.rig)
    if wanted.status:
        query = query.where(beads.status.in_([status.value for status in wanted.status]))
    if wanted.type is not None:
        query = query.where(beads.type == wanted.type.value)
    if wanted.priority is not None:
        query = query.where(beads.priority == wanted.priority)
    if wanted.assignee is not None:
        query = query.where(beads.assignee == wanted.assignee if wanted.assignee else beads.assignee.is_(None))
    for label in wanted.labels:
        query = query.where(exists().where(labels.bead == beads.id, labels.label == label))
    if wanted.text is not None:
        query = query.where(_holds(wanted.text))
    return query


def _holds(text: str) -> ColumnElement[bool]:
    def found_in(column: Any) -> ColumnElement[bool]:
        return func.lower(column).contains(text.lower(), autoescape=True)

    beads, comments = schema.beads.c, schema.comments.c
    commented = exists().where(comments.bead == beads.id, found_in(comments.text))
    return or_(found_in(beads.id), found_in(beads.title), found_in(beads.description), commented)


def _below(connection: Connection, bead: str) -> tuple[dict[str, tuple[str, ...]], dict[str, Bead]]:
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


def _node(
    bead: str, edges: dict[str, tuple[str, ...]], known: dict[str, Bead], shown: set[str], depth: int = 0
) -> TreeNode:
    it = known[bead]
    repeated = bead in shown and bool(edges[bead])
    shown.add(bead)
    # A dependency on nothing is `bd verify`'s to report.
    below = () if repeated or depth >= _MAX_DEPTH else tuple(need for need in edges[bead] if need in known)
    needs = tuple(_node(need, edges, known, shown, depth + 1) for need in below)
    return TreeNode(id=it.id, title=it.title, status=it.status, priority=it.priority, needs=needs, repeated=repeated)
