"""Records what a ledger of this schema holds, for tests of migrations: `python -m tests.ledger.versions.record`.

Run it before a new version of the schema is begun: it writes `<version>.json`, the tables as they
are created and rows of each kind. A file of a version that was released is never written again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from ledger.engine import schema
from ledger.store import Ledger
from models.ledger.records import BeadChanges
from models.mayor.alerts import AlertRule, AlertType, Priority
from models.mayor.escalations import EscalationStatus
from tests.ledger.records import START, a_bead, a_host, a_merge, a_request, a_write

FOLDER = Path(__file__).parent


def fill(ledger: Ledger) -> None:
    """Rows of every kind that the ledger's operations can make."""
    first = a_bead(ledger, "Naïve \\ 'quoted' 😀", description="a\nb")
    second = a_bead(ledger, "waits", dependencies=(first.id,))
    third = a_bead(ledger, "closed by hand", rig="market")
    ledger.register_host(a_host())
    request = {"merge_request": a_request(first.id)}
    ledger.record_job([a_write(first.id, 1, 1), a_write(first.id, 1, 2, **request), a_merge(first.id, 1, 3)])
    ledger.record_job([a_write(second.id, 1, 1)])
    ledger.update_bead(third.id, BeadChanges(assignee="ada"))
    ledger.close_bead(third.id, "wontfix")
    ledger.set_setting("town", "health.grace", 7)
    ledger.set_alert_rule(AlertRule(type=AlertType.WITNESS_DOWN, channel="email", created_at=START))
    ledger.set_alert_rule(AlertRule(type=AlertType.DISK_FULL, priority=Priority.CRITICAL, created_at=START))
    standings: list[dict[str, Any]] = [{}, {"acked": True}, {"acked": True, "resolved": True, "action": "retry"}]
    for number, standing in enumerate(standings):
        escalation = EscalationStatus(
            id=f"e{number}", severity="high", kind="help", source="ada", bead=first.id, opened_at=START,
            message="no way on", **{"acked": False, **standing},
        )  # fmt: skip
        ledger.record_escalation(escalation, key=f"mayor/run/{number}")


def load(connection: Connection, version: int) -> None:
    """Make the tables of that version, with its rows, in an empty database of either engine."""
    recorded: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    for name, table in recorded.items():
        for statement in table["made_by"]:
            connection.exec_driver_sql(statement)
        for row in table["rows"]:
            columns = ", ".join(f"`{column}`" for column in row)
            values = ", ".join(f":{column}" for column in row)
            connection.execute(text(f"INSERT INTO `{name}` ({columns}) VALUES ({values})"), row)


def _dump(connection: Connection) -> dict[str, dict[str, Any]]:
    dialect = mysql.dialect()
    dumped: dict[str, dict[str, Any]] = {}
    for table in schema.metadata.sorted_tables:
        # Up to the last bracket it is SQL that both engines read; what follows is the server's alone.
        made_by = [str(CreateTable(table).compile(dialect=dialect)).rpartition(")")[0] + ")"]
        made_by += [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
        rows = [dict(row) for row in connection.execute(select(table)).mappings()]
        dumped[table.name] = {"made_by": made_by, "rows": rows}
    return dumped


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(f"doltlite:///{folder}/ledger.doltlite")
        fill(ledger)
        dumped = ledger.read(_dump)
        ledger.close()
    file = FOLDER / f"{schema.SCHEMA_VERSION}.json"
    file.write_text(json.dumps(dumped, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
