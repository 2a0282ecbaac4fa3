"""The commands that an agent runs inside its session: they work on files in the session's folder alone.

Standard library only, and little of that: each command is a process of its own, run often, and
shall answer within 60 ms. What is accepted is on disk before the command ends, whatever is down;
the patrol hears it. What only a failure needs is imported only then.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents import session_folder
from cli.frame import streams
from cli.session import agent_rights
from cli.session.agent_session import NotOurs, Refusal, Session

USAGE = {
    "done": "gt done [--status completed|blocked|deferred|nothing-to-do] [-m TEXT] [-o json]",
    "heartbeat": "gt heartbeat [-o json]",
    "hook": "gt hook [-o json]",
    "prime": "gt prime [-o json]",
    "escalate": 'gt escalate "PROBLEM" [--severity low|medium|high|critical] [-o json]',
    "mail inbox": "gt mail inbox [-o json]",
    "mail read": "gt mail read ID [-o json]",
}
STATUSES = ("completed", "blocked", "deferred", "nothing-to-do")
SEVERITIES = ("low", "medium", "high", "critical")

Report = tuple[Any, str]
"""What a command answers: the JSON document, and the text for people."""


def run(program: str, argv: list[str]) -> int | None:
    """Answer `gt ARGV` or `bd ARGV` from inside a session.

    Returns:
        The exit code (models.errors.ExitCode), or None when the full command line has to answer.
    """
    task_file = os.environ.get("GT_TASK_FILE")
    if not task_file:
        return None
    name, arguments = _command(argv)
    try:
        if program == "gt" and name in USAGE:
            with contextlib.suppress(NotOurs):
                return _run_own(Path(task_file).parent, name, arguments)
        agent_rights.require_line(program, argv)
        door = os.environ.get("GT_DOOR")
        if door and name and not {"-h", "--help"} & set(arguments):
            from cli.session import agent_door

            return agent_door.hand_in(door, program, name, arguments)
    except Refusal as refusal:
        return _fail(refusal)
    except OSError as error:
        return _fail(Refusal(f"the session's folder cannot be used: {error}", "free some room on that disk", "FAILED"))
    return None


def _run_own(folder: Path, name: str, arguments: list[str]) -> int:
    values = _parse(name, arguments)
    if "help" in values:
        return _answer(f"usage: {USAGE[name]}\n")
    document, text = _COMMANDS[name](Session(folder), values)
    if values.get("output") == "json":
        import json

        text = json.dumps(document, indent=2)
    return _answer(text if text.endswith("\n") else text + "\n")


def _answer(text: str) -> int:
    """Where nobody reads on, that is no failure: what was to be done is done."""
    try:
        sys.stdout.write(streams.printable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        streams.let_go(sys.stdout.fileno())
    except OSError as error:
        streams.let_go(sys.stdout.fileno())
        return _fail(Refusal(f"{streams.UNWRITTEN}: {error.strerror}", "", "FAILED"))
    return 0


def _heartbeat(session: Session, values: dict[str, str]) -> Report:
    session.must_count()
    path = session.folder / session_folder.HEARTBEAT
    path.touch(mode=0o600)
    return {"bead": session.bead, "attempt": session.attempt, "at": _now()}, f"{session.bead}: heard"


def _hook(session: Session, values: dict[str, str]) -> Report:
    record = session.record
    shown = ("bead", "title", "rig", "polecat", "branch", "target", "worktree")
    document = {name: record.get(name) for name in shown}
    document["attempt"] = session.attempt
    document["task_file"] = str(session.folder / session_folder.TASK)
    document["failure_log"] = str(session.folder / session_folder.FAILURE_LOG)
    text = f"{session.bead}  {record.get('title')}\nattempt {session.attempt}, branch {record.get('branch')}"
    return document, f"{text}, task in {document['task_file']}"


def _prime(session: Session, values: dict[str, str]) -> Report:
    document, _ = _hook(session, values)
    task = (session.folder / session_folder.TASK).read_text(encoding="utf-8", errors="replace")
    over = session_folder.over_because(session.folder)
    unread = [message["id"] for message in _messages(session) if not message["read"]]
    who = (
        f"You are polecat {document['polecat']} of rig {document['rig']}, attempt {session.attempt} of {session.bead}."
    )
    notes = [f"This attempt is over ({over}): stop working here."] if over else []
    notes += [f"Unread messages: {', '.join(unread)} (gt mail read ID)."] if unread else []
    allowed = [f"bd show {session.bead}", *map(str, session.record.get("may", []))]
    commands = "\n".join(f"  {usage}" for usage in [*USAGE.values(), *allowed])
    parts = [who, *notes, f"You work in {document['worktree']}.", task.rstrip(), f"Your commands:\n{commands}"]
    return {**document, "task": task, "over": over, "unread": unread}, "\n\n".join(parts)


def _done(session: Session, values: dict[str, str]) -> Report:
    from cli.session import agent_done

    session.must_count()
    status = _choice(values, "status", STATUSES, "completed")
    if status == "nothing-to-do" and not values.get("message", "").strip():
        raise Refusal("say why nothing is to do", 'gt done --status nothing-to-do -m "why"', "USAGE")
    head = agent_done.checked_head(session, status)
    document = {"bead": session.bead, "attempt": session.attempt, "status": status, "head_sha": head}
    if agent_done.is_told_already(session, status, head):
        return {**document, "accepted": True, "repeated": True}, f"{session.bead}: this was handed in already"
    agent_done.tell(session, {**document, "message": values.get("message", ""), "at": _now()})
    what = {"completed": "your work will be taken", "nothing-to-do": "the task is closed, nothing is to do"}.get(
        status, f"the task is given back as {status}"
    )
    text = f"{session.bead}: {what} ({head[:12] or 'no commit'}). You are finished: stop here."
    return {**document, "accepted": True, "repeated": False}, text


def _escalate(session: Session, values: dict[str, str]) -> Report:
    problem = values["problem"].strip()
    if not problem:
        raise Refusal("the problem is empty", USAGE["escalate"], "USAGE")
    severity = _choice(values, "severity", SEVERITIES, "high")
    session.must_count()
    # Sortable by time; the random part keeps two of one moment apart.
    name = f"{time.time_ns()}-{os.urandom(4).hex()}.json"
    told = {"problem": problem, "severity": severity, "bead": session.bead, "attempt": session.attempt, "at": _now()}
    signed = {**told, session_folder.TOKEN_KEY: session.token}
    session_folder.write_json(session.folder / session_folder.HELP / name, signed)
    document = {**told, "intent": f"{session_folder.HELP}/{name}"}
    return document, f"{session.bead}: passed on; go on as far as you can, and look into gt mail inbox"


def _inbox(session: Session, values: dict[str, str]) -> Report:
    messages = _messages(session)
    document = [{name: message[name] for name in ("id", "at", "from", "subject", "read")} for message in messages]
    lines = [f"{'  ' if one['read'] else '* '}{one['id']}  {one['at']}  {one['subject']}" for one in document]
    return document, "\n".join(lines) or "no messages"


def _read(session: Session, values: dict[str, str]) -> Report:
    message = next((one for one in _messages(session) if one["id"] == values["id"]), None)
    if message is None:
        if agent_rights.may_run("gt mail read"):
            raise NotOurs
        raise Refusal(f"this session has no message {values['id']}", "gt mail inbox", "NOT_FOUND")
    (session.folder / session_folder.INBOX / f".{message['id']}.read").touch(mode=0o600)
    text = f"From: {message['from']}\nAt: {message['at']}\nSubject: {message['subject']}\n\n{message['body']}"
    return {**message, "read": True}, text


_COMMANDS: dict[str, Callable[[Session, dict[str, str]], Report]] = {
    "done": _done,
    "heartbeat": _heartbeat,
    "hook": _hook,
    "prime": _prime,
    "escalate": _escalate,
    "mail inbox": _inbox,
    "mail read": _read,
}


def _messages(session: Session) -> list[dict[str, Any]]:
    """The inbox, oldest first."""
    folder = session.folder / session_folder.INBOX
    found = []
    for name in os.listdir(folder) if folder.is_dir() else []:
        told = None if name.startswith(".") else session_folder.read_json(folder / name)
        if told is not None:
            identity = name.removesuffix(".json")
            fields = {key: str(told.get(key, "")) for key in ("at", "from", "subject", "body")}
            found.append({"id": identity, **fields, "read": (folder / f".{identity}.read").exists()})
    return sorted(found, key=lambda message: (message["at"], message["id"]))


def _command(argv: list[str]) -> tuple[str, list[str]]:
    """The command's name and the rest; options that every command has may come before it."""
    common: list[str] = []
    rest = list(argv)
    while rest and _split(rest[0])[0] in agent_rights.SHARED_OPTIONS:
        common.append(rest.pop(0))
        if agent_rights.SHARED_OPTIONS.get(common[-1]) and rest:
            common.append(rest.pop(0))
    words = 2 if rest[:1] == ["mail"] else 1
    return " ".join(rest[:words]), common + rest[words:]


