"""What the ledger says for `bd verify`, and the mending that cannot lose anything."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, RowMapping, Select, Table, delete, exists, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from ledger.beads.beads import MERGED, landing_of
from ledger.engine import schema
from ledger.engine.faults import fault_of
from ledger.engine.rows import now_stamp
from ledger.engine.setup import drift, mend
from ledger.engine.transactions import Transactions
from ledger.jobs import highest_written
from ledger.outbox import IDLE
from models.base import Frozen
from models.errors import ErrorCode, GtError
from models.ledger import beads, records
from models.ledger.records import BeadStatus, JobRow, JobState, MergeRequestRow, MergeRequestState, PolecatRow
from models.mayor import escalations
from models.upkeep.verification import BeadFact, RecordFacts, RigFact, StoreFacts

_TYPES: dict[str, tuple[Table, type[Any]]] = {
    "beads": (schema.beads, records.Bead),
    "jobs": (schema.jobs, JobRow),
    "job_events": (schema.job_events, records.JobEvent),
    "merge_requests": (schema.merge_requests, MergeRequestRow),
    "polecats": (schema.polecats, PolecatRow),
    "hosts": (schema.hosts, records.Host),
    "escalations": (schema.escalations, escalations.EscalationStatus),
    "comments": (schema.comments, beads.Comment),
}
Row = TypeVar("Row", bound=Frozen)

_UNREADABLE_TOLD = 50
"""rows; the rest of a broken table says the same"""


class VerifyRecords(Transactions):
    """The record, to be compared with git and Temporal."""

    def record_facts(self) -> RecordFacts:
        """What the record says of beads, jobs, polecats and merge requests; all of one moment."""
        return self.read(_record_facts)

    def store_facts(self) -> StoreFacts:
        """What the ledger says of itself: schema, rows, uncommitted changes, the file's own check.

        Raises:
            GtError: LEDGER_UNREACHABLE.
        """

        def ask(connection: Connection) -> StoreFacts:
            different = drift(connection)
            if any(": no such" in one for one in different):
                return StoreFacts(drift=tuple(different))
            return StoreFacts(
                drift=tuple(different),
                unreadable=tuple(_unreadable(connection)),
                uncommitted=tuple(self._versioning.uncommitted(connection)),
            )

        damage = self._damage()
        if damage:
            return StoreFacts(damage=damage)
        return self.read(ask)

    def _damage(self) -> str:
        try:
            with self._engine.connect() as connection:
                return self._versioning.damage(connection)
        except DBAPIError as error:
            failure = fault_of(error).error
            if failure.code is not ErrorCode.LEDGER_DAMAGED:
                raise failure from error
            return failure.message

    # --- mending --------------------------------------------------------------------------------

    def close_landed(self, bead: str, sha: str) -> bool:
        """Close a bead whose commit is on the target, as its story tells; False where it is closed by now."""

        def change(connection: Connection) -> tuple[bool, str | None]:
            now = now_stamp()
            values = {
                "status": BeadStatus.CLOSED.value, "close_reason": MERGED, "merged_sha": sha, "closed_at": now,
                "updated_at": now,
            }  # fmt: skip
            still_open = (schema.beads.c.id == bead) & (schema.beads.c.status != BeadStatus.CLOSED.value)
            if not connection.execute(update(schema.beads).where(still_open).values(**values)).rowcount:
                return False, None
            _tell_landing(connection, bead, sha, now)
            return True, f"{bead}: closed, its work is on the target as {sha[:8]} (bd verify)"

        return self.write(change)

    def free_polecat(self, rig: str, name: str, bead: str) -> bool:
        """Note that a polecat works on nothing; False where it works on another bead by now."""
        polecats = schema.polecats.c
        busy = (polecats.rig == rig) & (polecats.name == name) & (polecats.bead == bead)
        values = {"state": IDLE, "bead": None, "since": now_stamp()}

        def change(connection: Connection) -> tuple[bool, str | None]:
            if not connection.execute(update(schema.polecats).where(busy).values(**values)).rowcount:
                return False, None
            return True, f"{rig}/{name}: idle, no job works on {bead} (bd verify)"

        return self.write(change)

    def settle_request(self, request: str) -> bool:
        """Note what became of a merge request whose job is over; False where it does not wait any more."""
        requests = schema.merge_requests.c

        def change(connection: Connection) -> tuple[bool, str | None]:
            bead = select(requests.bead).where(requests.id == request).scalar_subquery()
            ended = connection.execute(select(schema.jobs.c.state).where(schema.jobs.c.bead == bead)).scalar()
            merged = ended == JobState.MERGED.value
            state = MergeRequestState.MERGED if merged else MergeRequestState.WITHDRAWN
            waiting = (requests.id == request) & (requests.state == MergeRequestState.QUEUED.value)
            values = {"state": state.value, "updated_at": now_stamp()}
            if not connection.execute(update(schema.merge_requests).where(waiting).values(**values)).rowcount:
                return False, None
            return True, f"merge request {request}: {state}, its job is over (bd verify)"

        return self.write(change)

    def drop_dangling(self, bead: str, needs: str) -> bool:
        """Forget that a bead waits for one that is not there; False where both are there."""
        edge = (schema.dependencies.c.bead == bead) & (schema.dependencies.c.needs == needs)

        def change(connection: Connection) -> tuple[bool, str | None]:
            known = set(
                connection.execute(select(schema.beads.c.id).where(schema.beads.c.id.in_([bead, needs]))).scalars()
            )
            if len(known) == 2 or not connection.execute(delete(schema.dependencies).where(edge)).rowcount:
                return False, None
            return True, f"{bead}: no longer needs {needs}, which is not there (bd verify)"

        return self.write(change)

    def mend_schema(self) -> None:
        """Make the tables and columns that are missing."""

        def change(connection: Connection) -> tuple[None, str | None]:
            with self._versioning.sole_setup(connection):
                mend(connection)
            return None, "schema mended (bd verify)"

        self.write(change)

    def commit_leftovers(self) -> None:
        """Commit what was changed by hand, so that it is in the history under its own name."""
        self.write(lambda connection: (None, "changed by hand, outside of gt (bd verify)"))


def _tell_landing(connection: Connection, bead: str, sha: str, now: str) -> None:
    """Note a landing where those of jobs are: it stays known when the bead is opened anew and lands again."""
    attempt, sequence = highest_written(connection, bead)
    key = {"bead": bead, "attempt": attempt, "sequence": sequence + 1}
    connection.execute(insert(schema.job_events).values(**key, at=now, event=MERGED, detail=f"{sha}: bd verify"))


def _record_facts(connection: Connection) -> RecordFacts:
    columns = schema.beads.c
    query = select(columns.id, columns.rig, columns.status, columns.close_reason, columns.merged_sha, columns.target)
    known = {row["id"]: fact for row, fact in _understood(connection, query, BeadFact)}
    jobs = {job.bead: job for _, job in _understood(connection, select(schema.jobs), JobRow)}
    polecats = _understood(connection, select(schema.polecats), PolecatRow)
    queued = select(schema.merge_requests).where(schema.merge_requests.c.state == MergeRequestState.QUEUED.value)
    rigs = select(schema.rigs.c.name, schema.rigs.c.prefix, schema.rigs.c.created_at).order_by(schema.rigs.c.name)
    return RecordFacts(
        rigs=tuple(rig for _, rig in _understood(connection, rigs, RigFact)),
        beads=known,
        jobs=jobs,
        landings=_landings(connection, known, jobs),
        polecats=tuple(polecat for _, polecat in polecats),
        queued=tuple(request for _, request in _understood(connection, queued, MergeRequestRow)),
        dangling=tuple(_dangling(connection)),
    )


def _understood(connection: Connection, query: Select[Any], model: type[Row]) -> Iterator[tuple[RowMapping, Row]]:
    """The rows that can be understood; `store_facts` names the others."""
    for row in connection.execute(query).mappings():
        with contextlib.suppress(ValidationError, GtError):
            yield row, model.model_validate(dict(row))


def _landings(connection: Connection, known: dict[str, BeadFact], jobs: dict[str, JobRow]) -> dict[str, frozenset[str]]:
    landings: dict[str, set[str]] = defaultdict(set)
    for bead, fact in known.items():
        if fact.merged_sha:
            landings[bead].add(fact.merged_sha)
    for job in jobs.values():
        if job.merged_sha:
            landings[job.bead].add(job.merged_sha)
    events = schema.job_events.c
    for bead, told in connection.execute(select(events.bead, events.detail).where(events.event == MERGED)):
        landings[bead].add(landing_of(told))
    return {bead: frozenset(shas) for bead, shas in landings.items()}


def _dangling(connection: Connection) -> list[tuple[str, str]]:
    edges, ids = schema.dependencies.c, schema.beads.c.id
    absent = or_(~exists().where(ids == edges.bead), ~exists().where(ids == edges.needs))
    query = select(edges.bead, edges.needs).where(absent).order_by(edges.bead, edges.needs)
    return [(row[0], row[1]) for row in connection.execute(query)]


def _unreadable(connection: Connection) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for name, (table, model) in _TYPES.items():
        for row in connection.execute(select(table)).mappings():
            try:
                model.model_validate(dict(row))
            except (ValidationError, GtError) as error:
                key = "/".join(str(row[column.name]) for column in table.primary_key)
                found.append((name, key, _why(error)))
                if len(found) >= _UNREADABLE_TOLD:
                    return found
    return found


def _why(error: ValidationError | GtError) -> str:
    if isinstance(error, GtError):
        return error.message
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
