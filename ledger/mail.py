"""Mail: sent once whatever is repeated, read by its recipient, kept for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, or_, select, update

from ledger.engine import schema
from ledger.engine.rows import printable, stamp
from ledger.engine.transactions import Transactions
from models import names
from models.errors import ErrorCode, GtError
from models.mayor.mail import Message


class MailRecords(Transactions):
    """Messages between roles and people."""

    def send_mail(self, message: Message) -> Message:
        """Record a message; one with a known id is the same message and changes nothing.

        Raises:
            GtError: NOT_FOUND for the message that it replies to.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            if message.reply_to is not None:
                _find(connection, message.reply_to)
            if not put_message(connection, message):
                return None, None
            return None, f"mail {message.sender} to {message.recipient}: {printable(message.subject)}"

        return self.write_and_read(change, lambda connection, _: _find(connection, message.id))

    def mail(self, id: str) -> Message:
        """One message; GtError(NOT_FOUND) where there is none."""
        return self.read(lambda connection: _find(connection, id))

    def inbox(self, recipient: str, *, unread_only: bool = False, limit: int | None = None) -> list[Message]:
        """A recipient's messages, oldest first; with a limit the newest of them."""
        names.valid_address(recipient)
        messages = schema.messages.c
        query = select(schema.messages).where(messages.recipient == recipient)
        if unread_only:
            query = query.where(messages.read_at.is_(None))
        newest = query.order_by(messages.sent_at.desc(), messages.id.desc()).limit(limit)
        return self.read(lambda connection: _messages(connection, newest)[::-1])

    def search_mail(self, text: str, identity: str | None = None, limit: int | None = None) -> list[Message]:
        """Messages whose subject or body holds `text` in any case, newest first; of one sender or recipient."""
        messages = schema.messages.c
        subject, body = (
            func.lower(column).contains(text.lower(), autoescape=True) for column in (messages.subject, messages.body)
        )
        query = select(schema.messages).where(or_(subject, body))
        if identity is not None:
            names.valid_address(identity)
            query = query.where(or_(messages.sender == identity, messages.recipient == identity))
        newest = query.order_by(messages.sent_at.desc(), messages.id.desc()).limit(limit)
        return self.read(lambda connection: _messages(connection, newest))

    def mark_mail_read(self, id: str, by: str | None = None) -> Message:
        """Note that a message was read; the first time stays. GtError(NOT_FOUND)."""
        now = stamp(datetime.now(UTC))

        def change(connection: Connection) -> tuple[None, str | None]:
            message = _find(connection, id)
            unread = (schema.messages.c.id == id) & schema.messages.c.read_at.is_(None)
            if not connection.execute(update(schema.messages).where(unread).values(read_at=now)).rowcount:
                return None, None
            return None, f"mail read by {by or message.recipient}: {printable(message.subject)}"

        return self.write_and_read(change, lambda connection, _: _find(connection, id))


def put_message(connection: Connection, message: Message) -> bool:
    """Insert a message unless its id is known; whether it was new."""
    if connection.execute(select(schema.messages.c.id).where(schema.messages.c.id == message.id)).first():
        return False
    connection.execute(insert(schema.messages).values(**_row(message)))
    return True


def _find(connection: Connection, id: str) -> Message:
    found = _messages(connection, select(schema.messages).where(schema.messages.c.id == id))
    if not found:
        raise GtError(ErrorCode.NOT_FOUND, f"there is no message {id!r}", "gt mail inbox")
    return found[0]


def messages_of(connection: Connection, ids: Sequence[str]) -> tuple[Message, ...]:
    """Those of these messages that there are, oldest first."""
    messages = schema.messages.c
    query = select(schema.messages).where(messages.id.in_(ids)).order_by(messages.sent_at, messages.id)
    return tuple(_messages(connection, query)) if ids else ()


def _messages(connection: Connection, query: Any) -> list[Message]:
    return [_message(row) for row in connection.execute(query).mappings()]


def _message(row: RowMapping) -> Message:
    protocol = None if row["protocol"] is None else json.loads(row["protocol"])
    return Message.model_validate(dict(row) | {"protocol": protocol})


def _row(message: Message) -> dict[str, Any]:
    protocol = None if message.protocol is None else json.dumps(message.protocol)
    row = message.model_dump(exclude={"protocol", "sent_at", "read_at"})
    read_at = None if message.read_at is None else stamp(message.read_at)
    times = {"sent_at": stamp(message.sent_at), "read_at": read_at}
    return row | times | {"kind": message.kind.value, "protocol": protocol}
