"""Settings as people set them, under the scope `town` or a rig's name."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, select

from ledger.engine import schema
from ledger.engine.rows import upsert
from ledger.engine.transactions import Transactions
from ledger.rigs import TOWN_SCOPE, find_rig
from models.errors import ErrorCode, GtError
from models.settings import Settings, parse_setting, setting_specs, settings_from


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
