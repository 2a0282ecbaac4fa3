"""What a job writes: its events, its row, its bead, its merge request, its polecat.

A job sends its writes in order, each with (attempt, sequence), but an activity may run twice, or
late, or at the same time as its own retry. The jobs row holds the highest pair that was taken;
a write that is not above it changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

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

# Made once: SQLAlchemy takes longer to make a statement than to run it. What a row shall hold is given with its values.
_jobs, _beads, _requests, _polecats = schema.jobs, schema.beads, schema.merge_requests, schema.polecats
_JOB = select(_jobs).where(_jobs.c.bead == bindparam("of_bead"))
_NEW_JOB = insert(_jobs)
_OLDER_JOB = update(_jobs).where(
    _jobs.c.bead == bindparam("of_bead"),
    (_jobs.c.attempt < bindparam("below_attempt"))
    | ((_jobs.c.attempt == bindparam("below_attempt")) & (_jobs.c.sequence < bindparam("below_sequence"))),
)
_OPEN_BEAD = update(_beads).where(_beads.c.id == bindparam("of_bead"), _beads.c.status != BeadStatus.CLOSED.value)
_UNMERGED_BEAD = update(_beads).where(_beads.c.id == bindparam("of_bead"), _beads.c.merged_sha.is_(None))
_QUEUED_REQUEST = update(_requests).where(
    _requests.c.bead == bindparam("of_bead"),
    _requests.c.state == MergeRequestState.QUEUED.value,
    _requests.c.attempt <= bindparam("up_to_attempt"),
)
_OF_BEAD = (_polecats.c.bead == bindparam("of_bead")) & (_polecats.c.since <= bindparam("up_to"))
_MINE = (_polecats.c.rig == bindparam("of_rig")) & (_polecats.c.name == bindparam("of_name"))
_LEFT = update(_polecats).where(_OF_BEAD)
_LEFT_FOR_MINE = update(_polecats).where(_OF_BEAD, ~_MINE)
_SINCE = select(_polecats.c.since).where(_MINE)
_NEW_POLECAT = insert(_polecats)
_OLDER_POLECAT = update(_polecats).where(_MINE, _polecats.c.since <= bindparam("up_to"))


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
    return connection.execute(_JOB, {"of_bead": bead}).mappings().first()


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
        connection.execute(_NEW_JOB, {"bead": write.bead, "started_at": stamp(write.at), **values, **told})
        return
    if known["state"] in FINAL_STATES and not write.state.final:
        # A new job on the bead: nothing of the old one's holds for it.
        values |= told | {"started_at": stamp(write.at)}
    else:
        values |= {key: value for key, value in told.items() if value is not None}
    below = {"of_bead": write.bead, "below_attempt": write.attempt, "below_sequence": write.sequence}
    connection.execute(_OLDER_JOB, below | values)


def _write_event(connection: Connection, write: JobWrite) -> None:
    key = {"bead": write.bead, "attempt": write.attempt, "sequence": write.sequence}
    values = {"at": stamp(write.at), "event": printable(write.event)[:64], "detail": printable(write.detail)}
    upsert(connection, schema.job_events, key, values)


def _write_bead(connection: Connection, write: JobWrite) -> None:
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
    if connection.execute(_OPEN_BEAD, {"of_bead": write.bead, **values}).rowcount:
        return
    if write.merged_sha is not None:
        # Closed by hand while the change landed: what landed is a fact all the same.
        connection.execute(_UNMERGED_BEAD, {"of_bead": write.bead, "merged_sha": write.merged_sha})


def _write_merge_request(connection: Connection, write: JobWrite) -> None:
    if write.merge_request is not None:
        state = write.merge_request_state or MergeRequestState.QUEUED
        values = _request_values(write.merge_request) | {"state": state.value, "updated_at": stamp(write.at)}
        upsert(connection, _requests, {"id": write.merge_request.id}, values)
    elif write.merge_request_state is not None:
        values = {"state": write.merge_request_state.value, "updated_at": stamp(write.at)}
        connection.execute(_QUEUED_REQUEST, {"of_bead": write.bead, "up_to_attempt": write.attempt, **values})


def _request_values(request: MergeRequest) -> dict[str, Any]:
    values = request.model_dump(exclude={"id", "bases", "pinned"})
    return values | {"title": printable(request.title), "submitted_at": stamp(request.submitted_at)}


def _write_polecat(connection: Connection, write: JobWrite) -> None:
    """Polecats are shared by jobs one after the other: times decide which job's word is newer."""
    at = stamp(write.at)
    left = {"of_bead": write.bead, "up_to": at, "state": IDLE, "bead": None, "since": at}
    if write.polecat is None or write.state.final:
        connection.execute(_LEFT, left)
        return
    mine = {"of_rig": write.rig, "of_name": write.polecat}
    connection.execute(_LEFT_FOR_MINE, left | mine)
    if write.host is None:
        return
    values = {"host": write.host, "state": write.state.value, "bead": write.bead, "since": at}
    if connection.execute(_SINCE, mine).first() is None:
        connection.execute(_NEW_POLECAT, {"rig": write.rig, "name": write.polecat, **values})
    else:
        connection.execute(_OLDER_POLECAT, {"up_to": at, **mine, **values})


def _message(write: JobWrite) -> str:
    what = write.event.replace("_", " ")
    if write.state.value == MERGED and write.merged_sha:
        what = f"merged as {write.merged_sha[:8]}"
    cause = printable(write.detail).strip()
    return f"{write.bead}: {printable(what)} (attempt {write.attempt})" + (f": {cause}" if cause else "")