_FLAGS = {
    "-o": "output",
    "--output": "output",
    "--town": "town",
    "--debug": "debug",
    "-m": "message",
    "--message": "message",
    "--status": "status",
    "--severity": "severity",
}
_ALWAYS = {"output", "town", "debug"}
"""options of every command; the session says which town it is, and there is no traceback to see"""
_TAKES = {
    "done": {*_ALWAYS, "message", "status"},
    "escalate": {*_ALWAYS, "severity"},
}
_POSITIONAL = {"escalate": "problem", "mail read": "id"}
_ELSEWHERE = {
    "escalate": {"list", "ack", "resolve", "report"},
}
"""First words that make it another command: `gt escalate list` asks the Mayor."""


def _parse(name: str, arguments: list[str]) -> dict[str, str]:
    """Options by name and the positional argument; unknown options belong to the full command line."""
    if arguments and arguments[0] in _ELSEWHERE.get(name, ()):
        raise NotOurs
    values: dict[str, str] = {}
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            words += rest
        elif word in {"-h", "--help"}:
            values["help"] = "yes"
        elif word.startswith("-") and len(word) > 1:
            flag, equals, given = _split(word)
            key = _FLAGS.get(flag, "")
            if key not in _TAKES.get(name, _ALWAYS):
                if name.startswith("mail") or name == "escalate":
                    raise NotOurs
                raise _misuse(name, f"no such option: {flag}")
            if key == "debug":
                continue
            value = given if equals else next(rest, None)
            if value is None:
                raise _misuse(name, f"option {flag} needs a value")
            values[key] = value
        else:
            words.append(word)
    _choice(values, "output", ("text", "json"), "text")
    return _with_positional(name, values, words)


