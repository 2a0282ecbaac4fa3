"""Finding beads by what is known of them, and what hangs on them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from ledger import queries
from ledger.beads.beads import beads_of, find_bead
from ledger.beads.dependencies import dependencies_of
from ledger.engine import schema
from ledger.engine.rows import asking
from ledger.engine.transactions import Transactions
from models.ledger.beads import BeadFilter, TreeNode
from models.ledger.records import Bead

_MAX_DEPTH = 50
"""levels of a tree; what is deeper is shown as a leaf"""


class FindingRecords(Transactions):
    """Questions about many beads."""

    def find_beads(self, wanted: BeadFilter, limit: int | None = None) -> list[Bead]:
        """Beads that fit every part of the filter, oldest first."""
        return self.read(lambda connection: queries.find(asking(connection), wanted, limit))

    def dependency_tree(self, bead: str) -> TreeNode:
        """A bead and what it needs, down to what needs nothing; GtError(NOT_FOUND) for the bead."""

        def ask(connection: Connection) -> TreeNode:
            find_bead(connection, bead)
            needs, beads = _below(connection, bead)
            return _node(bead, needs, beads, set())

        return self.read(ask)


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
