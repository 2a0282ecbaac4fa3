"""The commands of `bd`."""

from __future__ import annotations

from cli.frame.command import LazyGroup, new_program

_MODULES = {
    "create": ("cli.beads.beads", "Create a bead."),
    "list": ("cli.beads.beads", "List beads, oldest first."),
    "ready": ("cli.beads.beads", "List open beads that wait for no other bead, the most urgent first."),
    "search": ("cli.beads.beads", "Find beads by words in them."),
    "show": ("cli.beads.beads", "Show one bead, now or as it was."),
    "update": ("cli.beads.beads", "Change a bead; what is not named stays."),
    "close": ("cli.beads.close", "Close a bead by hand; refused while a job works on it."),
    "reopen": ("cli.beads.close", "Open a closed bead again."),
    "dep": ("cli.beads.close", "Which bead needs which."),
    "label": ("cli.beads.comments", "Labels of beads."),
    "comment": ("cli.beads.comments", "Say something about a bead."),
    "comments": ("cli.beads.comments", "Show what was said about a bead."),
    "log": ("cli.beads.history", "Show who changed a bead, when and why, out of Dolt."),
    "diff": ("cli.beads.history", "Show how beads differ from what they were."),
    "mol": ("cli.beads.molecules", "Molecules: beads with steps."),
    "export": ("cli.beads.exchange", "Write beads as JSON lines."),
    "import": ("cli.beads.exchange", "Take beads in from JSON lines, ours or those of the Go program bd."),
    "verify": ("cli.work.verify", "Compare Dolt, git and Temporal; name what mends each disagreement."),
}
"""command: the module whose `app` has it, and the line in `bd --help`"""


class _Bd(LazyGroup):
    modules = _MODULES


app = new_program("Work on beads: the units of work, kept in Dolt.", cls=_Bd)
