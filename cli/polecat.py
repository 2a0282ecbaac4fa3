"""`gt polecat`: its commands are loaded when they are named."""

from __future__ import annotations

from cli.command import new_app
from cli.lazy import LazyGroup

_MODULES = {
    "list": ("cli.polecat_view", "List polecats as the ledger has them."),
    "status": ("cli.polecat_view", "Show one polecat."),
    "peek": ("cli.polecat_view", "Show what a polecat's session shows."),
    "attach": ("cli.polecat_view", "Enter a polecat's session."),
    "nudge": ("cli.polecat_orders", "Type a text into a polecat's session."),
    "restart": ("cli.polecat_orders", "Begin another attempt with the same polecat."),
    "stop": ("cli.polecat_orders", "End a polecat's job: its work is parked, its bead deferred."),
    "cleanup": ("cli.polecat_cleanup", "End sessions and free worktrees; what was made in them is kept."),
    "recover": ("cli.polecat_recover", "Rebuild jobs that the record knows and nobody works on."),
    "parked": ("cli.parked", "Work that was put aside: list it, expire it."),
    "unpark": ("cli.parked", "Put parked work on its bead's branch."),
}


class _Polecat(LazyGroup):
    modules = _MODULES


_group = new_app("Polecats: named worker slots of a rig, their sessions and their work.", cls=_Polecat)
app = new_app("Polecats.")
app.add_typer(_group, name="polecat")
