"""What a job writes: its events, its row, its bead, its merge request, its polecat.

A job sends its writes in order, each with (attempt, sequence), but an activity may run twice, or
late, or at the same time as its own retry. The jobs row holds the highest pair that was taken;
a write that is not above it changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from ledger.beads.beads import MERGED
from ledger.engine import schema
from ledger.engine.rows import printable, stamp, upsert
from ledger.engine.transactions import Transactions, new_token
from ledger.mail import put_message
from ledger.rigs import FINAL_STATES
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import BeadStatus, JobWrite, MergeRequest, MergeRequestState

IDLE = "idle"
"""State of a polecat that works on no bead."""


class OutboxRecords(Transactions):
    """The one way in which jobs change the record."""

    def record_job(self, writes: Sequence[JobWrite]) -> None:
        """Record transitions of jobs, each in its own transaction and Dolt commit, in order.

        A write that is already recorded, or older than what is, changes nothing. After return
        each write was read back. A closed bead stays closed whatever comes.

        Raises:
            GtError: LEDGER_UNREACHABLE or LEDGER_CONFLICT; then the writes before the failed one
                are recorded, and all may be sent again.
        """
        for write in writes:
            names.valid_bead(write.bead)
            self._record(write)

    def _record(self, write: JobWrite) -> None:
        def change(connection: Connection) -> tuple[None, str | None]:
            known = _job_row(connection, write.bead)
            if known is not None and not _newer(write, known):
                return None, None
            _write_job(connection, write, known)
            _write_event(connection, write)
            _write_bead(connection, write)
            _write_merge_request(connection, write)
            _write_polecat(connection, write)
            for message in write.mail:
                put_message(connection, message)
            return None, _message(write)

        def look_again(connection: Connection, _: None) -> None:
            stored = _job_row(connection, write.bead)
            if stored is None or _newer(write, stored):
                raise GtError(ErrorCode.LEDGER_CONFLICT, f"{write.bead}: a write was not found again after its commit")

        self.write_and_read(change, look_again, by=write.workflow_id)


def _job_row(connection: Connection, bead: str) -> RowMapping | None:
    return connection.execute(select(schema.jobs).where(schema.jobs.c.bead == bead)).mappings().first()


def _newer(write: JobWrite, known: RowMapping) -> bool:
    return (write.attempt, write.sequence) > (known["attempt"], known["sequence"])


def _write_job(connection: Connection, write: JobWrite, known: RowMapping | None) -> None:
    told = {
        "polecat": write.polecat,
        "host": write.host,
        "branch": write.branch,
        "head_sha": write.head_sha,
        "merged_sha": write.merged_sha,
        "agent": write.agent,
    }
    values: dict[str, Any] = {
        "rig": write.rig,
        "workflow_id": write.workflow_id,
        "state": write.state.value,
        "attempt": write.attempt,
        "sequence": write.sequence,
        "restarts": write.restarts,
        "reworks": write.reworks,
        "updated_at": stamp(write.at),
        "token": new_token(),
    }
    if known is None:
        connection.execute(
            insert(schema.jobs).values(bead=write.bead, started_at=stamp(write.at), **values, **told),
        )
        return
    if known["state"] in FINAL_STATES and not write.state.final:
        # A new job on the bead: nothing of the old one's holds for it.
        values |= told | {"started_at": stamp(write.at)}
    else:
        values |= {key: value for key, value in told.items() if value is not None}
    older = (schema.jobs.c.attempt < write.attempt) | (
        (schema.jobs.c.attempt == write.attempt) & (schema.jobs.c.sequence < write.sequence)
    )
    connection.execute(update(schema.jobs).where(schema.jobs.c.bead == write.bead, older).values(**values))


def _write_event(connection: Connection, write: JobWrite) -> None:
    key = {"bead": write.bead, "attempt": write.attempt, "sequence": write.sequence}
    values = {"at": stamp(write.at), "event": printable(write.event)[:64], "detail": printable(write.detail)}
    upsert(connection, schema.job_events, key, values)


def _write_bead(connection: Connection, write: JobWrite) -> None:
    beads = schema.beads
    values: dict[str, Any] = {"status": write.bead_status.value, "updated_at": stamp(write.at)}
    if write.bead_status in {BeadStatus.OPEN, BeadStatus.DEFERRED}:
        values["assignee"] = None
    elif write.polecat is not None:
        values["assignee"] = names.polecat_address(write.rig, write.polecat)
    if write.merged_sha is not None:
        values["merged_sha"] = write.merged_sha
    if write.bead_status is BeadStatus.CLOSED:
        values["closed_at"] = stamp(write.at)
        values["close_reason"] = printable(write.close_reason or (MERGED if write.merged_sha else write.state.value))
    still_open = (beads.c.id == write.bead) & (beads.c.status != BeadStatus.CLOSED.value)
    if connection.execute(update(beads).where(still_open).values(**values)).rowcount:
        return
    if write.merged_sha is not None:
        # Closed by hand while the change landed: what landed is a fact all the same.
        bare = (beads.c.id == write.bead) & beads.c.merged_sha.is_(None)
        connection.execute(update(beads).where(bare).values(merged_sha=write.merged_sha))


def _write_merge_request(connection: Connection, write: JobWrite) -> None:
    requests = schema.merge_requests
    if write.merge_request is not None:
        state = write.merge_request_state or MergeRequestState.QUEUED
        values = _request_values(write.merge_request) | {"state": state.value, "updated_at": stamp(write.at)}
        upsert(connection, requests, {"id": write.merge_request.id}, values)
    elif write.merge_request_state is not None:
        queued = (requests.c.bead == write.bead) & (requests.c.state == MergeRequestState.QUEUED.value)
        values = {"state": write.merge_request_state.value, "updated_at": stamp(write.at)}
        connection.execute(update(requests).where(queued, requests.c.attempt <= write.attempt).values(**values))


def _request_values(request: MergeRequest) -> dict[str, Any]:
    values = request.model_dump(exclude={"id", "bases", "pinned"})
    return values | {"title": printable(request.title), "submitted_at": stamp(request.submitted_at)}


def _write_polecat(connection: Connection, write: JobWrite) -> None:
    """Polecats are shared by jobs one after the other: times decide which job's word is newer."""
    polecats, at = schema.polecats, stamp(write.at)
    left = (polecats.c.bead == write.bead) & (polecats.c.since <= at)
    if write.polecat is not None and not write.state.final:
        left &= (polecats.c.rig != write.rig) | (polecats.c.name != write.polecat)
    connection.execute(update(polecats).where(left).values(state=IDLE, bead=None, since=at))
    if write.polecat is None or write.host is None or write.state.final:
        return
    mine = (polecats.c.rig == write.rig) & (polecats.c.name == write.polecat)
    values = {"host": write.host, "state": write.state.value, "bead": write.bead, "since": at}
    if connection.execute(select(polecats.c.since).where(mine)).first() is None:
        connection.execute(insert(polecats).values(rig=write.rig, name=write.polecat, **values))
    else:
        connection.execute(update(polecats).where(mine, polecats.c.since <= at).values(**values))


def _message(write: JobWrite) -> str:
    what = write.event.replace("_", " ")
    if write.state.value == MERGED and write.merged_sha:
        what = f"merged as {write.merged_sha[:8]}"
    cause = printable(write.detail).strip()
    return f"{write.bead}: {printable(what)} (attempt {write.attempt})" + (f": {cause}" if cause else "")
