"""The tables of the record.

Times are ISO-8601 UTC text of fixed width (they sort as text); structured values are JSON text.
No table has a secondary unique key and none has a foreign key: Dolt merges concurrent
transactions cell by cell, and only a primary key and two values for one cell are conflicts that
it reports as such (1213). What must be unique or must not interleave besides goes through a row
of `turns`, see `transactions.take_turn`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGTEXT

from ledger.queries import SCHEMA_VERSION as SCHEMA_VERSION

_LONG_TEXT = Text().with_variant(LONGTEXT(), "mysql")
_TIME = String(27)
_ID = String(64)
_NAME = String(64)
_HOST = String(255)
_SHA = String(64)
_ADDRESS = String(100)

metadata = MetaData()


def _table(name: str, *columns: Any) -> Table:
    return Table(name, metadata, *columns, mysql_charset="utf8mb4", mysql_collate="utf8mb4_0900_bin")


schema_version = _table(
    "schema_version",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

turns = _table(
    "turns",
    Column("name", _NAME, primary_key=True),
    Column("token", _ID, nullable=False),
)

applied_writes = _table(
    "applied_writes",
    Column("key", String(255), primary_key=True),
    Column("at", _TIME, nullable=False),
)

rigs = _table(
    "rigs",
    Column("name", _NAME, primary_key=True),
    Column("url", _LONG_TEXT, nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("branch", String(255), nullable=False),
    Column("gates", _LONG_TEXT, nullable=False),
    Column("max_polecats", Integer, nullable=False),
    Column("agent", _LONG_TEXT),
    Column("created_at", _TIME, nullable=False),
)

hosts = _table(
    "hosts",
    Column("name", _HOST, primary_key=True),
    Column("cores", Integer, nullable=False),
    Column("registered_at", _TIME, nullable=False),
)

beads = _table(
    "beads",
    Column("id", _ID, primary_key=True),
    Column("rig", _NAME, nullable=False),
    Column("title", _LONG_TEXT, nullable=False),
    Column("description", _LONG_TEXT, nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("assignee", String(255)),
    Column("target", String(255)),
    Column("integrates", String(255)),
    Column("integrates_sha", _SHA),
    Column("close_reason", _LONG_TEXT),
    Column("merged_sha", _SHA),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("closed_at", _TIME),
    Column("creation", _ID, nullable=False),
    Column("origin", String(255)),
    Column("extra", _LONG_TEXT),
    Index("beads_by_rig", "rig", "status"),
)

dependencies = _table(
    "dependencies",
    Column("bead", _ID, primary_key=True),
    Column("needs", _ID, primary_key=True),
)

labels = _table(
    "labels",
    Column("bead", _ID, primary_key=True),
    Column("label", String(100), primary_key=True),
)

comments = _table(
    "comments",
    Column("id", _ID, primary_key=True),
    Column("bead", _ID, nullable=False),
    Column("author", String(255), nullable=False),
    Column("at", _TIME, nullable=False),
    Column("text", _LONG_TEXT, nullable=False),
    Index("comments_by_bead", "bead"),
)

molecules = _table(
    "molecules",
    Column("bead", _ID, primary_key=True),
    Column("template", String(255), nullable=False),
    Column("created_at", _TIME, nullable=False),
)

steps = _table(
    "steps",
    Column("bead", _ID, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", _NAME, nullable=False),
    Column("title", _LONG_TEXT, nullable=False),
    Column("description", _LONG_TEXT, nullable=False),
    Column("needs", _LONG_TEXT, nullable=False),
    Column("done_at", _TIME),
    Column("done_by", String(255)),
)

jobs = _table(
    "jobs",
    Column("bead", _ID, primary_key=True),
    Column("rig", _NAME, nullable=False),
    Column("workflow_id", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("polecat", _NAME),
    Column("host", _HOST),
    Column("branch", String(255)),
    Column("head_sha", _SHA),
    Column("merged_sha", _SHA),
    Column("restarts", Integer, nullable=False),
    Column("reworks", Integer, nullable=False),
    Column("agent", _LONG_TEXT),
    Column("started_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("token", _ID, nullable=False),
    Index("jobs_by_rig", "rig", "state"),
)

job_events = _table(
    "job_events",
    Column("bead", _ID, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", _TIME, nullable=False),
    Column("event", String(64), nullable=False),
    Column("detail", _LONG_TEXT, nullable=False),
)

merge_requests = _table(
    "merge_requests",
    Column("id", String(128), primary_key=True),
    Column("rig", _NAME, nullable=False),
    Column("bead", _ID, nullable=False),
    Column("title", _LONG_TEXT, nullable=False),
    Column("polecat", _NAME, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("branch", String(255), nullable=False),
    Column("head_sha", _SHA, nullable=False),
    Column("target", String(255), nullable=False),
    Column("whole", _SHA),
    Column("priority", Integer, nullable=False),
    Column("submitted_at", _TIME, nullable=False),
    Column("state", String(16), nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Index("merge_requests_by_bead", "bead"),
)

polecats = _table(
    "polecats",
    Column("rig", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("host", _HOST, nullable=False),
    Column("state", String(16), nullable=False),
    Column("bead", _ID),
    Column("since", _TIME, nullable=False),
)

settings = _table(
    "settings",
    Column("scope", _NAME, primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", _LONG_TEXT, nullable=False),
)

escalations = _table(
    "escalations",
    Column("id", String(255), primary_key=True),
    Column("severity", String(16), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("source", String(255), nullable=False),
    Column("bead", _ID),
    Column("opened_at", _TIME, nullable=False),
    Column("acked", Boolean, nullable=False),
    Column("message", _LONG_TEXT, nullable=False),
    Column("resolved", Boolean, nullable=False),
    Column("action", String(64)),
    Column("level", String(8), default="L3"),
    Column("rig", _NAME),
    Column("evidence", _LONG_TEXT, default=""),
    Column("tried", _LONG_TEXT, default=""),
    Column("repeats", Integer, default=0),
    Column("resolved_at", _TIME),
    Column("resolved_by", String(255)),
)

alert_rules = _table(
    "alert_rules",
    Column("type", String(64), primary_key=True),
    Column("channel", _NAME, primary_key=True),
    Column("priority", String(16)),
    Column("created_at", _TIME, nullable=False),
)
"""The channel is "" in the rule that names none: a primary key holds no NULL."""

messages = _table(
    "messages",
    Column("id", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("sender", _ADDRESS, nullable=False),
    Column("recipient", _ADDRESS, nullable=False),
    Column("subject", _LONG_TEXT, nullable=False),
    Column("body", _LONG_TEXT, nullable=False),
    Column("protocol", _LONG_TEXT),
    Column("reply_to", String(128)),
    Column("sent_at", _TIME, nullable=False),
    Column("read_at", _TIME),
    Index("messages_by_recipient", "recipient", "sent_at"),
)

town = _table(
    "town",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("raised_at", _TIME, nullable=False),
    Column("raised_by", String(255), nullable=False),
    Column("cause", _LONG_TEXT, nullable=False),
)
"""One row. The epoch tells a town that was failed over from the one that took its place."""
