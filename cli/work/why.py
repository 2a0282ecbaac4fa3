"""`gt why`: what was seen of a session, which rule fired, what was decided. Its JSON is a test case for the policy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import OptionalRigOption
from models import names
from models.errors import ErrorCode, GtError

if TYPE_CHECKING:
    from temporalio.client import Client

    from models.job.health import HealthReport, Sighting, Thresholds, Zombie
    from models.job.messages import JobStatus
    from models.ledger.records import JobEvent, JobRow
    from models.supervision.messages import WitnessHealth
    from services.town import Town

app = new_app("Why a polecat is judged as it is.")

EVENTS = 5
"""how much of the job's history is shown"""

SubjectArgument = Annotated[str, typer.Argument(metavar="NAME|BEAD", help="A polecat's name or a bead's id.")]


@dataclass(frozen=True)
class Recorded:
    """What the ledger has of the subject."""

    rigs: tuple[str, ...]
    jobs: tuple[JobRow, ...]
    """of the bead, or of each polecat of that name"""
    idle: tuple[str, ...]
    """rigs that have a polecat of that name without a bead"""


@dataclass(frozen=True)
class Subject:
    """One bead and what the Witness of its rig makes of it."""

    rig: str
    bead: str
    health: WitnessHealth | None = None

    @property
    def report(self) -> HealthReport | None:
        return self.health.reports.get(self.bead) if self.health else None

    @property
    def zombies(self) -> tuple[Zombie, ...]:
        """Attempts of it that are over and still there."""
        return tuple(one for one in self.health.zombies if one.bead == self.bead) if self.health else ()


@command(app, "why")
def why(call: Call, subject: SubjectArgument, rig: OptionalRigOption = None) -> None:
    """Show what was seen of a polecat or bead, which rule fired, and what was decided."""
    town = connect.open_town(call)
    if rig is not None:
        names.valid_rig(rig)
    try:
        recorded = _recorded(town, subject, rig)
    except GtError as error:
        if error.code is ErrorCode.NOT_FOUND:
            raise
        output.warn(f"the ledger cannot be read: {error.message}")
        recorded = None
    found, status = connect.converse(town, lambda client: _ask(client, subject, rig, recorded))
    if found is None:
        _say_idle(call, subject, recorded)
        return
    document = _document(found, status, _events(town, found.bead))
    output.emit(call, document, _text(found, document))


def _recorded(town: Town, subject: str, rig: str | None) -> Recorded:
    with connect.open_ledger(town) as ledger:
        rigs = tuple(row.name for row in ([ledger.rig(rig)] if rig else ledger.rigs()))
        polecats = [row for row in ledger.polecats(rig) if row.name == subject]
        beads = [row.bead for row in polecats if row.bead] or [subject]
        jobs = tuple(job for job in map(ledger.job, beads) if job is not None and rig in (None, job.rig))
    return Recorded(rigs, jobs, tuple(row.rig for row in polecats if not row.bead))


async def _ask(
    client: Client, subject: str, rig: str | None, recorded: Recorded | None
) -> tuple[Subject | None, JobStatus | None]:
    """The subject as its Witness and its job know it."""
    known = recorded.rigs if recorded else await connect.running_rigs(client)
    rigs = [one for one in known if rig in (None, one)]
    answers = await asyncio.gather(*(_health(client, one) for one in rigs))
    found = [
        Subject(health.rig, bead, health)
        for health in answers
        if health is not None
        for bead, report in health.reports.items()
        if subject in (bead, report.polecat)
    ]
    if not found and recorded:
        found = [Subject(job.rig, job.bead) for job in recorded.jobs]
    if len(found) > 1:
        message = f"{subject} is a polecat of {', '.join(sorted(one.rig for one in found))}"
        raise GtError(ErrorCode.INVALID_VALUE, message, f"gt why {subject} --rig {found[0].rig}")
    return (found[0], await _status(client, found[0])) if found else (None, None)


async def _health(client: Client, rig: str) -> WitnessHealth | None:
    from models.supervision.messages import WitnessHealth

    try:
        return await connect.ask(client.get_workflow_handle(names.witness_id(rig)), "health", WitnessHealth)
    except Exception as error:
        output.warn(f"the Witness of {rig}: {connect.as_gt_error(error).message}")
        return None


