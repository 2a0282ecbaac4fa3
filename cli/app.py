"""The commands of `gt`: nouns are loaded when they are named, so that `--help` costs next to nothing."""

from __future__ import annotations

from cli.frame.command import LazyGroup, new_program

_MODULES = {
    "init": ("cli.town.town", "Make a town directory."),
    "up": ("cli.town.town", "Start the town's services, supervised; a second time changes nothing."),
    "down": ("cli.town.town", "Stop what `gt up` started; nothing is lost."),
    "status": ("cli.town.status", "Show who works on what, what waits and what needs a person."),
    "ui": ("cli.town.town", "Print the address of Temporal's Web UI, or open a door to it."),
    "worker": ("cli.town.town", "Run a worker in the foreground."),
    "demo": ("cli.town.town", "Show the town recover from failing agents, in a scratch place."),
    "rig": ("cli.work.rig", "Add, list and remove rigs."),
    "sling": ("cli.work.sling", "Hand a bead to a polecat."),
    "job": ("cli.work.job", "Show and steer jobs."),
    "refinery": ("cli.refinery.refinery", "Look at the merge queue and steer it."),
    "witness": ("cli.town.watchers", "Look at a rig's patrol, stop, start and restart it."),
    "deacon": ("cli.town.watchers", "Look at the watch over the town, stop, start and restart it."),
    "boot": ("cli.town.watchers", "Look at who looks at the Deacon, or let it look now."),
    "mayor": ("cli.town.watchers", "Look at who receives escalations, start and restart it."),
    "inbox": ("cli.work.inbox", "Show what needs you, why, and the command that answers it."),
    "doctor": ("cli.town.town", "Check the services and how closed the town is to others."),
    "alert": ("cli.town.alert", "Say who is told of what, and through which channel."),
    "escalate": ("cli.work.escalate", "Report a problem; list, acknowledge and resolve reports."),
    "mail": ("cli.work.mail", "Messages between roles and people, kept in Dolt."),
    "config": ("cli.town.config", "Read and change settings."),
    "dolt": ("cli.town.dolt", "The ledger's database, and its history."),
    "polecat": ("cli.polecat.app", "Polecats, their sessions and their work."),
    "why": ("cli.work.why", "Show what was seen of a polecat or bead, which rule fired, and what was decided."),
    "peek": ("cli.polecat.view", "Show what a polecat's session shows."),
    "attach": ("cli.polecat.view", "Enter a polecat's session."),
    "done": ("cli.session.in_session", "In a session: hand in the work."),
    "hook": ("cli.session.in_session", "In a session: show the bead."),
    "prime": ("cli.session.in_session", "In a session: show who you are and what to do."),
    "heartbeat": ("cli.session.in_session", "In a session: say that you are alive."),
}
"""command: the module whose `app` has it, and the line in `gt --help`"""


class _Gt(LazyGroup):
    modules = _MODULES


app = new_program("Gas Town: many coding agents on real git repositories, their work landed exactly once.", cls=_Gt)
