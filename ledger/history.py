"""A bead's history, out of Dolt's own log and diffs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection

from ledger import schema
from ledger.dependencies import require_bead
from ledger.transactions import Transactions
from ledger.versioning import changes_of_row
from models.records import HistoryEntry

_UNTOLD = frozenset({"updated_at", "creation"})
"""Changes that say nothing to a person."""

Change = tuple[Any, Any]


class HistoryRecords(Transactions):
    """Who changed what, when and why."""

    def bead_history(self, bead: str) -> list[HistoryEntry]:
        """Every commit that changed a bead or what it needs, oldest first.

        Raises:
            GtError: NOT_FOUND for the bead.
        """

        def ask(connection: Connection) -> list[HistoryEntry]:
            require_bead(connection, bead)
            changes = _field_changes(connection, bead)
            for commit, change in _dependency_changes(connection, bead).items():
                changes[commit]["dependencies"] = change
            return [
                HistoryEntry(at=at, commit=commit, by=by, message=message, changes=changes[commit])
                for commit, at, by, message in self._versioning.log(connection, changes)
            ]

        return self.read(ask)


def _field_changes(connection: Connection, bead: str) -> dict[str, dict[str, Change]]:
    fields = [column.name for column in schema.beads.columns if column.name not in _UNTOLD]
    changes: dict[str, dict[str, Change]] = defaultdict(dict)
    for row in changes_of_row(connection, "beads", "id", bead):
        told = {field: (row.get(f"from_{field}"), row.get(f"to_{field}")) for field in fields}
        changes[row["to_commit"]] |= {field: change for field, change in told.items() if change[0] != change[1]}
    return changes


def _dependency_changes(connection: Connection, bead: str) -> dict[str, Change]:
    removed: dict[str, list[str]] = defaultdict(list)
    added: dict[str, list[str]] = defaultdict(list)
    for row in changes_of_row(connection, "dependencies", "bead", bead):
        if row["from_needs"] is not None:
            removed[row["to_commit"]].append(row["from_needs"])
        if row["to_needs"] is not None:
            added[row["to_commit"]].append(row["to_needs"])
    return {commit: (sorted(removed[commit]), sorted(added[commit])) for commit in removed.keys() | added.keys()}
