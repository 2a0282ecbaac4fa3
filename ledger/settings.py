"""Settings as people set them, under the scope `town` or a rig's name; alert rules; the town's epoch."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from ledger.engine import schema
from ledger.engine.rows import now_stamp, stamp, upsert
from ledger.engine.transactions import Transactions
from ledger.rigs import TOWN_SCOPE, find_rig
from models.errors import ErrorCode, GtError
from models.mayor.alerts import AlertRule, AlertType
from models.settings import Settings, parse_setting, setting_specs, settings_from
from models.texts import storable_text
from models.town import TownEpoch

_ROW = 1
FIRST_EPOCH = 1


class SettingRecords(Transactions):
    """What shapes behaviour."""

    def set_setting(self, scope: str, key: str, value: Any) -> None:
        """Set a value for the town or a rig.

        Args:
            scope: `town` or a rig's name.
            value: typed, or as a person typed it.

        Raises:
            GtError: NOT_FOUND for the key or the rig, INVALID_VALUE for a wrong type or range.
        """
        typed = parse_setting(key, str(value))

        def change(connection: Connection) -> tuple[None, str | None]:
            _require_scope(connection, scope)
            if _stored(connection, scope).get(key) == typed:
                return None, None
            upsert(connection, schema.settings, {"scope": scope, "key": key}, {"value": json.dumps(typed)})
            return None, f"{scope}: {key} = {typed}"

        self.write(change)

    def unset_setting(self, scope: str, key: str) -> None:
        """Let the wider scope's value, or the default, hold again.

        Raises:
            GtError: NOT_FOUND for the key or the rig.
        """
        if key not in setting_specs():
            raise GtError(ErrorCode.NOT_FOUND, f"there is no setting {key!r}", "gt config list")

        def change(connection: Connection) -> tuple[None, str | None]:
            _require_scope(connection, scope)
            row = (schema.settings.c.scope == scope) & (schema.settings.c.key == key)
            if not connection.execute(delete(schema.settings).where(row)).rowcount:
                return None, None
            return None, f"{scope}: {key} unset"

        self.write(change)

    def settings(self, scope: str) -> dict[str, Any]:
        """What was set for one scope; GtError(NOT_FOUND) for the rig."""

        def ask(connection: Connection) -> dict[str, Any]:
            _require_scope(connection, scope)
            return _stored(connection, scope)

        return self.read(ask)

    def effective_settings(self, rig: str | None) -> Settings:
        """Every setting of a rig, or of the town for None."""
        return self.read(lambda connection: effective_settings(connection, rig))

    def setting_origins(self, rig: str | None) -> dict[str, str]:
        """For every key: `default`, `town` or `rig`, whichever holds."""

        def ask(connection: Connection) -> dict[str, str]:
            town = _stored(connection, TOWN_SCOPE)
            own = _stored(connection, rig) if rig is not None else {}
            return {key: "rig" if key in own else "town" if key in town else "default" for key in setting_specs()}

        return self.read(ask)


class AlertRecords(Transactions):
    """Which condition is told to whom."""

    def alert_rules(self) -> list[AlertRule]:
        """Every rule, by type and channel."""
        query = select(schema.alert_rules).order_by(schema.alert_rules.c.type, schema.alert_rules.c.channel)
        return self.read(lambda connection: [_alert_rule(row) for row in connection.execute(query).mappings()])

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
                return _alert_rule(known), None
            upsert(connection, schema.alert_rules, key, values)
            return rule, f"alert {rule.type}: {_rule_in_words(rule)}"

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
            gone.update({row["channel"]: _alert_rule(row) for row in found})
            connection.execute(delete(schema.alert_rules).where(where))
            return None, f"alert {type}: {channel or 'every channel'} removed"

        self.write(change)
        return tuple(gone.values())


class TownRecords(Transactions):
    """What is true of the town as a whole."""

    def town_epoch(self) -> TownEpoch:
        """The epoch that the town is in; the first where none was ever raised."""
        return self.read(_epoch)

    def raise_epoch(self, expected: int, by: str, cause: str) -> TownEpoch:
        """Go from the epoch `expected` to the next; said again by the same for the same cause it is once.

        Raises:
            GtError: REFUSED where the town is in another epoch.
        """
        storable_text("cause", cause)
        values = {"epoch": expected + 1, "raised_at": now_stamp(), "raised_by": by, "cause": cause}

        def change(connection: Connection) -> tuple[None, str | None]:
            known = _epoch(connection)
            if known.epoch == expected + 1 and (known.raised_by, known.cause) == (by, cause):
                return None, None
            if known.epoch != expected:
                raise GtError(ErrorCode.REFUSED, f"the town is in epoch {known.epoch}, not {expected}", "gt status")
            mine = (schema.town.c.id == _ROW) & (schema.town.c.epoch == expected)
            if not connection.execute(update(schema.town).where(mine).values(**values)).rowcount:
                connection.execute(insert(schema.town).values(id=_ROW, **values))
            return None, f"epoch {expected + 1}: {cause}"

        self.write(change, by=by)
        return self.town_epoch()


def effective_settings(connection: Connection, rig: str | None) -> Settings:
    """Every setting of a rig, or of the town for None."""
    values = _stored(connection, TOWN_SCOPE)
    if rig is not None:
        values |= _stored(connection, rig)
    return settings_from(values)


def _require_scope(connection: Connection, scope: str) -> None:
    if scope != TOWN_SCOPE:
        find_rig(connection, scope)


def _stored(connection: Connection, scope: str) -> dict[str, Any]:
    """Stored values that this version understands: of another's it keeps the default."""
    values: dict[str, Any] = {}
    for row in connection.execute(select(schema.settings).where(schema.settings.c.scope == scope)):
        try:
            values[row.key] = parse_setting(row.key, str(json.loads(row.value)))
        except (GtError, ValueError):
            continue
    return values


def _rule_in_words(rule: AlertRule) -> str:
    return ", ".join([rule.channel or "any channel", *([rule.priority.value] if rule.priority else [])])


def _alert_rule(row: RowMapping) -> AlertRule:
    values: dict[str, Any] = dict(row) | {"channel": row["channel"] or None}
    return AlertRule.model_validate(values)


def _epoch(connection: Connection) -> TownEpoch:
    row = connection.execute(select(schema.town).where(schema.town.c.id == _ROW)).mappings().first()
    return TownEpoch(epoch=FIRST_EPOCH) if row is None else TownEpoch.model_validate(dict(row))
