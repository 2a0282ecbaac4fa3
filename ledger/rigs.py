"""Rigs and hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from ledger.engine import schema
from ledger.engine.rows import stamp
from ledger.engine.transactions import Transactions, take_turn
from ledger.queries import no_rig
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.records import BranchRenamed, GateSpec, Host, JobState, Rig
from models.texts import storable_text

TOWN_SCOPE = "town"
"""The scope of settings that is no rig; so no rig may have this name."""

FINAL_STATES = tuple(state.value for state in JobState if state.final)

_TURN = "rigs"


class RigRecords(Transactions):
    """Projects and machines."""

    def add_rig(self, rig: Rig) -> Rig:
        """Record a rig; telling the same rig twice is one.

        Raises:
            GtError: INVALID_NAME; ALREADY_EXISTS for another rig of that name or prefix.
        """
        _check(rig)

        def change(connection: Connection) -> tuple[None, str | None]:
            take_turn(connection, _TURN)
            for known in all_rigs(connection):
                if known.name == rig.name and _same(known, rig):
                    return None, None
                if known.name == rig.name:
                    raise GtError(
                        ErrorCode.ALREADY_EXISTS, f"there is a rig {rig.name} already", f"gt rig set {rig.name} --help"
                    )
                if known.prefix == rig.prefix:
                    raise GtError(
                        ErrorCode.ALREADY_EXISTS,
                        f"the prefix {rig.prefix} belongs to the rig {known.name}",
                        "gt rig add NAME URL --prefix OTHER",
                    )
            connection.execute(insert(schema.rigs).values(**_rig_row(rig)))
            return None, f"rig {rig.name}: added"

        self.write(change)
        return self.rig(rig.name)

    def rigs(self) -> list[Rig]:
        """Every rig, by name."""
        return self.read(all_rigs)

    def rig(self, name: str) -> Rig:
        """One rig; GtError(NOT_FOUND) where there is none."""
        return self.read(lambda connection: find_rig(connection, name))

    def edit_rig(self, name: str, edit: Callable[[Rig], Rig], what: str) -> Rig:
        """Change a rig by what it is now; one that would stay the same is not written.

        Args:
            edit: the changed rig by the stored one; may refuse with a GtError. Name, prefix and age stay.
            what: the change in words, for the history.

        Raises:
            GtError: NOT_FOUND for the rig, INVALID_NAME, INVALID_VALUE, whatever `edit` raises.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            take_turn(connection, _TURN)
            rig = find_rig(connection, name)
            kept = {"name": rig.name, "prefix": rig.prefix, "created_at": rig.created_at}
            edited = edit(rig).model_copy(update=kept)
            if edited == rig:
                return None, None
            _check(edited)
            before, after = _rig_row(rig), _rig_row(edited)
            changed = {column: value for column, value in after.items() if value != before[column]}
            connection.execute(update(schema.rigs).where(schema.rigs.c.name == name).values(**changed))
            return None, f"rig {name}: {what}"

        self.write(change)
        return self.rig(name)

    def edit_gates(self, name: str, edit: Callable[[tuple[GateSpec, ...]], tuple[GateSpec, ...]], what: str) -> Rig:
        """`edit_rig` of the gates alone."""
        return self.edit_rig(name, lambda rig: rig.model_copy(update={"gates": edit(rig.gates)}), what)

    def rename_branch(self, renamed: BranchRenamed) -> Rig:
        """The rig's branch was renamed on the remote. One that somebody has set otherwise meanwhile stays.

        Raises:
            GtError: NOT_FOUND for the rig.
        """
        new = renamed.branch

        def edit(rig: Rig) -> Rig:
            return rig.model_copy(update={"branch": new}) if rig.branch == renamed.before else rig

        return self.edit_rig(renamed.rig, edit, f"branch {renamed.before} was renamed to {new} on the remote")

    def remove_rig(self, name: str) -> None:
        """Forget a rig and its settings; its beads and their history stay.

        Raises:
            GtError: NOT_FOUND; REFUSED while a job of the rig is unfinished.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            take_turn(connection, _TURN)
            find_rig(connection, name)
            unfinished = select(schema.jobs.c.bead).where(
                schema.jobs.c.rig == name, schema.jobs.c.state.not_in(FINAL_STATES)
            )
            bead = connection.execute(unfinished.order_by(schema.jobs.c.bead)).scalars().first()
            if bead is not None:
                raise GtError(
                    ErrorCode.REFUSED, f"the rig {name} has unfinished jobs, {bead} for one", f"gt job cancel {bead}"
                )
            connection.execute(delete(schema.rigs).where(schema.rigs.c.name == name))
            connection.execute(delete(schema.settings).where(schema.settings.c.scope == name))
            connection.execute(delete(schema.polecats).where(schema.polecats.c.rig == name))
            return None, f"rig {name}: removed"

        self.write(change)

    def register_host(self, host: Host) -> Host:
        """Record a machine with a worker; the first registration's time stays."""
        names.valid_host(host.name)

        def change(connection: Connection) -> tuple[None, str | None]:
            known = connection.execute(select(schema.hosts).where(schema.hosts.c.name == host.name)).mappings().first()
            if known is None:
                row = {"name": host.name, "cores": host.cores, "registered_at": stamp(host.registered_at)}
                connection.execute(insert(schema.hosts).values(**row))
                return None, f"host {host.name}: registered"
            if known["cores"] == host.cores:
                return None, None
            connection.execute(update(schema.hosts).where(schema.hosts.c.name == host.name).values(cores=host.cores))
            return None, f"host {host.name}: {host.cores} cores"

        self.write(change)
        return next(known for known in self.hosts() if known.name == host.name)

    def hosts(self) -> list[Host]:
        """Every machine that has registered, by name."""
        return self.read(all_hosts)


def find_rig(connection: Connection, name: str) -> Rig:
    """One rig; GtError(NOT_FOUND) where there is none."""
    row = connection.execute(select(schema.rigs).where(schema.rigs.c.name == name)).mappings().first()
    if row is None:
        raise no_rig(name)
    return _rig(row)


def all_hosts(connection: Connection) -> list[Host]:
    """Every machine that has registered, by name."""
    rows = connection.execute(select(schema.hosts).order_by(schema.hosts.c.name)).mappings()
    return [Host.model_validate(dict(row)) for row in rows]


def all_rigs(connection: Connection) -> list[Rig]:
    """Every rig, by name."""
    return [_rig(row) for row in connection.execute(select(schema.rigs).order_by(schema.rigs.c.name)).mappings()]


def _check(rig: Rig) -> None:
    names.valid_rig(rig.name)
    names.valid_prefix(rig.prefix)
    names.valid_branch(rig.branch)
    storable_text("rig's URL", rig.url)
    storable_text("rig's agent", rig.agent)
    for gate in rig.gates:
        storable_text("gate's command", gate.command)
    if rig.name == TOWN_SCOPE:
        raise GtError(ErrorCode.INVALID_NAME, f"a rig cannot be named {TOWN_SCOPE!r}: settings use that word")


def _same(known: Rig, told: Rig) -> bool:
    return known.model_copy(update={"created_at": told.created_at}) == told


def _rig_row(rig: Rig) -> dict[str, Any]:
    row = rig.model_dump(mode="json")
    return row | {"gates": json.dumps(row["gates"]), "created_at": stamp(rig.created_at)}


def _rig(row: RowMapping) -> Rig:
    return Rig.model_validate(dict(row) | {"gates": json.loads(row["gates"])})
