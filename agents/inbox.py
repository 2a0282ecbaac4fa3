"""Letters in a session's inbox: one file each, named by the letter's id, so that delivering twice is once."""

from __future__ import annotations

import re
from pathlib import Path

from agents import session_folder
from models.mayor.mail import Message

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def deliver(folder: Path, message: Message, within: Path | None = None) -> bool:
    """Put a letter into the inbox of a session's folder; False where the session is over or it is there already.

    Args:
        within: see `write_whole`.

    Raises:
        OSError: the agent has put something else in its folder's place, or the disk is full.
    """
    if not folder.is_dir() or session_folder.over_because(folder):
        return False
    name = _UNSAFE.sub("-", message.id).lstrip(".") or "letter"
    file = session_folder.own_folder(folder / session_folder.INBOX) / f"{name}.json"
    if file.exists():
        return False
    told = {
        "id": name,
        "at": message.sent_at.isoformat(timespec="seconds"),
        "from": message.sender,
        "subject": message.subject,
        "body": message.body,
        "kind": message.kind.value,
    }
    session_folder.write_json(file, told, within)
    return True
