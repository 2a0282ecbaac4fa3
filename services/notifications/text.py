"""What a message says to people."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Final

from models.mayor.alerts import Edge, Message, Notice, Priority

LISTED = 40
"""notices that a message spells out"""

VERBATIM: Final = (
    *("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"),
    *("dbus", "gnome", "kde", "macosx", "qt", "syslog", "windows"),
)
"""schemes of channels that show text as it is, or hand it to programs; any other may take `@everyone` for a call"""
_CALLS: Final = re.compile(
    r"@(?=everyone|here|channel|all|team|room|online)"  # read by some services in the middle of a word too
    r"|(?<![\w.])@(?=[\w&!{-])"  # a name; not the one in ada@example.com
    r"|<(?=[@#!&/:a-zA-Z])"  # Slack's and Discord's tokens: <!channel>, <@U1>, <#C1>, <url|words>, tags of HTML
    r"|\](?=\s*[(\[:])"  # a link of Markdown whose words hide where it leads
    r"|!(?=\[)",
    re.IGNORECASE,
)
_NOTHING: Final = "\u200b"
"""a space without width: people see the same words, and no service finds a call in them"""


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


def without_calls(text: str, scheme: str) -> str:
    """`text`, which anybody may have written, so that it calls nobody and hides no link in the channel's service.

    Args:
        scheme: of the channel's URL: which service it is.
    """
    return text if scheme.lower() in VERBATIM else _CALLS.sub(lambda found: found[0] + _NOTHING, text)


def _details(notice: Notice) -> str:
    lines = [notice.body, f"at: {_at(notice)}", f"from: {notice.source}"]
    if notice.command:
        lines.append(f"answer: {notice.command}")
    return "\n".join(line for line in lines if line)


def _at(notice: Notice) -> str:
    return notice.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
