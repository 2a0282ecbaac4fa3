"""Rigs, beads and job writes for the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import queries
from ledger.engine.rows import asking
from ledger.store import Ledger
from models.ledger.beads import BeadFilter
from models.ledger.records import Bead, BeadStatus, GateSpec, Host, JobState, JobWrite, MergeRequest, NewBead, Rig

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SHA = "0123456789abcdef0123456789abcdef01234567"


def a_rig(name: str = "shop", **changes: Any) -> Rig:
    values: dict[str, Any] = {
        "name": name,
        "url": f"https://example.org/{name}.git",
        "prefix": name[:2],
        "branch": "main",
        "gates": (GateSpec(name="test", command="pytest -q"),),
        "created_at": START,
    }
    return Rig(**values | changes)


def a_host(name: str = "mill", cores: int = 2) -> Host:
    return Host(name=name, cores=cores, registered_at=START)


def a_bead(ledger: Ledger, title: str = "Fix the login page", **changes: Any) -> Bead:
    """A bead of the rig `shop`, which is added where it is missing."""
    rig = changes.pop("rig", "shop")
    ledger.add_rig(a_rig(rig))
    return ledger.create_bead(NewBead(rig=rig, title=title, **changes))


def a_write(bead: str, attempt: int, sequence: int, **changes: Any) -> JobWrite:
    """A transition to `working`; its time follows from attempt and sequence."""
    values: dict[str, Any] = {
        "bead": bead,
        "rig": "shop",
        "workflow_id": f"polecat/shop/{bead}",
        "attempt": attempt,
        "sequence": sequence,
        "at": START + timedelta(hours=attempt, seconds=sequence),
        "event": "attempt_started",
        "state": JobState.WORKING,
        "bead_status": BeadStatus.IN_PROGRESS,
        "polecat": "toast",
        "host": "mill",
    }
    return JobWrite(**values | changes)


def a_merge(bead: str, attempt: int, sequence: int, **changes: Any) -> JobWrite:
    values: dict[str, Any] = {
        "event": "merged",
        "state": JobState.MERGED,
        "bead_status": BeadStatus.CLOSED,
        "merged_sha": SHA,
        "close_reason": "merged",
    }
    return a_write(bead, attempt, sequence, **values | changes)


def a_request(bead: str, attempt: int = 1) -> MergeRequest:
    return MergeRequest(
        id=f"{bead}.{attempt}",
        rig="shop",
        bead=bead,
        title="Fix the login page",
        polecat="toast",
        attempt=attempt,
        branch=f"polecat/{bead}",
        head_sha=SHA,
        target="main",
        submitted_at=START,
    )


def find_beads(ledger: Ledger, wanted: BeadFilter, limit: int | None = None) -> list[Bead]:
    return ledger.read(lambda connection: queries.find(asking(connection), wanted, limit))
