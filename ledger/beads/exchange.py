"""Beads out as JSON lines and in again: nothing is lost on the way, and importing twice is once."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from ledger.beads.beads import OF_JOBS, beads_of
from ledger.beads.labels import all_comments, insert_comment, put_labels
from ledger.beads.molecules import molecules_of
from ledger.engine import schema
from ledger.engine.rows import stamp
from ledger.engine.transactions import Transactions, new_token, take_turn
from ledger.rigs import all_rigs
from models import names
from models.errors import ErrorCode, GtError
from models.ledger.beads import Comment
from models.ledger.exchange import BLOCKS, BeadLine, ImportReport, LineComment, LineDependency, LineMolecule
from models.ledger.records import Bead, BeadStatus, Rig

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORTEST_NEW_ID: Final = 5
_LONGEST_NEW_ID: Final = 16


class ExchangeRecords(Transactions):
    """Exporting and importing."""

    def export_beads(self, rig: str | None = None) -> list[BeadLine]:
        """Every bead with its dependencies, labels, comments and steps, oldest first."""
        query = select(schema.beads).order_by(schema.beads.c.created_at, schema.beads.c.id)
        if rig is not None:
            query = query.where(schema.beads.c.rig == rig)

        def ask(connection: Connection) -> list[BeadLine]:
            beads = beads_of(connection, query)
            extras = {row[0]: row[1] for row in connection.execute(select(schema.beads.c.id, schema.beads.c.extra))}
            comments: dict[str, list[Comment]] = defaultdict(list)
            for comment in all_comments(connection):
                comments[comment.bead].append(comment)
            molecules = {molecule.bead: molecule for molecule in molecules_of(connection, beads)}
            return [_line(bead, extras[bead.id], comments[bead.id], molecules.get(bead.id)) for bead in beads]

        return self.read(ask)

    def import_beads(self, lines: Sequence[BeadLine], rig: str | None = None, *, dry_run: bool = False) -> ImportReport:
        """Take beads in, all or none. A bead that is here already, by its id or its origin, stays as it is.

        A bead keeps its id where the rig's prefix allows; otherwise its new id follows from the old one.

        Args:
            rig: where all of them go; otherwise each goes to the rig that it names, or that has its prefix.
            dry_run: say what would become of them, and change nothing.

        Raises:
            GtError: NOT_FOUND for a rig; INVALID_VALUE for a bead that is there twice; REFUSED for a circle.
        """
        plan = _Plan(lines)
        written: list[ImportReport] = []

        def change(connection: Connection) -> tuple[ImportReport, str | None]:
            # A circle may be closed by two imports that are harmless alone.
            take_turn(connection, "dependencies")
            report = plan.work_out(connection, rig)
            if dry_run or not report.created:
                # Not at the first run: this one's commit had arrived, only its answer was lost.
                return (written or [report])[-1], None
            plan.write(connection)
            written.append(report)
            return report, f"imported {len(report.created)} beads"

        return self.write(change)


class _Plan:
    """Where each line goes. Worked out anew in each run of the transaction."""

    def __init__(self, lines: Sequence[BeadLine]) -> None:
        self._lines = lines
        self._ids: dict[str, str] = {}
        self._homes: dict[str, Rig] = {}
        self._edges: dict[str, set[str]] = {}
        self._new: list[BeadLine] = []
        twice = _first_repeated(line.id for line in lines)
        if twice is not None:
            raise GtError(ErrorCode.INVALID_VALUE, f"{twice} is there twice")

    def work_out(self, connection: Connection, rig: str | None) -> ImportReport:
        """Decide ids and edges; nothing is written."""
        by_name = {one.name: one for one in all_rigs(connection)}
        if rig is not None and rig not in by_name:
            raise GtError(ErrorCode.NOT_FOUND, f"there is no rig {rig!r}", "gt rig list")
        columns = (schema.beads.c.id, schema.beads.c.origin, schema.beads.c.rig)
        stored = {row[0]: (row[1], row[2]) for row in connection.execute(select(*columns))}
        here = {(home, origin): bead for bead, (origin, home) in stored.items() if origin is not None}
        self._ids, self._homes, self._new = {}, {}, []
        taken, known = set(stored), []
        for line in self._lines:
            home = _home(line, rig, by_name)
            self._homes[line.id] = home
            found = here.get((home.name, line.origin or line.id))
            if found is None and line.id in stored and stored[line.id][1] == home.name:
                found = line.id
            if found is not None:
                known.append(found)
            self._ids[line.id] = found or _new_id(line, home, taken)
            if found is None:
                taken.add(self._ids[line.id])
                self._new.append(line)
        aside = self._work_out_edges(connection, set(stored))
        moved = {line.id: self._ids[line.id] for line in self._lines if self._ids[line.id] != line.id}
        return ImportReport(
            created=tuple(self._ids[line.id] for line in self._new),
            known=tuple(known),
            renamed=moved,
            reopened=tuple(self._ids[line.id] for line in self._new if _worked_on(line)),
            kept_aside=tuple(aside),
        )

    def _work_out_edges(self, connection: Connection, stored: set[str]) -> list[str]:
        aside: list[str] = []
        self._edges = {}
        for line in self._new:
            needs: set[str] = set()
            for edge in line.dependencies:
                need = self._ids.get(edge.depends_on_id) or (
                    edge.depends_on_id if edge.depends_on_id in stored else None
                )
                if edge.type != BLOCKS:
                    continue
                if need is None:
                    aside.append(f"{self._ids[line.id]} needs {edge.depends_on_id}")
                else:
                    needs.add(need)
            self._edges[self._ids[line.id]] = needs
        circle = _circle(self._edges)
        if circle is not None:
            raise GtError(ErrorCode.REFUSED, f"that would be a circle: {' needs '.join(circle)}")
        return aside

    def write(self, connection: Connection) -> None:
        """Insert what `work_out` found to be new."""
        for line in self._new:
            bead = self._ids[line.id]
            connection.execute(insert(schema.beads).values(**self._row(line, bead)))
            put_labels(connection, bead, line.labels)
            for comment in line.comments:
                _put_comment(connection, bead, line, comment)
            if line.molecule is not None:
                _put_molecule(connection, bead, line.molecule)
        for bead, needs in self._edges.items():
            for need in sorted(needs):
                connection.execute(insert(schema.dependencies).values(bead=bead, needs=need))

    def _row(self, line: BeadLine, bead: str) -> dict[str, Any]:
        aside = [edge.model_dump(mode="json") for edge in line.dependencies if not self._is_edge(edge, bead)]
        extra = line.rest | ({"dependencies": aside} if aside else {})
        updated_at = line.updated_at or line.created_at
        closed = line.status is BeadStatus.CLOSED
        closed_at = (line.closed_at or updated_at) if closed else None
        return {
            "id": bead,
            "rig": self._homes[line.id].name,
            "title": line.title,
            "description": line.description,
            "status": (BeadStatus.OPEN if _worked_on(line) else line.status).value,
            "priority": line.priority,
            "type": line.issue_type.value,
            "assignee": None if _worked_on(line) else line.assignee or None,
            "target": line.target,
            "integrates": line.integrates,
            "integrates_sha": line.integrates_sha,
            "close_reason": line.close_reason if closed else None,
            "merged_sha": line.merged_sha if closed else None,
            "created_at": stamp(line.created_at),
            "updated_at": stamp(updated_at),
            "closed_at": None if closed_at is None else stamp(closed_at),
            "creation": new_token(),
            "origin": line.origin or (line.id if bead != line.id else None),
            "extra": json.dumps(extra, ensure_ascii=True) if extra else None,
        }

    def _is_edge(self, edge: LineDependency, bead: str) -> bool:
        need = self._ids.get(edge.depends_on_id, edge.depends_on_id)
        return edge.type == BLOCKS and need in self._edges[bead]


def _line(bead: Bead, extra: str | None, comments: Sequence[Comment], molecule: Any) -> BeadLine:
    rest: dict[str, Any] = json.loads(extra) if extra else {}
    edges = [LineDependency(issue_id=bead.id, depends_on_id=need) for need in bead.dependencies]
    edges += [LineDependency.model_validate(edge) for edge in rest.pop("dependencies", [])]
    steps = None
    if molecule is not None:
        steps = LineMolecule(template=molecule.template, created_at=molecule.created_at, steps=molecule.steps)
    told = bead.model_dump(exclude={"type", "dependencies"}) | {
        "issue_type": bead.type,
        "dependencies": tuple(edges),
        "comments": tuple(
            LineComment(id=one.id, author=one.author, text=one.text, created_at=one.at) for one in comments
        ),
        "molecule": steps,
    }
    return BeadLine.model_validate(rest | told)


def _home(line: BeadLine, rig: str | None, by_name: dict[str, Rig]) -> Rig:
    if rig is not None:
        return by_name[rig]
    if line.rig in by_name:
        return by_name[line.rig]
    prefix = line.id.partition("-")[0]
    for known in by_name.values():
        if known.prefix == prefix:
            return known
    raise GtError(ErrorCode.NOT_FOUND, f"no rig is named by {line.id}", "bd import FILE --rig R")


def _new_id(line: BeadLine, home: Rig, taken: set[str]) -> str:
    """The line's own id where the rig may have it; else one that follows from it, so that importing again finds it."""
    try:
        if names.bead_prefix(line.id) == home.prefix and line.id not in taken:
            return line.id
    except GtError:
        # No id of ours: a new one below.
        pass
    number = int.from_bytes(hashlib.sha256(line.id.encode()).digest())
    word = ""
    while len(word) < _LONGEST_NEW_ID:
        number, digit = divmod(number, len(_DIGITS))
        word += _DIGITS[digit]
        if len(word) >= _SHORTEST_NEW_ID and f"{home.prefix}-{word}" not in taken:
            return f"{home.prefix}-{word}"
    raise GtError(ErrorCode.LEDGER_CONFLICT, f"no free id for {line.id} was found")