async def _status(client: Client, subject: Subject) -> JobStatus | None:
    from models.job.messages import JobStatus

    handle = client.get_workflow_handle(names.polecat_id(subject.rig, subject.bead))
    try:
        return await connect.ask(handle, "status", JobStatus)
    except Exception as error:
        output.warn(f"the job of {subject.bead}: {connect.as_gt_error(error).message}")
        return None


def _events(town: Town, bead: str) -> list[JobEvent]:
    """The end of the job's history; nothing while the ledger cannot be read, which was said already."""
    try:
        with connect.open_ledger(town) as ledger:
            return ledger.job_events(bead)[-EVENTS:]
    except GtError:
        return []


def _say_idle(call: Call, subject: str, recorded: Recorded | None) -> None:
    if recorded is None or not recorded.idle:
        raise GtError(ErrorCode.NOT_FOUND, f"nothing is watched under {subject!r}", "gt polecat list")
    document = {"rig": recorded.idle[0], "polecat": subject, "bead": None, "sighting": None, "diagnosis": None}
    output.emit(call, document, f"{subject} has no bead: it is idle, and nothing is watched")


def _document(found: Subject, status: JobStatus | None, events: list[JobEvent]) -> dict[str, Any]:
    report, job = found.report, output.document(status) if status else {}
    decision = {name: job.get(name) for name in ("state", "health", "waits_for", "restarts", "reworks")}
    decision["history"] = [
        {name: output.document(event)[name] for name in ("at", "attempt", "event", "detail")} for event in events
    ]
    return {
        "rig": found.rig,
        "bead": found.bead,
        "polecat": report.polecat if report else job.get("polecat"),
        "attempt": report.attempt if report else job.get("attempt"),
        "sighting": _whole(report.sighting) if report else None,
        "thresholds": _whole(found.health.limits_of(found.bead)) if found.health else None,
        "earlier": report.earlier if report else None,
        "diagnosis": _whole(report.diagnosis) if report else None,
        "decision": decision,
        "zombies": output.documents(found.zombies),
    }


def _whole(model: Any) -> dict[str, Any]:
    """Every field, also those that have their default."""
    return {name: getattr(model, name) for name in type(model).model_fields}


def _text(found: Subject, document: dict[str, Any]) -> str:
    decision, report = document["decision"], found.report
    lines: dict[str, object] = {"bead": f"{found.bead}, attempt {document['attempt']}", "rig": found.rig}
    lines["polecat"] = document["polecat"]
    if report is not None and found.health is not None:
        lines |= {
            "verdict": f"{report.diagnosis.kind} (rule {report.diagnosis.rule})",
            "because": report.diagnosis.reason,
            "before": report.earlier or "this was the first look",
            "seen": _seen(report.sighting),
            "limits": _limits(found.health.limits_of(found.bead)),
        }
    else:
        lines["verdict"] = "none: no session of it is watched"
    lines["job"] = f"{decision['state'] or 'not running'}, {decision['restarts'] or 0} restarts"
    lines["waits for"] = decision["waits_for"]
    lines["over but there"] = ", ".join(f"attempt {one.attempt} ({one.polecat}): {one.reason}" for one in found.zombies)
    parts = [output.fields(lines)]
    if decision["history"]:
        rows = [(event["at"], event["attempt"], event["event"], event["detail"]) for event in decision["history"]]
        parts.append(output.table(("AT", "ATTEMPT", "EVENT", "DETAIL"), rows))
    if report is not None and report.sighting.tail:
        parts.append(f"its pane ends with\n{report.sighting.tail}")
    return "\n\n".join(parts)


def _seen(sighting: Sighting) -> str:
    if not sighting.started:
        return "not started yet"
    if not sighting.present:
        return "no tmux session"
    if sighting.pane_dead:
        return "a dead pane" + ("" if sighting.exit_code is None else f", exit code {sighting.exit_code}")
    beat = "never" if sighting.heartbeat_age_s is None else f"{output.duration(sighting.heartbeat_age_s)} ago"
    ages = {"progress": sighting.progress_age_s, "output": sighting.output_age_s}
    told = ", ".join(f"{name} {output.duration(age)} ago" for name, age in ages.items())
    return f"a living session, watched for {output.duration(sighting.session_age_s)}; heartbeat {beat}, {told}"


def _limits(limits: Thresholds) -> str:
    longest = output.duration(limits.session_timeout_s) if limits.session_timeout_s else "none"
    return (
        f"heartbeat {output.duration(limits.polecat_timeout_s)} and {output.duration(limits.grace_s)} of grace, "
        f"progress {output.duration(limits.stuck_timeout_s)}, session {longest}"
    )
