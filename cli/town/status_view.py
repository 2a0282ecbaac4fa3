"""`gt status` for people, within 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from cli.frame import output


def text(document: dict[str, Any]) -> str:
    """The document of `gt status` as a page."""
    health = "healthy" if document["healthy"] else "NOT HEALTHY"
    parts = [f"{document['town']}: {health}   {document['web_url'] or ''}".rstrip(), _services(document["services"])]
    parts.append("\n".join(textwrap.wrap(document["sandbox"]["words"], 80, break_on_hyphens=False)))
    parts += [_rig(rig) for rig in document["rigs"]] or ["no rigs: gt rig add NAME URL"]
    parts += [_jobs(document["jobs"]), _escalations(document["escalations"])]
    return "\n\n".join(part for part in parts if part)


def _services(services: list[dict[str, Any]]) -> str:
    rows = [(one["name"], one["state"], one["pid"], one["restarts"]) for one in services]
    return output.table(("SERVICE", "STATE", "PID", "RESTARTS"), rows)


def _rig(rig: dict[str, Any]) -> str:
    notes = [f"queue: {_queue(rig['queue'])}"]
    if rig["ungated"]:
        notes.append("UNGATED: work lands untested")
    if rig["paused"]:
        notes.append(f"PAUSED: {rig['pause_reason'] or 'no reason was given'}")
    if rig["braked"]:
        notes.append(f"RESTARTS PAUSED: {rig['braked']}")
    if rig["lost_hosts"]:
        notes.append(f"LOST: {', '.join(rig['lost_hosts'])}")
    head = "\n  ".join([f"rig {rig['name']}   {'   '.join(notes)}", *(rig["queue"]["troubles"] or ())])
    if not rig["polecats"]:
        return f"{head}\n  no polecats yet"
    rows = [
        (
            one["name"],
            one["state"],
            one["bead"],
            one["attempt"],
            one["host"],
            one["health"],
            output.duration(one["heartbeat_age_s"]),
            output.duration(one["progress_age_s"]),
        )
        for one in rig["polecats"]
    ]
    header = ("POLECAT", "STATE", "BEAD", "ATTEMPT", "HOST", "HEALTH", "BEAT", "PROGRESS")
    return f"{head}\n{output.table(header, rows, indent='  ')}"


def _queue(queue: dict[str, Any]) -> str:
    if queue["waiting"] is None:
        return "unknown"
    counts = f"{queue['waiting']} waiting, {queue['merging']} merging"
    return f"{counts}, PAUSED: {queue['pause_reason']}" if queue["paused"] else counts


def _jobs(jobs: list[dict[str, Any]]) -> str:
    if not jobs:
        return ""
    rows = [
        (job["bead"], job["rig"], job.get("state"), job.get("attempt"), job["polecat"], job["waits_for"])
        for job in jobs
    ]
    return output.table(("JOB", "RIG", "STATE", "ATTEMPT", "POLECAT", "WAITS FOR"), rows)


def _escalations(escalations: list[dict[str, Any]]) -> str:
    if not escalations:
        return ""
    rows = [
        (one["id"], one["severity"], one["kind"], one["bead"], "acked" if one["acked"] else "open", one["message"])
        for one in escalations
    ]
    return output.table(("NEEDS YOU", "SEVERITY", "KIND", "BEAD", "STATE", "MESSAGE"), rows)
