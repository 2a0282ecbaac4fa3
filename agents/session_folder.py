"""The session folder: agents and the town speak to each other in files.

One folder per attempt, `run/sessions/<rig>/<polecat>/<bead>/<attempt>/`. The agent's commands
read and write it and touch nothing else; the scanner of the patrol reads what they wrote.
Standard library only, because `gt done` must answer in tens of milliseconds.

    session.json   written at the start: who, where, which branch, and the attempt's token (0600)
    started        the tmux session was seen running: from now on its absence means death
    task.md        the task for the agent
    setup.sh       the command that sets the worktree up (worktree.setup), when there is one
    setup          how that stands: running, done, failed and why
    gitconfig      what git takes for the user's config in this session (GIT_CONFIG_GLOBAL)
    failure.log    raw log of the failed gate, when there was one
    inbox/*.json   messages to the agent
    heartbeat      its modification time is the last beat
    help/*.json    HELP intents, one file each, until taken
    done.json      the done intent, until taken
    done.taken.json   the last done intent that was taken (or refused)
    taken.json     the commit that was taken and put on the remote
    checkpoint.json   the last save of unfinished work, and what stayed on this host
    ended          the attempt is over: its text says why

Intents carry the token of their attempt (agents/tokens.py); one without it is none of that attempt's, and nobody acts
on it. A beat is no more than a file's time.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from services.atomic_files import read_plain, write_whole

SESSION = "session.json"
STARTED = "started"
TASK = "task.md"
GITCONFIG = "gitconfig"
SETUP_SCRIPT = "setup.sh"
SETUP = "setup"
FAILURE_LOG = "failure.log"
INBOX = "inbox"
HEARTBEAT = "heartbeat"
HELP = "help"
DONE = "done.json"
DONE_TAKEN = "done.taken.json"
TAKEN_HEAD = "taken.json"
CHECKPOINT = "checkpoint.json"
ENDED = "ended"
TOKEN_KEY = "token"  # noqa: S105 - its name
"""of the attempt's token, in session.json and in each intent"""
MOST_BYTES = 16_000_000
"""of a document; a letter is the longest"""
INTENT_BYTES = 1_000_000
"""of what an agent tells; an argument of a command is shorter"""


def write_json(path: Path, value: dict[str, Any], within: Path | None = None, *, synced: bool = True) -> None:
    """Write a JSON document: there whole or not at all, and for good.

    Args:
        within, synced: see `write_whole`.
    """
    write_whole(path, json.dumps(value, ensure_ascii=True, indent=1) + "\n", within=within, synced=synced)


def setup_state(folder: Path) -> str:
    """What agents/run_setup.py has noted: running, done, or failed and why; "" before it runs, or without one."""
    try:
        return read_plain(folder / SETUP).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def is_file(path: Path) -> bool:
    """Whether a plain file stands there, and no link to one: what else an agent puts in its place says nothing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def own_folder(path: Path) -> Path:
    """`path`, once it is a real folder: a link or a file in its place is renamed aside.

    Raises:
        OSError: that cannot be done.
    """
    try:
        odd = not stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        odd = False
    if odd:
        os.rename(path, path.with_name(f".{path.name}.{os.urandom(4).hex()}"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def read_json(path: Path, most: int = MOST_BYTES) -> dict[str, Any] | None:
    """The document, or None where there is none; a file that is no JSON object, or longer, counts as none."""
    try:
        value = json.loads(read_plain(path, most))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def newest_attempt(folder: Path) -> int:
    """The highest attempt of the same bead that has a folder on this host, whichever polecat has it."""
    bead, rig = folder.parent.name, folder.parent.parent.parent
    newest = 0
    for polecat in _names(rig):
        for attempt in _names(rig / polecat / bead):
            if attempt.isdecimal() and int(attempt) > newest:
                newest = int(attempt)
    return newest


def over_because(folder: Path) -> str:
    """Why the attempt of `folder` may do nothing any more; "" while it is the one that counts."""
    newest = newest_attempt(folder)
    if newest > int(folder.name):
        return f"attempt {newest} runs now"
    try:
        return read_plain(folder / ENDED).decode("utf-8", "replace").strip() or "it was ended"
    except OSError:
        return ""


ID_MARK = "@"


def done_intent(identity: str) -> str:
    """How one `gt done` is named in messages: a later one of the same attempt is another."""
    return f"{DONE}{ID_MARK}{identity}" if identity else DONE


def done_id(folder: Path) -> str:
    """Identity of the done intent that waits; "" where there is none, or one without."""
    return str((read_json(folder / DONE) or {}).get("id", ""))


def taken_id(folder: Path) -> str:
    """Identity of the done intent that was settled last."""
    return str((read_json(folder / DONE_TAKEN) or {}).get("id", ""))


def refusal_name(intent: str) -> str:
    """Name of the inbox message that refuses an intent; the same for the same intent."""
    return "refused-" + intent.replace("/", "-").replace(ID_MARK, "-").removesuffix(".json")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
