"""The commands of `bd`."""

from __future__ import annotations

from cli.command import new_program
from cli.lazy import LazyGroup

_MODULES = {
    "create": ("cli.beads", "Create a bead."),
    "list": ("cli.beads", "List beads, oldest first."),
    "ready": ("cli.beads", "List open beads that wait for no other bead, the most urgent first."),
    "search": ("cli.beads", "Find beads by words in them."),
    "show": ("cli.beads", "Show one bead, now or as it was."),
    "update": ("cli.beads", "Change a bead; what is not named stays."),
    "close": ("cli.bead_endings", "Close a bead by hand; refused while a job works on it."),
    "reopen": ("cli.bead_endings", "Open a closed bead again."),
    "dep": ("cli.bead_endings", "Which bead needs which."),
    "label": ("cli.bead_words", "Labels of beads."),
    "comment": ("cli.bead_words", "Say something about a bead."),
    "comments": ("cli.bead_words", "Show what was said about a bead."),
    "log": ("cli.bead_history", "Show who changed a bead, when and why, out of Dolt."),
    "diff": ("cli.bead_history", "Show how beads differ from what they were."),
    "mol": ("cli.molecules", "Molecules: beads with steps."),
    "export": ("cli.exchange", "Write beads as JSON lines."),
    "import": ("cli.exchange", "Take beads in from JSON lines, ours or those of the Go program bd."),
    "verify": ("cli.verify", "Compare Dolt, git and Temporal; name what mends each disagreement."),
}
"""command: the module whose `app` has it, and the line in `bd --help`"""


class _Bd(LazyGroup):
    modules = _MODULES


app = new_program("Work on beads: the units of work, kept in Dolt.", cls=_Bd)
