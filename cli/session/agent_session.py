"""The session that an agent's command runs in, and the ways such a command can end. Standard library only."""

from __future__ import annotations

from pathlib import Path

from agents import session_folder


class NotOurs(Exception):
    """The full command line has to answer this one."""


class Refusal(Exception):
    """A failure, with what to do about it and the name of its `models.errors.ExitCode`."""

    def __init__(self, message: str, hint: str = "", code: str = "REFUSED") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class Session:
    """The folder that GT_TASK_FILE lies in, and what was written there at the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = session_folder.read_json(folder / session_folder.SESSION)
        if record is None or not folder.name.isdecimal():
            raise Refusal(f"{folder} is no session folder", "start the agent by gt sling", "FAILED")
        self.record = record
        self.bead = str(record["bead"])
        self.attempt = int(folder.name)
        self.token = str(record.get(session_folder.TOKEN_KEY, ""))

    def must_count(self) -> None:
        """Refuse what an attempt says that is over."""
        why = session_folder.over_because(self.folder)
        if why:
            hint = "stop working here: nothing that this session does will be taken"
            raise Refusal(f"attempt {self.attempt} of {self.bead} is over: {why}", hint)
