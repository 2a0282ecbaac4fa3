"""`gt inbox`: what needs a person, why, and the command that answers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from models.errors import GtError

if TYPE_CHECKING:
    from cli.town.status import Living
    from ledger.overview import Overview
    from models.mayor.alerts import AlertRule, ChannelFailure
    from models.mayor.escalations import EscalationStatus
    from services.town import Town

app = new_app("Inbox.")

_ORDER = {"critical": 0, "high": 1, "medium": 2, "low": 3}
Item = dict[str, Any]


@command(app, "inbox")
def inbox(call: Call) -> None:
    """Show what needs you: the most urgent first."""
    from cli.town.status import living_of, recorded_of

    town = connect.open_town(call)
    recorded = recorded_of(town)
    living = living_of(town, [rig.name for rig in recorded.rigs] if recorded.rigs is not None else None)
    asked = {one.kind for one in _open(recorded, living)}
    items = [*_services(town, asked), *_asked(recorded, living), *_blocked(town, recorded, living), *_paused(living)]
    items += _alerts(town)
    items.sort(key=lambda item: (_ORDER.get(item["severity"], 1), item["since"] or ""))
    output.emit(call, items, inbox_text(items))


def _item(
    kind: str, id: str, severity: str, why: str, command: str, *, since: Any = None, rig: str | None = None,
    bead: str | None = None,
) -> Item:  # fmt: skip
    at = since if since is None or isinstance(since, str) else output.when(since)
    return {
        "kind": kind, "id": id, "severity": severity, "rig": rig, "bead": bead, "since": at, "why": why,
        "command": command,
    }  # fmt: skip


def _services(town: Town, asked: set[str]) -> Iterable[Item]:
    """What the alarm has told, and services that keep ending; where nobody supervises, nothing is expected to run.

    Args:
        asked: kinds of open escalations: of a ledger that is down or a disk that is full they say all.
    """
    from models.mayor.alerts import AlertType
    from services.notifications.alarm import alarms
    from services.supervisor.client import State
    from services.supervisor.programs import log_path
    from services.supervisor.up_and_down import service_states

    told = set()
    for alarm in alarms(town):
        what, _, name = alarm.key.partition("@")[0].partition(":")
        told.add(name)
        if alarm.type not in {AlertType.DOLT_DOWN, AlertType.DISK_FULL} or alarm.type.value not in asked:
            subject = name if what == "service" else what
            yield _item(what, subject, alarm.severity.value, alarm.title, alarm.command, since=alarm.since)
    for state in service_states(town):
        if state.state is State.FAILING and state.name not in told:
            why = f"{state.name} keeps ending soon after its start"
            yield _item("service", state.name, "critical", why, f"less {log_path(town, state.name)}")


def _open(recorded: Overview, living: Living) -> Sequence[EscalationStatus]:
    return recorded.escalations if living.escalations is None else living.escalations


def _asked(recorded: Overview, living: Living) -> Iterable[Item]:
    for one in _open(recorded, living):
        seen = "" if not one.acked else " (seen)"
        why = f"{one.kind}: {one.message}{seen}"
        yield _item(
            "escalation", one.id, one.severity, why, one.answer, since=one.opened_at, rig=one.rig, bead=one.bead
        )


def _blocked(town: Town, recorded: Overview, living: Living) -> Iterable[Item]:
    """Beads that wait for a person without an open escalation that says so."""
    from models.ledger.records import BeadStatus

    if recorded.rigs is None:
        return
    told = {one.bead for one in _open(recorded, living)}
    try:
        with connect.open_ledger(town) as ledger:
            beads = ledger.beads(status=BeadStatus.BLOCKED)
    except GtError as error:
        output.warn(f"blocked beads cannot be read: {error.message}")
        return
    with_job = {job.bead for job in recorded.jobs}
    for bead in beads:
        if bead.id not in told:
            answer = f"gt job retry {bead.id}" if bead.id in with_job else f"gt sling {bead.id} {bead.rig}"
            why = f"blocked: {bead.title}"
            yield _item("bead", bead.id, "medium", why, answer, since=bead.updated_at, rig=bead.rig, bead=bead.id)


def _paused(living: Living) -> Iterable[Item]:
    for rig in living.rigs:
        queue, dispatcher = living.queues.get(rig), living.dispatchers.get(rig)
        if queue is not None and queue.paused:
            why = f"the merge queue is paused: {queue.pause_reason or 'no reason was given'}"
            yield _item("queue", rig, "high", why, f"gt refinery resume --rig {rig}", rig=rig)
        for gate in queue.flaky if queue is not None else ():
            why = f"the gate {gate} was red and green at one commit: each culprit costs confirming runs"
            yield _item("gate", f"{rig}/{gate}", "low", why, f"gt refinery stats --rig {rig}", rig=rig)
        if dispatcher is not None and dispatcher.paused:
            why = f"no new sessions are started here: {dispatcher.pause_reason or 'no reason was given'}"
            yield _item("rig", rig, "medium", why, f"gt rig resume {rig}", rig=rig)


def _alerts(town: Town) -> Iterable[Item]:
    """Alerts that do not get out."""
    from services.notifications.files import AlertFiles

    files = AlertFiles(town.paths)
    try:
        channels = set(files.channels())
    except GtError as error:
        yield _item("channel", "channels.toml", "high", error.message, error.hint)
        return
    yield from (_failing(failure) for failure in files.failures() if failure.channel in channels)
    yield from _without_url(files.mirror().rules, channels)


def _failing(failure: ChannelFailure) -> Item:
    why = f"alerts cannot be delivered ({failure.tries} tries): {failure.error}"
    return _item(
        "channel", failure.channel, "high", why, f"gt alert test --channel {failure.channel}", since=failure.since
    )


def _without_url(rules: Iterable[AlertRule], channels: set[str]) -> Iterable[Item]:
    missing = sorted({rule.channel for rule in rules if rule.channel is not None and rule.channel not in channels})
    for channel in missing:
        why = "a rule names this channel, but it has no URL"
        yield _item("rule", channel, "low", why, f"gt alert channel add {channel}")


def inbox_text(items: list[Item]) -> str:
    """An item ends with its command on a line of its own, which can be copied whole."""
    if not items:
        return "nothing needs you"
    lines = []
    for item in items:
        since = f" since {item['since']}" if item["since"] else ""
        why, *more = [" ".join(line.split()) for line in item["why"].splitlines() if line.strip()] or [""]
        lines.append(f"{item['severity'].upper()} {item['kind']} {item['id']}{since}: {why}")
        lines += [f"  | {line}" for line in more]
        lines.append(f"    {item['command']}")
    return "\n".join(lines)
