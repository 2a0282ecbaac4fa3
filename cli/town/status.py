"""`gt status`: one look at everything. What cannot be read is left out and said on standard error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.town import status_view
from models import names
from models.errors import GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from ledger.overview import Overview
    from models.job.messages import DispatchStatus, WitnessStatus
    from models.ledger.records import Rig
    from models.mayor.escalations import EscalationStatus
    from models.refinery.messages import QueueStatus
    from services.town import Town

T = TypeVar("T")

app = new_app("Status.")


@dataclass
class Living:
    """What the workflows answer; None: they could not be asked. By rig where there is one per rig."""

    reached: bool = False
    rigs: list[str] = field(default_factory=list)
    dispatchers: dict[str, DispatchStatus | None] = field(default_factory=dict)
    witnesses: dict[str, WitnessStatus | None] = field(default_factory=dict)
    queues: dict[str, QueueStatus | None] = field(default_factory=dict)
    escalations: list[EscalationStatus] | None = None


@command(app, "status")
def status(call: Call) -> None:
    """Show who works on what, what waits and what needs a person."""
    town = connect.open_town(call)
    services = _services(town)
    recorded = recorded_of(town)
    living = living_of(town, [rig.name for rig in recorded.rigs] if recorded.rigs is not None else None)
    document = _document(town, services, recorded, living)
    lacks = town.temporal_listening().lacks
    if lacks:
        output.warn(f"{lacks} (gt doctor --security)")
    output.emit(call, document, status_view.text(document))


def _services(town: Town) -> list[dict[str, Any]]:
    from services.supervisor.up_and_down import service_states

    return output.documents(service_states(town))


def recorded_of(town: Town) -> Overview:
    from ledger.overview import Overview, overview

    try:
        return connect.ask_ledger(town, overview)
    except GtError as error:
        output.warn(f"the ledger cannot be read: {error.message}")
        return Overview()


def living_of(town: Town, rigs: list[str] | None) -> Living:
    """Ask every workflow at once."""
    living = Living()

    async def ask(client: Client) -> None:
        living.rigs = await connect.running_rigs(client) if rigs is None else rigs
        living.reached = True
        await asyncio.gather(_ask_mayor(client, living), *(_ask_rig(client, living, rig) for rig in living.rigs))

    try:
        connect.converse(town, ask)
    except GtError as error:
        output.warn(error.message)
        living.rigs = living.rigs or rigs or []
    return living


async def _ask_mayor(client: Client, living: Living) -> None:
    from models.mayor.escalations import EscalationStatus

    told = await _ask(client, names.MAYOR_ID, "escalations", list[EscalationStatus])
    if told is not None:
        living.escalations = [escalation for escalation in told if not escalation.resolved]


async def _ask_rig(client: Client, living: Living, rig: str) -> None:
    from models.job.messages import DispatchStatus, WitnessStatus
    from models.refinery.messages import QueueStatus

    living.dispatchers[rig], living.witnesses[rig], living.queues[rig] = await asyncio.gather(
        _ask(client, names.dispatch_id(rig), "status", DispatchStatus),
        _ask(client, names.witness_id(rig), "status", WitnessStatus),
        _ask(client, names.refinery_id(rig), "queue", QueueStatus),
    )


async def _ask(client: Client, workflow_id: str, query: str, answer: type[T]) -> T | None:
    try:
        return await connect.ask(client.get_workflow_handle(workflow_id), query, answer)
    except Exception as error:
        output.warn(f"{workflow_id}: {connect.as_gt_error(error).message}")
        return None


def _document(town: Town, services: list[dict[str, Any]], recorded: Overview, living: Living) -> dict[str, Any]:
    from services.sandbox import standing

    rigs = {rig.name: rig for rig in recorded.rigs or []}
    ready = all(service["state"] == "running" for service in services)
    answers = [*living.dispatchers.values(), *living.witnesses.values(), *living.queues.values(), living.escalations]
    answered = living.reached and all(answer is not None for answer in answers)
    sandbox = standing(recorded.sandbox)
    escalations = recorded.escalations if living.escalations is None else living.escalations
    return {
        "town": town.file.name,
        "directory": str(town.root),
        "healthy": ready and answered and recorded.rigs is not None,
        "web_url": town.web_url(),
        "services": services,
        "sandbox": {**output.document(sandbox), "words": sandbox.in_words()},
        "rigs": [_rig(name, rigs.get(name), recorded, living) for name in living.rigs],
        "jobs": _jobs(recorded, living),
        "escalations": output.documents(escalations),
    }


def _rig(name: str, rig: Rig | None, recorded: Overview, living: Living) -> dict[str, Any]:
    queue = living.queues.get(name)
    dispatcher, witness = living.dispatchers.get(name), living.witnesses.get(name)
    return {
        "name": name,
        "url": rig.url if rig else None,
        "branch": rig.branch if rig else None,
        "ungated": not rig.gates if rig else queue.ungated if queue else None,
        "max_polecats": rig.max_polecats if rig else dispatcher.max_polecats if dispatcher else None,
        "paused": dispatcher.paused if dispatcher else None,
        "pause_reason": dispatcher.pause_reason if dispatcher else None,
        "braked": dispatcher.braked if dispatcher else None,
        "lost_hosts": list(witness.lost_hosts) if witness else None,
        "polecats": _polecats(name, recorded, living),
        "queue": _queue(queue),
    }


def _queue(queue: QueueStatus | None) -> dict[str, Any]:
    """Its values are null while nobody answers for it; scripts find the keys all the same."""
    if queue is None:
        return dict.fromkeys(("waiting", "merging", "paused", "pause_reason", "troubles"))
    merging = sum(item.state == "merging" for item in queue.items)
    return {
        "waiting": len(queue.items) - merging,
        "merging": merging,
        "paused": queue.paused,
        "pause_reason": queue.pause_reason,
        "troubles": queue_troubles(queue),
    }


def queue_troubles(queue: QueueStatus) -> list[str]:
    """Why what waits is not merged though the queue is not paused, one line for each cause."""
    held = [f"{target} HELD: {why}" for target, why in queue.held_targets.items()]
    red = [f"{target} fails its gates by itself: {why}" for target, why in queue.red_targets.items()]
    retried = dict.fromkeys(item.reason for item in queue.items if item.state == "retrying")
    return [*held, *red, *(f"retrying: {why}" for why in retried if why)]


def _polecats(rig: str, recorded: Overview, living: Living) -> list[dict[str, Any]]:
    """The record's polecats, and those that so far only the dispatcher knows."""
    witness, dispatcher = living.witnesses.get(rig), living.dispatchers.get(rig)
    jobs = {job.bead: job for job in recorded.jobs}
    rows = {row.name: (row.state, row.bead, row.host) for row in recorded.polecats if row.rig == rig}
    for job in dispatcher.jobs if dispatcher else ():
        if job.polecat:
            known = jobs.get(job.bead)
            rows[job.polecat] = (known.state.value if known else "working", job.bead, job.host or "")
    shown = []
    for name, (state, bead, host) in sorted(rows.items()):
        known = jobs.get(bead) if bead else None
        shown.append(
            {
                "name": name,
                "state": state,
                "bead": bead,
                "attempt": known.attempt if known else None,
                "host": host or None,
                "health": witness.health.get(bead) if witness and bead else None,
                "heartbeat_age_s": witness.heartbeat_age_s.get(bead) if witness and bead else None,
                "progress_age_s": witness.progress_age_s.get(bead) if witness and bead else None,
            }
        )
    return shown


def _jobs(recorded: Overview, living: Living) -> list[dict[str, Any]]:
    """Unfinished jobs of the record with what they wait for, and those that only a dispatcher knows."""
    known = {
        job.bead: job for dispatcher in living.dispatchers.values() if dispatcher is not None for job in dispatcher.jobs
    }
    rig_of = {
        job.bead: rig
        for rig, dispatcher in living.dispatchers.items()
        if dispatcher is not None
        for job in dispatcher.jobs
    }
    jobs = [
        {**output.document(job), "waits_for": known[job.bead].waits_for if job.bead in known else None}
        for job in recorded.jobs
    ]
    recorded_beads = {job.bead for job in recorded.jobs}
    unrecorded = [
        {**output.document(job), "rig": rig_of[bead]} for bead, job in known.items() if bead not in recorded_beads
    ]
    return jobs + unrecorded
