"""`gt polecat`: its commands are loaded when they are named."""

from __future__ import annotations

from cli.frame.command import LazyGroup, new_app

_MODULES = {
    "list": ("cli.polecat.view", "List polecats as the ledger has them."),
    "status": ("cli.polecat.view", "Show one polecat."),
    "peek": ("cli.polecat.view", "Show what a polecat's session shows."),
    "attach": ("cli.polecat.view", "Enter a polecat's session."),
    "nudge": ("cli.polecat.orders", "Type a text into a polecat's session."),
    "restart": ("cli.polecat.orders", "Begin another attempt with the same polecat."),
    "stop": ("cli.polecat.orders", "End a polecat's job: its work is parked, its bead deferred."),
    "cleanup": ("cli.polecat.cleanup", "End sessions and free worktrees; what was made in them is kept."),
    "recover": ("cli.polecat.recover", "Rebuild jobs that the record knows and nobody works on."),
    "parked": ("cli.polecat.parked", "Work that was put aside: list it, expire it."),
    "unpark": ("cli.polecat.parked", "Put parked work on its bead's branch."),
}


class _Polecat(LazyGroup):
    modules = _MODULES


_group = new_app("Polecats: named worker slots of a rig, their sessions and their work.", cls=_Polecat)
app = new_app("Polecats.")
app.add_typer(_group, name="polecat")
