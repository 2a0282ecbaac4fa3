"""The commands of `gt`: nouns are loaded when they are named, so that `--help` costs next to nothing."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

from cli.command import new_program

_MODULES = {
    "init": ("cli.town", "Make a town directory."),
    "up": ("cli.town", "Start the town's services, supervised; a second time changes nothing."),
    "down": ("cli.town", "Stop what `gt up` started; nothing is lost."),
    "status": ("cli.status", "Show who works on what, what waits and what needs a person."),
    "worker": ("cli.town", "Run a worker in the foreground."),
    "demo": ("cli.town", "Show the town recover from failing agents, in a scratch place."),
    "rig": ("cli.rig", "Add, list and remove rigs."),
    "sling": ("cli.work", "Hand a bead to a polecat."),
    "job": ("cli.job", "Show and steer jobs."),
    "refinery": ("cli.refinery", "Look at the merge queue and steer it."),
    "escalate": ("cli.escalate", "Report a problem; list, acknowledge and resolve reports."),
    "config": ("cli.config", "Read and change settings."),
    "polecat": ("cli.polecat", "Look at polecats and their sessions."),
    "why": ("cli.why", "Show what was seen of a polecat or bead, which rule fired, and what was decided."),
    "peek": ("cli.polecat", "Show what a polecat's session shows."),
    "attach": ("cli.polecat", "Enter a polecat's session."),
    "done": ("cli.in_session", "In a session: hand in the work."),
    "hook": ("cli.in_session", "In a session: show the bead."),
    "prime": ("cli.in_session", "In a session: show who you are and what to do."),
    "heartbeat": ("cli.in_session", "In a session: say that you are alive."),
}
"""command: the module whose `app` has it, and the line in `gt --help`"""


class LazyGroup(TyperGroup):
    """The commands of `_MODULES`, imported by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(_MODULES[cmd_name][0])
        return typer.main.get_group(module.app).commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in _MODULES and not args[0].startswith("-"):
            near = get_close_matches(args[0], _MODULES, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _MODULES.items()])


app = new_program(
    "Gas Town: many coding agents on real git repositories, their work landed exactly once.", cls=LazyGroup
)
