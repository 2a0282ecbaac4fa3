"""Alert rules as people set them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select

from ledger.engine import schema
from ledger.engine.rows import stamp, upsert
from ledger.engine.transactions import Transactions
from models.mayor.alerts import AlertRule, AlertType
from models.texts import storable_text


class AlertRecords(Transactions):
    """Which condition is told to whom."""

    def alert_rules(self) -> list[AlertRule]:
        """Every rule, by type and channel."""
        query = select(schema.alert_rules).order_by(schema.alert_rules.c.type, schema.alert_rules.c.channel)
        return self.read(lambda connection: [_rule(row) for row in connection.execute(query).mappings()])

    def set_alert_rule(self, rule: AlertRule) -> AlertRule:
        """Set the rule of a type and channel; one that says the same stays, with its time.

        Raises:
            GtError: INVALID_VALUE for what no text may hold.
        """
        key = {"type": rule.type.value, "channel": storable_text("channel", rule.channel) or ""}
        values = {"priority": rule.priority and rule.priority.value, "created_at": stamp(rule.created_at)}

        def change(connection: Connection) -> tuple[AlertRule, str | None]:
            known = connection.execute(select(schema.alert_rules).filter_by(**key)).mappings().first()
            if known is not None and known["priority"] == rule.priority:
                return _rule(known), None
            upsert(connection, schema.alert_rules, key, values)
            return rule, f"alert {rule.type}: {_said(rule)}"

        return self.write(change)

    def remove_alert_rule(self, type: AlertType, channel: str | None = None) -> tuple[AlertRule, ...]:
        """Forget the rule of a type and channel, or every rule of the type for None; returns what was forgotten."""

        gone: dict[str, AlertRule] = {}

        def change(connection: Connection) -> tuple[None, str | None]:
            where = schema.alert_rules.c.type == type.value
            if channel is not None:
                where &= schema.alert_rules.c.channel == channel
            found = connection.execute(select(schema.alert_rules).where(where)).mappings().all()
            if not found:
                return None, None
            # Kept over a second run, which finds nothing any more when the first one's commit had arrived.
            gone.update({row["channel"]: _rule(row) for row in found})
            connection.execute(delete(schema.alert_rules).where(where))
            return None, f"alert {type}: {channel or 'every channel'} removed"

        self.write(change)
        return tuple(gone.values())


def _said(rule: AlertRule) -> str:
    return ", ".join([rule.channel or "any channel", *([rule.priority.value] if rule.priority else [])])


def _rule(row: RowMapping) -> AlertRule:
    values: dict[str, Any] = dict(row) | {"channel": row["channel"] or None}
    return AlertRule.model_validate(values)