def _worked_on(line: BeadLine) -> bool:
    """A job had it, there; only a person can have a bead without one."""
    by_polecat = "/" in (line.assignee or "")
    return line.status in OF_JOBS or (line.status is BeadStatus.IN_PROGRESS and by_polecat)


def _put_comment(connection: Connection, bead: str, line: BeadLine, told: LineComment) -> None:
    # The Go program numbers comments from one in each of its databases.
    own = (
        told.id
        if len(told.id) == len(new_token())
        else hashlib.sha256(f"{line.id}\x00{told.id}".encode()).hexdigest()[:32]
    )
    comment = Comment(id=own, bead=bead, author=told.author or "unknown", at=told.created_at, text=told.text)
    insert_comment(connection, comment)


def _put_molecule(connection: Connection, bead: str, molecule: LineMolecule) -> None:
    head = {"bead": bead, "template": molecule.template, "created_at": stamp(molecule.created_at)}
    connection.execute(insert(schema.molecules).values(**head))
    for step in molecule.steps:
        row = step.model_dump() | {
            "bead": bead,
            "needs": json.dumps(step.needs),
            "done_at": None if step.done_at is None else stamp(step.done_at),
        }
        connection.execute(insert(schema.steps).values(**row))


def _circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A circle among new beads; older ones need none of these, so it cannot lead through them."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(start, iter(sorted(edges[start])))]
        path.append(start)
        on_path.add(start)
        while stack:
            bead, needs = stack[-1]
            need = next((one for one in needs if one not in done), None)
            if need is None:
                stack.pop()
                path.pop()
                on_path.discard(bead)
                done.add(bead)
            elif need in on_path:
                return [*path[path.index(need) :], need]
            else:
                stack.append((need, iter(sorted(edges.get(need, ())))))
                path.append(need)
                on_path.add(need)
    return None


def _first_repeated(ids: Any) -> str | None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return str(one)
        seen.add(one)
    return None
