"""Molecules: beads with steps."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, true, update

from ledger.beads.beads import BeadRecords, find_bead
from ledger.engine import schema
from ledger.engine.rows import now_stamp
from models.errors import ErrorCode, GtError
from models.ledger.beads import Molecule, MoleculePlan, Step
from models.ledger.records import Bead, BeadStatus, NewBead

_ASKED_BY_ID = 500
"""Beads; for more of them the whole table is read."""


class MoleculeRecords(BeadRecords):
    """Beads with steps."""

    def create_molecule(self, rig: str, plan: MoleculePlan) -> Molecule:
        """Record a bead with the steps of a plan, all at once.

        Raises:
            GtError: NOT_FOUND for the rig; INVALID_VALUE for a plan without order.
        """
        _require_order(plan)
        new = NewBead(
            rig=rig, title=plan.title, description=plan.description, priority=plan.priority, type=plan.type,
            labels=plan.labels,
        )  # fmt: skip

        def with_steps(connection: Connection, bead: str) -> None:
            connection.execute(
                insert(schema.molecules).values(bead=bead, template=plan.template, created_at=now_stamp())
            )
            for number, step in enumerate(plan.steps, start=1):
                row = step.model_dump(exclude={"needs"}) | {"needs": json.dumps(step.needs)}
                connection.execute(insert(schema.steps).values(bead=bead, number=number, **row))

        return self.molecule(self.create_bead(new, with_steps).id)

    def molecule(self, bead: str) -> Molecule:
        """A bead with its steps; GtError(NOT_FOUND) for one that is no molecule."""

        def ask(connection: Connection) -> Molecule:
            known = find_bead(connection, bead)
            found = molecules_of(connection, [known])
            if not found:
                raise GtError(ErrorCode.NOT_FOUND, f"{bead} is a bead without steps", "bd mol list")
            return found[0]

        return self.read(ask)

    def molecules(self, rig: str | None = None) -> list[Molecule]:
        """Every bead with steps, oldest first."""
        is_one = schema.beads.c.id.in_(select(schema.molecules.c.bead))
        query = select(schema.beads).where(is_one).order_by(schema.beads.c.created_at, schema.beads.c.id)
        if rig is not None:
            query = query.where(schema.beads.c.rig == rig)

        def ask(connection: Connection) -> list[Molecule]:
            beads = [find_bead(connection, row["id"]) for row in connection.execute(query).mappings()]
            return molecules_of(connection, beads)

        return self.read(ask)

    def mark_step(self, bead: str, name: str, *, done: bool, by: str) -> Molecule:
        """Note that a step is done, or is not; saying it twice is once.

        Raises:
            GtError: NOT_FOUND for the bead or the step; REFUSED while steps that come first are not done.
        """

        def change(connection: Connection) -> tuple[None, str | None]:
            molecule = next(iter(molecules_of(connection, [find_bead(connection, bead)])), None)
            step = next((one for one in molecule.steps if one.name == name), None) if molecule else None
            if molecule is None or step is None:
                raise GtError(ErrorCode.NOT_FOUND, f"{bead} has no step {name!r}", f"bd mol show {bead}")
            if (step.done_at is not None) is done:
                return None, None
            _require_turn(molecule, step, done=done)
            where = (schema.steps.c.bead == bead) & (schema.steps.c.number == step.number)
            values = {"done_at": now_stamp(), "done_by": by} if done else {"done_at": None, "done_by": None}
            connection.execute(update(schema.steps).where(where).values(**values))
            return None, f"{bead}: step {name} {'done' if done else 'not done'}"

        self.write(change, by=by)
        return self.molecule(bead)

    def clean_molecules(self, rig: str | None = None) -> list[str]:
        """Forget the steps of molecules whose bead is closed; the beads stay, and Dolt's history keeps the steps.

        Returns:
            The beads whose steps were forgotten.
        """

        cleaned: dict[str, None] = {}

        def change(connection: Connection) -> tuple[None, str | None]:
            closed = select(schema.molecules.c.bead).where(
                schema.molecules.c.bead == schema.beads.c.id, schema.beads.c.status == BeadStatus.CLOSED.value
            )
            if rig is not None:
                closed = closed.where(schema.beads.c.rig == rig)
            beads = list(connection.execute(closed.order_by(schema.molecules.c.bead)).scalars())
            if not beads:
                return None, None
            # Kept over a second run, which finds nothing any more when the first one's commit had arrived.
            cleaned.update(dict.fromkeys(beads))
            for table in (schema.steps, schema.molecules):
                connection.execute(delete(table).where(table.c.bead.in_(beads)))
            return None, f"steps of {len(beads)} closed beads removed: {' '.join(beads)}"

        self.write(change)
        return list(cleaned)


def molecules_of(connection: Connection, beads: Sequence[Bead]) -> list[Molecule]:
    """Those of the beads that have steps, in their order."""
    ids = [bead.id for bead in beads]
    these = schema.molecules.c.bead.in_(ids) if len(ids) <= _ASKED_BY_ID else true()
    heads = {row["bead"]: dict(row) for row in connection.execute(select(schema.molecules).where(these)).mappings()}
    query = select(schema.steps).where(schema.steps.c.bead.in_(list(heads))).order_by(schema.steps.c.number)
    steps: dict[str, list[Step]] = {}
    for row in connection.execute(query).mappings():
        step = Step.model_validate(dict(row) | {"needs": json.loads(row["needs"])})
        steps.setdefault(row["bead"], []).append(step)
    return [
        Molecule.model_validate(
            heads[bead.id] | {"title": bead.title, "status": bead.status, "steps": tuple(steps.get(bead.id, ()))}
        )
        for bead in beads
        if bead.id in heads
    ]


def _require_order(plan: MoleculePlan) -> None:
    """Names are unique, and a step needs only steps that stand before it."""
    before: set[str] = set()
    for step in plan.steps:
        if step.name in before:
            raise _disorder(plan, f"two steps are named {step.name!r}")
        unknown = set(step.needs) - before
        if unknown:
            raise _disorder(
                plan, f"the step {step.name!r} needs {sorted(unknown)[0]!r}, which does not stand before it"
            )
        before.add(step.name)
    if not before:
        raise _disorder(plan, "there are no steps")


def _disorder(plan: MoleculePlan, what: str) -> GtError:
    return GtError(ErrorCode.INVALID_VALUE, f"{plan.template}: {what}")


def _require_turn(molecule: Molecule, step: Step, *, done: bool) -> None:
    finished = {one.name for one in molecule.steps if one.done_at is not None}
    if done:
        waits = [name for name in step.needs if name not in finished]
        why = f"the step {step.name} needs {', '.join(waits)} first"
    else:
        waits = [one.name for one in molecule.steps if step.name in one.needs and one.name in finished]
        why = f"the step {step.name} is needed by {', '.join(waits)}, which is done"
    if waits:
        raise GtError(ErrorCode.REFUSED, f"{molecule.bead}: {why}", f"bd mol show {molecule.bead}")
