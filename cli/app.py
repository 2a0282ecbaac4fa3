"""The commands of `gt`: nouns are loaded when they are named, so that `--help` costs next to nothing."""

from __future__ import annotations

from cli.command import new_program
from cli.lazy import LazyGroup

_MODULES = {
    "init": ("cli.town", "Make a town directory."),
    "up": ("cli.town", "Start the town's services, supervised; a second time changes nothing."),
    "down": ("cli.town", "Stop what `gt up` started; nothing is lost."),
    "status": ("cli.status", "Show who works on what, what waits and what needs a person."),
    "ui": ("cli.ui", "Print the address of Temporal's Web UI, or open a door to it."),
    "worker": ("cli.town", "Run a worker in the foreground."),
    "demo": ("cli.town", "Show the town recover from failing agents, in a scratch place."),
    "rig": ("cli.rig", "Add, list and remove rigs."),
    "sling": ("cli.work", "Hand a bead to a polecat."),
    "job": ("cli.job", "Show and steer jobs."),
    "refinery": ("cli.refinery", "Look at the merge queue and steer it."),
    "witness": ("cli.watchers", "Look at a rig's patrol, stop, start and restart it."),
    "deacon": ("cli.watchers", "Look at the watch over the town, stop, start and restart it."),
    "boot": ("cli.boot", "Look at who looks at the Deacon, or let it look now."),
    "mayor": ("cli.watchers", "Look at who receives escalations, start and restart it."),
    "inbox": ("cli.inbox", "Show what needs you, why, and the command that answers it."),
    "doctor": ("cli.doctor", "Check the services and how closed the town is to others."),
    "alert": ("cli.alert", "Say who is told of what, and through which channel."),
    "escalate": ("cli.escalate", "Report a problem; list, acknowledge and resolve reports."),
    "mail": ("cli.mail", "Messages between roles and people, kept in Dolt."),
    "config": ("cli.config", "Read and change settings."),
    "dolt": ("cli.dolt", "The ledger's database, and its history."),
    "polecat": ("cli.polecat", "Polecats, their sessions and their work."),
    "why": ("cli.why", "Show what was seen of a polecat or bead, which rule fired, and what was decided."),
    "peek": ("cli.polecat_view", "Show what a polecat's session shows."),
    "attach": ("cli.polecat_view", "Enter a polecat's session."),
    "done": ("cli.in_session", "In a session: hand in the work."),
    "hook": ("cli.in_session", "In a session: show the bead."),
    "prime": ("cli.in_session", "In a session: show who you are and what to do."),
    "heartbeat": ("cli.in_session", "In a session: say that you are alive."),
}
"""command: the module whose `app` has it, and the line in `gt --help`"""


class _Gt(LazyGroup):
    modules = _MODULES


app = new_program("Gas Town: many coding agents on real git repositories, their work landed exactly once.", cls=_Gt)
