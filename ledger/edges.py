"""Tables of pairs that belong to beads: what each needs, how it is labelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, select

_IDS_PER_QUERY: Final = 500
_WHOLE_TABLE_FROM: Final = 2000
"""Beads from which one scan of the table is quicker than asking for them by id."""


def values_of(connection: Connection, table: Table, value: str, beads: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The `value` column of each bead's rows, sorted; a bead without rows has no entry."""
    query = select(table.c.bead, table.c[value]).order_by(table.c.bead, table.c[value])
    found: dict[str, list[str]] = defaultdict(list)
    for part in _parts(query, table, beads):
        for bead, told in connection.execute(part):
            found[bead].append(told)
    wanted = set(beads)
    return {bead: tuple(values) for bead, values in found.items() if bead in wanted}


def _parts(query: Any, table: Table, beads: Sequence[str]) -> list[Any]:
    if len(beads) >= _WHOLE_TABLE_FROM:
        return [query]
    starts = range(0, len(beads), _IDS_PER_QUERY)
    return [query.where(table.c.bead.in_(beads[start : start + _IDS_PER_QUERY])) for start in starts]