def _split(word: str) -> tuple[str, str, str]:
    """An option, what keeps it from its value, and the value: `--output=json`, `-ojson`, or the option alone."""
    if not word.startswith("--") and len(word) > 2 and word[2] != "=" and word[:2] in _FLAGS:
        return word[:2], "=", word[2:]
    return word.partition("=")


def _with_positional(name: str, values: dict[str, str], words: list[str]) -> dict[str, str]:
    wanted = _POSITIONAL.get(name)
    if "help" in values:
        return values
    if len(words) != (1 if wanted else 0):
        message = f"one argument is needed, {len(words)} were given" if wanted else f"no such argument: {words[0]}"
        raise _misuse(name, message)
    return {**values, wanted: words[0]} if wanted else values


def _choice(values: dict[str, str], key: str, choices: tuple[str, ...], default: str) -> str:
    value = values.get(key, default)
    if value not in choices:
        raise Refusal(f"{value!r} is not one of {', '.join(choices)}", "gt prime", "USAGE")
    return value


def _misuse(name: str, message: str) -> Refusal:
    return Refusal(message, USAGE[name], "USAGE")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _fail(refusal: Refusal) -> int:
    from models.errors import ExitCode

    hint = f"hint: {refusal.hint}\n" if refusal.hint else ""
    try:
        sys.stderr.write(streams.printable(f"error: {refusal.message}\n{hint}"))
        sys.stderr.flush()
    except OSError:
        streams.let_go(sys.stderr.fileno())
    return int(ExitCode[refusal.code])
