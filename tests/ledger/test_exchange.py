"""Beads out as JSON lines and in again, on both engines; and what the Go program `bd` exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.exchange import BeadLine, ImportReport, read_line, write_line
from models.ledger.records import BeadChanges, BeadStatus, BeadType
from tests.ledger.records import SHA, a_bead, a_merge, a_rig, a_write
from tests.ledger.test_molecules import a_plan

GO = {
    "id": "bd-a3f8.1",
    "title": "Port the parser",
    "description": "It is slow.",
    "design": "Use a table.",
    "acceptance_criteria": "10x",
    "notes": "see 😀",
    "status": "open",
    "priority": 1,
    "issue_type": "decision",
    "estimated_minutes": 90,
    "external_ref": "gh-9",
    "created_at": "2025-11-24T10:00:00.123456789-08:00",
    "updated_at": "2025-11-25T10:00:00Z",
    "labels": ["parser", "perf"],
    "dependencies": [
        {"issue_id": "bd-a3f8.1", "depends_on_id": "bd-b", "type": "blocks", "created_at": "2025-11-24T10:00:00Z"},
        {"issue_id": "bd-a3f8.1", "depends_on_id": "bd-a3f8", "type": "parent-child"},
        {"issue_id": "bd-a3f8.1", "depends_on_id": "bd-gone", "type": "blocks"},
    ],
    "comments": [
        {"id": 1, "issue_id": "bd-a3f8.1", "author": "ada", "text": "ok", "created_at": "2025-11-24T10:00:00Z"}
    ],
}


def lines(*told: dict[str, Any]) -> list[BeadLine]:
    read = [read_line(json.dumps(one)) for one in told]
    return [line for line in read if line is not None]


def go(id: str, **changes: Any) -> dict[str, Any]:
    return {"id": id, "title": id, "created_at": "2025-11-24T10:00:00Z", "status": "open", "priority": 2} | changes


def failure_of(action: Callable[[], object]) -> GtError:
    with pytest.raises(GtError) as failure:
        action()
    return failure.value


def fill(ledger: Ledger) -> None:
    first = a_bead(ledger, "Naïve \\ '😀'", description="a\nb\u202e", priority=0, type=BeadType.BUG, labels=("ui", "ö"))
    second = a_bead(ledger, "second", dependencies=(first.id,))
    market = a_bead(ledger, "market", rig="market", dependencies=(second.id, first.id))
    ledger.add_comment(first.id, "ada", "one\n\n😀")
    ledger.add_comment(first.id, "bob", "two")
    ledger.record_job([a_write(first.id, 1, 1), a_merge(first.id, 1, 2)])
    ledger.update_bead(second.id, BeadChanges(assignee="ada", status=BeadStatus.IN_PROGRESS))
    ledger.close_bead(market.id, "wontfix")
    molecule = ledger.create_molecule("shop", a_plan())
    ledger.mark_step(molecule.bead, "build", done=True, by="ada")
    deferred = a_bead(ledger, "later", target="release/1.x", integrates="next", integrates_sha="a" * 40)
    ledger.update_bead(deferred.id, BeadChanges(status=BeadStatus.DEFERRED))


def exported(ledger: Ledger) -> list[str]:
    return [write_line(line) for line in ledger.export_beads()]


def test_a_round_trip_loses_nothing(ledger: Ledger, open_ledger: Callable[[str], Ledger], tmp_path: Path) -> None:
    fill(ledger)
    told = exported(ledger)
    other = open_ledger(f"doltlite:///{tmp_path / 'other.doltlite'}")
    for rig in ledger.rigs():
        other.add_rig(rig)
    report = other.import_beads([line for line in map(read_line, told) if line is not None])
    assert len(report.created) == len(told) == 5
    assert exported(other) == told
    assert other.beads() == ledger.beads()
    assert other.molecules() == ledger.molecules()
    assert [other.comments(bead.id) for bead in other.beads()] == [ledger.comments(bead.id) for bead in ledger.beads()]


def test_importing_again_changes_nothing(ledger: Ledger) -> None:
    fill(ledger)
    before = exported(ledger)
    report = ledger.import_beads([line for line in map(read_line, before) if line is not None])
    assert (report.created, len(report.known), report.renamed) == ((), 5, {})
    assert exported(ledger) == before


def test_what_the_go_program_exports_is_read_and_kept(ledger: Ledger) -> None:
    ledger.add_rig(a_rig(prefix="bd"))
    report = ledger.import_beads(lines(GO, go("bd-b"), go("bd-a3f8", issue_type="epic")), "shop")
    made = report.renamed["bd-a3f8.1"]
    assert report == ImportReport(
        created=(made, "bd-b", "bd-a3f8"), renamed={"bd-a3f8.1": made}, kept_aside=(f"{made} needs bd-gone",)
    )
    bead = ledger.bead(made)
    assert (bead.origin, bead.title, bead.priority, bead.type) == ("bd-a3f8.1", "Port the parser", 1, BeadType.TASK)
    assert bead.description == (
        "It is slow.\n\n## Design\n\nUse a table.\n\n## Acceptance criteria\n\n10x\n\n## Notes\n\nsee 😀"
    )
    assert (bead.labels, bead.dependencies) == (("parser", "perf"), ("bd-b",))
    assert bead.created_at.isoformat() == "2025-11-24T18:00:00.123456+00:00"
    assert [(comment.author, comment.text) for comment in ledger.comments(made)] == [("ada", "ok")]
    assert {ready.id for ready in ledger.ready()} == {"bd-a3f8", "bd-b"}
    (line,) = [line for line in ledger.export_beads() if line.id == made]
    assert line.rest["estimated_minutes"] == 90
    assert line.rest["external_ref"] == "gh-9"
    assert line.rest["original"] == {"issue_type": "decision"}
    assert {(edge.depends_on_id, edge.type) for edge in line.dependencies} == {
        ("bd-b", "blocks"),
        ("bd-a3f8", "parent-child"),
        ("bd-gone", "blocks"),
    }


def test_an_import_into_a_rig_of_another_prefix_is_found_again(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    told = lines(go("bd-1", dependencies=[{"issue_id": "bd-1", "depends_on_id": "bd-2", "type": "blocks"}]), go("bd-2"))
    first = ledger.import_beads(told, "shop")
    assert all(bead.startswith("sh-") for bead in first.created)
    assert ledger.bead(first.renamed["bd-1"]).dependencies == (first.renamed["bd-2"],)
    again = ledger.import_beads(told, "shop")
    assert (again.created, set(again.known)) == ((), set(first.created))
    assert again.renamed == first.renamed
    late = ledger.import_beads(
        lines(go("bd-3", dependencies=[{"issue_id": "bd-3", "depends_on_id": "bd-1", "type": "blocks"}])), "shop"
    )
    assert late.kept_aside == (f"{late.created[0]} needs bd-1",)
    assert len(ledger.beads()) == 3


def test_a_taken_id_is_not_taken_twice(ledger: Ledger) -> None:
    taken = a_bead(ledger, rig="shop")
    ledger.add_rig(a_rig("market", prefix="ma"))
    report = ledger.import_beads(lines(go(taken.id)), "market")
    assert report.renamed[taken.id].startswith("ma-")
    assert ledger.bead(taken.id) == taken


def test_what_a_job_had_elsewhere_is_open_here(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    told = lines(
        go("sh-1", status="hooked"),
        go("sh-2", status="in_progress", assignee="shop/toast"),
        go("sh-3", status="in_progress", assignee="ada"),
        go("sh-4", status="closed", close_reason="merged", merged_sha=SHA),
        go("sh-5", status="pinned"),
    )
    report = ledger.import_beads(told)
    assert report.reopened == ("sh-1", "sh-2")
    beads = {bead.id: bead for bead in ledger.beads()}
    assert [beads[f"sh-{n}"].status.value for n in range(1, 6)] == ["open", "open", "in_progress", "closed", "open"]
    assert [beads[f"sh-{n}"].assignee for n in range(1, 4)] == [None, None, "ada"]
    assert (beads["sh-4"].merged_sha, beads["sh-4"].closed_at) == (SHA, beads["sh-4"].updated_at)


def test_a_dry_run_says_what_would_be_and_changes_nothing(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    report = ledger.import_beads(lines(go("sh-1"), go("bd-2")), "shop", dry_run=True)
    assert report.created[0] == "sh-1"
    assert ledger.beads() == []
    assert ledger.import_beads(lines(go("sh-1"), go("bd-2")), "shop") == report


def needs(one: str, *others: str) -> dict[str, Any]:
    return go(one, dependencies=[{"issue_id": one, "depends_on_id": other, "type": "blocks"} for other in others])


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ([needs("sh-1", "sh-2"), needs("sh-2", "sh-3"), needs("sh-3", "sh-1")], ErrorCode.REFUSED, "circle"),
        ([needs("sh-1", "sh-1")], ErrorCode.REFUSED, "sh-1 needs sh-1"),
        ([go("sh-1"), go("sh-1")], ErrorCode.INVALID_VALUE, "twice"),
        ([go("zz-1")], ErrorCode.NOT_FOUND, "no rig"),
    ],
)
def test_what_cannot_be_taken_in_whole_is_not_taken_in_at_all(
    ledger: Ledger, told: list[dict[str, Any]], code: ErrorCode, said: str
) -> None:
    ledger.add_rig(a_rig())
    failure = failure_of(lambda: ledger.import_beads(lines(go("sh-9"), *told)))
    assert (failure.code, said in failure.message) == (code, True)
    assert ledger.beads() == []


def test_an_import_to_a_rig_that_is_not_there_is_refused(ledger: Ledger) -> None:
    assert failure_of(lambda: ledger.import_beads(lines(go("sh-1")), "nowhere")).code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "1",
        "{}",
        '{"id": "sh-1", "title": "x"}',
        '{"id": "sh-1", "title": "x", "created_at": "yesterday"}',
        json.dumps(go("sh-1", title="")),
        json.dumps(go("sh-1", title="x" * 1001)),
        json.dumps(go("sh-1", title="a\x00b")),
        json.dumps(go("sh-1", description="half \ud83d")),
        json.dumps(go("sh-1", priority=7)),
        json.dumps(go("sh-1", priority="high")),
        json.dumps(go("sh-1", labels=["two words"])),
        json.dumps(go("sh-1", labels="ui")),
        json.dumps(go("sh-1", status=3)),
        json.dumps(go("sh-1", comments=[{"id": 1, "text": "x"}])),
        json.dumps(go("")),
    ],
)
def test_a_line_that_is_no_bead_is_refused(text: str) -> None:
    assert failure_of(lambda: read_line(text)).code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "text",
    ["", " \n", json.dumps(go("sh-1", status="tombstone")), json.dumps({"_type": "memory", "key": "a", "value": "b"})],
)
def test_a_line_of_what_is_no_bead_is_passed_over(text: str) -> None:
    assert read_line(text) is None


def test_times_long_ago_are_kept_and_sorted(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    old = ["0001-01-01T00:00:00Z", "1066-10-14T09:00:00Z", "1969-12-31T23:59:59.999999Z"]
    ledger.import_beads(lines(*(go(f"sh-{n}", created_at=at) for n, at in reversed(list(enumerate(old))))))
    assert [bead.id for bead in ledger.beads()] == ["sh-0", "sh-1", "sh-2"]
    assert [bead.created_at.year for bead in ledger.beads()] == [1, 1066, 1969]
    too_old = lines(go("sh-9", created_at="0001-01-01T00:00:00+10:00"))
    assert failure_of(lambda: ledger.import_beads(too_old)).code is ErrorCode.INVALID_VALUE


def test_many_beads_are_one_commit(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    told = [BeadLine.model_validate(go(f"sh-{n:05}", labels=("many",))) for n in range(2500)]
    before = len(ledger.log())
    ledger.import_beads(told)
    assert len(ledger.log()) == before + 1
    assert len(ledger.beads()) == 2500
