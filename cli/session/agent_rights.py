"""What an agent may run in its session beside its own commands. Standard library only (see cli/session/agent.py).

This keeps a program that follows its task from commands that are not its to run. One that means harm goes around it
(it is the same user): what such a program must not reach, its sandbox hides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import session_folder
from cli.session.agent_session import Refusal

OF_A_BEAD = ("bd show", "bd comments", "bd log")
"""Commands that read one bead: its own an agent may always read."""
SHARED_OPTIONS = {"-o": True, "--output": True, "--town": True, "--debug": False}
"""Options of every command and group, which may stand before a command's name; True: with a value."""
MOST_NAMED = 60
"""characters of a command line that a refusal repeats"""
HINT = 'gt escalate "what you need"; who attached to this session runs it in a terminal of their own'


def session_record() -> dict[str, Any] | None:
    """What was written at the start of the attempt that this process belongs to; None outside of sessions.

    In a session whose record cannot be read it is empty: nothing is allowed then.
    """
    task_file = os.environ.get("GT_TASK_FILE")
    if not task_file:
        return None
    return session_folder.read_json(Path(task_file).parent / session_folder.SESSION) or {}


def may_run(command: str) -> bool:
    """Whether `agent.may` names the command, or there is no session."""
    record = session_record()
    return record is None or _names(record, command)


def require_allowed(command: str) -> None:
    """Refuse a command, named in full (`gt refinery clear`), that is not an agent's to run.

    Raises:
        Refusal: in a session whose `agent.may` does not name it.
    """
    record = session_record()
    if record is None or command in OF_A_BEAD:
        return
    if _names(record, command):
        _require_running(record)
        return
    message = f"`{command}` is not an agent's to run: agent.may of rig {record.get('rig', '?')} does not name it"
    raise Refusal(message, HINT)


def require_bead(bead: str, command: str) -> None:
    """Refuse a command about another bead than the agent's own.

    Args:
        command: in full; where `agent.may` names one of `OF_A_BEAD`, every bead may be read.

    Raises:
        Refusal: in a session that is for another bead.
    """
    record = session_record()
    if record is None or bead == record.get("bead") or (command in OF_A_BEAD and _names(record, command)):
        return
    own = record.get("bead", "?")
    raise Refusal(f"`{command} {bead}` is not an agent's to run: its own bead is {own}", f"{command} {own}; {HINT}")


def own_bead(bead: str) -> dict[str, Any] | None:
    """The bead of the session that this process belongs to, as it was at the attempt's start; None for others."""
    record = session_record()
    if not record or record.get("bead") != bead:
        return None
    return {
        "id": bead,
        **{key: record.get(key) for key in ("rig", "title", "description", "priority", "type", "target", "attempt")},
        "status": "in_progress",
        "assignee": f"{record.get('rig')}/{record.get('polecat')}",
    }


def require_recipient(address: str) -> None:
    """Refuse mail to whom an agent has nothing to say: its rig's polecats and roles, the Mayor and people remain.

    Raises:
        Refusal: in a session.
    """
    record = session_record()
    if record is None or address in {"mayor", "human"} or address.partition("/")[0] == record.get("rig"):
        return
    rig = record.get("rig", "?")
    raise Refusal(f"agents of {rig} do not write to {address}", f"mayor, human, {rig}/witness or {rig}/refinery")


def command_words(argv: Sequence[str]) -> list[str]:
    """The words of a command line up to the first option that is not every command's: its name, then arguments."""
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, _ = word.partition("=")
        if flag in SHARED_OPTIONS:
            if SHARED_OPTIONS[flag] and not equals:
                del rest[:1]
        elif word.startswith("-"):
            if not (word.startswith("-o") and not word.startswith("--")):
                break
        else:
            words.append(word)
    return words


def require_line(program: str, argv: Sequence[str]) -> None:
    """Refuse a command line before anything is loaded for it; `require_allowed` has the last word on what is run.

    Raises:
        Refusal: in a session, for what `agent.may` does not name.
    """
    words = command_words(argv)
    record = session_record()
    if record is None or not words:
        return
    lines = [" ".join([program, *words[:count]]) for count in range(1, len(words) + 1)]
    if not any(line in OF_A_BEAD or _names(record, line) for line in lines):
        named = lines[:2][-1]
        require_allowed(named if named.isprintable() and len(named) <= MOST_NAMED else lines[0][:MOST_NAMED])


def _require_running(record: dict[str, Any]) -> None:
    """Refuse what a session that was ended, or whose bead has a newer attempt, would still do."""
    why = session_folder.over_because(Path(os.environ["GT_TASK_FILE"]).parent)
    if why:
        over = f"attempt {record.get('attempt')} of {record.get('bead')} is over: {why}"
        raise Refusal(over, "stop working here: nothing that this session does will be taken")


def _names(record: dict[str, Any], command: str) -> bool:
    """Whether `agent.may` names the command or a group that it is in."""
    may = record.get("may")
    return isinstance(may, list) and any(command == one or command.startswith(f"{one} ") for one in may)
