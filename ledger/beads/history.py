"""History, out of Dolt's own log and diffs: what was, who changed it, and why."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from ledger.beads.dependencies import require_bead
from ledger.engine import schema
from ledger.engine.transactions import Transactions
from ledger.engine.versioning import LoggedCommit, changes_of_row
from models.errors import ErrorCode, GtError
from models.ledger.history import BeadDifference, Change, Difference, DifferenceKind, HistoryEntry, LogEntry
from models.ledger.records import Bead

_UNTOLD = frozenset({"updated_at", "creation"})
"""Changes that say nothing to a person."""
_PARTS: Final = (("dependencies", "needs"), ("labels", "label"), ("comments", "text"))
"""Tables of what a bead has several of, and the column that tells of each."""
_COMMIT = re.compile(r"[0-9a-z]{7,64}")

Changes = dict[str, Change]
Moment = datetime | str
"""A time, or a commit by its hash or the first characters of it."""


class HistoryRecords(Transactions):
    """Who changed what, when and why."""

    def bead_history(self, bead: str) -> list[HistoryEntry]:
        """Every commit that changed a bead or what it needs, oldest first.

        Raises:
            GtError: NOT_FOUND for the bead.
        """

        def ask(connection: Connection) -> list[HistoryEntry]:
            require_bead(connection, bead)
            rows = changes_of_row(connection, "beads", "id", bead)
            parts = changes_of_row(connection, "dependencies", "bead", bead)
            changes: dict[str, Changes] = defaultdict(dict)
            for row in rows:
                changes[row["to_commit"]] |= _field_changes(row)
            for commit in {row["to_commit"] for row in parts}:
                changes[commit] |= _part_changes(
                    "dependencies", "needs", [r for r in parts if r["to_commit"] == commit]
                )
            return [
                HistoryEntry(**_entry(commit).model_dump(), changes=changes[commit.commit])
                for commit in self._versioning.log(connection, changes)
            ]

        return self.read(ask)

    def log(self, limit: int | None = None) -> list[LogEntry]:
        """The ledger's commits, newest first."""
        return self.read(lambda connection: [_entry(one) for one in self._versioning.newest(connection, limit)])

    def head(self, earlier: str = "") -> tuple[str, bool]:
        """The newest commit, and whether the log holds `earlier`."""

        def ask(connection: Connection) -> tuple[str, bool]:
            newest = self._versioning.newest(connection, 1)[0].commit
            return newest, earlier == newest or (bool(earlier) and self._versioning.holds(connection, earlier))

        return self.read(ask)

    def bead_as_of(self, bead: str, moment: Moment) -> tuple[Bead, LogEntry]:
        """A bead as it was at a moment, and the commit that was the newest then.

        Raises:
            GtError: NOT_FOUND for the bead at that moment or for the commit; INVALID_VALUE.
        """

        def ask(connection: Connection) -> tuple[Bead, LogEntry]:
            then = self._commit(connection, moment)
            found = self._versioning.rows_at(connection, "beads", then.commit, "id", bead)
            if not found:
                at = then.at.isoformat(" ", "seconds")
                raise GtError(ErrorCode.NOT_FOUND, f"there was no bead {bead!r} at {at}", f"bd log {bead}")
            needs = self._versioning.rows_at(connection, "dependencies", then.commit, "bead", bead)
            labels = self._versioning.rows_at(connection, "labels", then.commit, "bead", bead)
            parts = {
                "dependencies": tuple(sorted(row["needs"] for row in needs)),
                "labels": tuple(sorted(row["label"] for row in labels)),
            }
            return Bead.model_validate(found[0] | parts), _entry(then)

        return self.read(ask)

    def difference(self, since: Moment, until: Moment | None = None) -> Difference:
        """How the beads differ between two moments; until now for None.

        Raises:
            GtError: NOT_FOUND for a commit; INVALID_VALUE.
        """

        def ask(connection: Connection) -> Difference:
            older = self._commit(connection, since, or_first=True)
            newest = self._versioning.newest(connection, 1)[0]
            newer = newest if until is None else self._commit(connection, until)
            changes: dict[str, Changes] = defaultdict(dict)
            rows = self._versioning.differences(connection, "beads", older.commit, newer.commit)
            ends = {row["to_id"] or row["from_id"]: row for row in rows}
            for bead, row in ends.items():
                changes[bead] |= _field_changes(row)
            for table, column in _PARTS:
                parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
                for row in self._versioning.differences(connection, table, older.commit, newer.commit):
                    parts[row["to_bead"] or row["from_bead"]].append(row)
                for bead, its in parts.items():
                    changes[bead] |= _part_changes(table, column, its)
            beads = [_difference(bead, ends.get(bead), changed) for bead, changed in sorted(changes.items())]
            return Difference(older=_entry(older), newer=_entry(newer), beads=tuple(beads))

        return self.read(ask)

    def _commit(self, connection: Connection, moment: Moment, *, or_first: bool = False) -> LoggedCommit:
        """The newest commit of a moment; with `or_first` a time before all of them is that of the first."""
        if isinstance(moment, datetime):
            found = self._versioning.newest_until(connection, moment)
            if found is not None:
                return found
            every = self._versioning.newest(connection, None)
            if or_first:
                return every[-1]
            began = every[-1].at.isoformat(" ", "seconds")
            raise GtError(ErrorCode.NOT_FOUND, f"the ledger's history begins at {began}", "gt dolt log")
        if not _COMMIT.fullmatch(moment):
            raise GtError(ErrorCode.INVALID_VALUE, f"{moment[:60]!r} is neither a time nor a commit", "gt dolt log")
        matching = [one for one in self._versioning.newest(connection, None) if one.commit.startswith(moment)]
        if not matching:
            raise GtError(ErrorCode.NOT_FOUND, f"there is no commit {moment}", "gt dolt log")
        if len(matching) > 1:
            raise GtError(ErrorCode.INVALID_VALUE, f"several commits begin with {moment}", "gt dolt log")
        return matching[0]


def _entry(commit: LoggedCommit) -> LogEntry:
    return LogEntry(at=commit.at, commit=commit.commit, by=commit.by, message=commit.message)


def _field_changes(row: dict[str, Any]) -> Changes:
    """What one row of a diff of `beads` says; columns that one side did not have yet are nothing there."""
    fields = [column.name for column in schema.beads.columns if column.name not in _UNTOLD]
    told = {field: (row.get(f"from_{field}"), row.get(f"to_{field}")) for field in fields}
    return {field: change for field, change in told.items() if change[0] != change[1]}


def _part_changes(table: str, column: str, rows: list[dict[str, Any]]) -> Changes:
    removed = sorted(row[f"from_{column}"] for row in rows if row[f"from_{column}"] is not None)
    added = sorted(row[f"to_{column}"] for row in rows if row[f"to_{column}"] is not None)
    return {table: (removed, added)}


def _difference(bead: str, row: dict[str, Any] | None, changes: Changes) -> BeadDifference:
    if row is None:
        return BeadDifference(bead=bead, title="", kind=DifferenceKind.CHANGED, changes=changes)
    kind = DifferenceKind.CHANGED
    if row["from_id"] is None:
        kind = DifferenceKind.ADDED
    elif row["to_id"] is None:
        kind = DifferenceKind.REMOVED
    return BeadDifference(bead=bead, title=row["to_title"] or row["from_title"], kind=kind, changes=changes)
