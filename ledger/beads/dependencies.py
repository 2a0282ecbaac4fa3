"""Which bead needs which: never in a circle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from ledger.engine import schema
from ledger.engine.rows import asking, now_stamp
from ledger.engine.transactions import Transactions, take_turn
from ledger.queries import no_bead, values_of
from models.errors import ErrorCode, GtError
from models.ledger.records import BeadStatus

_TURN = "dependencies"
_IDS_PER_QUERY: Final = 500


class DependencyRecords(Transactions):
    """Edges between beads."""

    def add_dependency(self, bead: str, needs: str) -> None:
        """Record that `bead` waits for `needs`; telling it twice is one.

        Raises:
            GtError: NOT_FOUND for either bead; REFUSED for itself or a circle, which is named.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            # Two edges that are harmless alone can close a circle together.
            take_turn(connection, _TURN)
            require_bead(connection, bead)
            require_bead(connection, needs)
            if needs in dependencies_of(connection, [bead]).get(bead, ()):
                return None, None
            circle = _path(connection, needs, bead)
            if circle is not None:
                way = " needs ".join([bead, *circle])
                hint = f"bd dep remove {circle[0]} {circle[1]}" if len(circle) > 1 else ""
                raise GtError(ErrorCode.REFUSED, f"that would be a circle: {way}", hint)
            connection.execute(insert(schema.dependencies).values(bead=bead, needs=needs))
            _touch(connection, bead)
            return None, f"{bead}: needs {needs}"

        self.write(change)

    def remove_dependency(self, bead: str, needs: str) -> None:
        """Forget that `bead` waits for `needs`, which may be gone; forgetting it twice is once.

        Raises:
            GtError: NOT_FOUND for either bead where nothing was to be forgotten.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            edge = (schema.dependencies.c.bead == bead) & (schema.dependencies.c.needs == needs)
            if not connection.execute(delete(schema.dependencies).where(edge)).rowcount:
                require_bead(connection, bead)
                require_bead(connection, needs)
                return None, None
            _touch(connection, bead)
            return None, f"{bead}: no longer needs {needs}"

        self.write(change)


def dependencies_of(connection: Connection, beads: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What each of `beads` needs; a bead that needs nothing has no entry."""
    return values_of(asking(connection), "dependencies", "needs", beads)


def open_dependencies(connection: Connection, beads: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each of `beads`: those of its dependencies that are not closed."""
    needs = dependencies_of(connection, beads)
    wanted = sorted({need for found in needs.values() for need in found})
    closed: set[str] = set()
    for start in range(0, len(wanted), _IDS_PER_QUERY):
        some = schema.beads.c.id.in_(wanted[start : start + _IDS_PER_QUERY])
        query = select(schema.beads.c.id).where(some, schema.beads.c.status == BeadStatus.CLOSED.value)
        closed.update(connection.execute(query).scalars())
    return {bead: tuple(need for need in needs.get(bead, ()) if need not in closed) for bead in beads}


def _path(connection: Connection, start: str, goal: str) -> list[str] | None:
    """The beads from `start` to `goal` along what needs what, or None."""
    came_from: dict[str, str | None] = {start: None}
    frontier = [start]
    while frontier and goal not in came_from:
        following: list[str] = []
        for bead, needs in dependencies_of(connection, frontier).items():
            for need in needs:
                if need not in came_from:
                    came_from[need] = bead
                    following.append(need)
        frontier = following
    if goal not in came_from:
        return None
    path: list[str] = []
    step: str | None = goal
    while step is not None:
        path.append(step)
        step = came_from[step]
    return path[::-1]


def require_bead(connection: Connection, bead: str) -> None:
    """GtError(NOT_FOUND) where there is no such bead."""
    if connection.execute(select(schema.beads.c.id).where(schema.beads.c.id == bead)).first() is None:
        raise no_bead(bead)


def _touch(connection: Connection, bead: str) -> None:
    connection.execute(update(schema.beads).where(schema.beads.c.id == bead).values(updated_at=now_stamp()))
