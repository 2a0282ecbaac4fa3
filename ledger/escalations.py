"""Escalations as the Mayor tells them, and which keyed writes were taken."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from ledger.engine import schema
from ledger.engine.rows import now_stamp, printable, stamp, upsert
from ledger.engine.transactions import Transactions
from models.errors import ErrorCode, GtError
from models.mayor.escalations import EscalationStatus


class EscalationRecords(Transactions):
    """What needs somebody above."""

    def record_escalation(self, escalation: EscalationStatus, key: str | None = None) -> None:
        """Record where an escalation stands. What is acknowledged or resolved stays so.

        Args:
            key: identifies this write of a long-lived workflow (workflow id, first run id,
                sequence): with it the write is applied once, however late it is repeated.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            if key is not None:
                if _applied(connection, key):
                    return None, None
                connection.execute(insert(schema.applied_writes).values(key=key, at=now_stamp()))
            row = _row(escalation)
            known = _find(connection, escalation.id)
            if known is not None and (_rank(known) > _rank(row) or dict(known) == row):
                return None, None if key is None else f"escalation {escalation.id}: nothing new"
            values = {name: value for name, value in row.items() if name != "id"}
            upsert(connection, schema.escalations, {"id": escalation.id}, values)
            return None, f"escalation {escalation.id}: {_standing(escalation)}"

        self.write(change)

    def escalations(self, open_only: bool = True) -> list[EscalationStatus]:
        """Escalations, oldest first."""
        table = schema.escalations
        query = select(table).order_by(table.c.opened_at, table.c.id)
        if open_only:
            query = query.where(table.c.resolved.is_(False))
        return self.read(
            lambda connection: [
                EscalationStatus.model_validate(dict(row)) for row in connection.execute(query).mappings()
            ]
        )

    def escalation(self, escalation: str) -> EscalationStatus:
        """One escalation; GtError(NOT_FOUND)."""
        row = self.read(lambda connection: _find(connection, escalation))
        if row is None:
            raise GtError(ErrorCode.NOT_FOUND, f"there is no escalation {escalation}", "gt escalate list --all")
        return EscalationStatus.model_validate(dict(row))

    def applied(self, key: str) -> bool:
        """Whether a keyed write was taken."""
        return self.read(lambda connection: _applied(connection, key))


def _applied(connection: Connection, key: str) -> bool:
    query = select(schema.applied_writes.c.key).where(schema.applied_writes.c.key == key)
    return connection.execute(query).first() is not None


def _find(connection: Connection, escalation: str) -> RowMapping | None:
    query = select(schema.escalations).where(schema.escalations.c.id == escalation)
    return connection.execute(query).mappings().first()


def _row(escalation: EscalationStatus) -> dict[str, Any]:
    row = escalation.model_dump()
    told = {name: printable(row[name]) for name in ("message", "evidence", "tried")}
    resolved_at = None if escalation.resolved_at is None else stamp(escalation.resolved_at)
    return row | told | {"opened_at": stamp(escalation.opened_at), "resolved_at": resolved_at}


def _rank(row: Any) -> tuple[str, bool, bool, int]:
    """A condition that comes back opens later; within one opening nothing is taken back."""
    opened_at: str | datetime = row["opened_at"]
    return str(opened_at), bool(row["resolved"]), bool(row["acked"]), row["repeats"]


def _standing(escalation: EscalationStatus) -> str:
    if escalation.resolved:
        return f"resolved ({escalation.action or 'no action'})"
    return "acknowledged" if escalation.acked else f"open, {escalation.severity}: {printable(escalation.kind)}"
