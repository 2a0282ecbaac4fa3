"""What a message says to people."""

from __future__ import annotations

from datetime import UTC

from models.alerts import Edge, Message, Notice, Priority

LISTED = 40
"""notices that a message spells out"""


def title_of(message: Message, town: str) -> str:
    """One line: the notice, or how many there are."""
    if len(message.notices) == 1 and not message.more:
        return f"[{town}] {headline(message.notices[0])}"
    count = len(message.notices) + message.more
    critical = sum(notice.priority is Priority.CRITICAL for notice in message.notices)
    which = f"{count} alerts" + (f", {critical} critical" if critical else "")
    first = f": {headline(message.notices[0])}, …" if message.notices else ""
    return f"[{town}] {which}{first}"


def body_of(message: Message) -> str:
    """Plain text; for a single notice its details, for several a line or two for each."""
    if len(message.notices) == 1 and not message.more:
        return _details(message.notices[0])
    parts = [
        f"{_at(notice)} {headline(notice)}" + (f"\n    {notice.command}" if notice.command else "")
        for notice in message.notices[:LISTED]
    ]
    unlisted = len(message.notices[LISTED:]) + message.more
    if unlisted:
        parts.append(f"and {unlisted} more: gt inbox, and logs/alerts.log")
    return "\n".join(parts)


def headline(notice: Notice) -> str:
    """A notice in one line."""
    about = " ".join(f"{notice.type.value}: {notice.title}".split())
    match notice.edge:
        case Edge.END:
            return f"over: {about}"
        case Edge.REPEAT:
            return f"STILL OPEN, {notice.priority.value.upper()} {about}"
        case Edge.START:
            return f"{notice.priority.value.upper()} {about}"


def _details(notice: Notice) -> str:
    lines = [notice.body, f"at: {_at(notice)}", f"from: {notice.source}"]
    if notice.command:
        lines.append(f"answer: {notice.command}")
    return "\n".join(line for line in lines if line)


def _at(notice: Notice) -> str:
    return notice.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
