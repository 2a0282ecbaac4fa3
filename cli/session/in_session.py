"""The commands of an agent, outside of a session: they say so. Inside one, cli/session/agent.py answers."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.frame.command import Call, command, new_app
from models.errors import ErrorCode, GtError

app = new_app("The commands that an agent has inside its session.")

_INSTEAD = {
    "done": "bd close ID closes a bead by hand",
    "hook": "bd show ID",
    "prime": "bd show ID",
    "heartbeat": "gt status",
}


def _register(name: str, instead: str, help: str) -> None:
    def outside(
        call: Call, words: Annotated[list[str] | None, typer.Argument(metavar="…", help="See `gt prime`.")] = None
    ) -> None:
        raise GtError(
            ErrorCode.INVALID_VALUE, f"`gt {name}` works inside a polecat's session, where GT_TASK_FILE is set", instead
        )

    outside.__doc__ = help
    command(app, name, any_options=True)(outside)


_register("done", _INSTEAD["done"], "In a session: hand in the work.")
_register("hook", _INSTEAD["hook"], "In a session: show the bead.")
_register("prime", _INSTEAD["prime"], "In a session: show who you are and what to do.")
_register("heartbeat", _INSTEAD["heartbeat"], "In a session: say that you are alive.")
