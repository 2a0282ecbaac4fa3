"""Whether what landed is still there: on a bead's own target, or where that went on to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.comparing import disagreements
from models.records import BeadStatus, JobRow, JobState
from models.verification import BeadFact, BranchFacts, ProblemKind, RecordFacts, RemoteFacts, TemporalFacts

SHA = "a" * 40


def remote(own: tuple[str, ...] = (), **others: tuple[str, ...]) -> dict[str, RemoteFacts]:
    """The rig's `main` and other branches; each commit is work of sh-1."""

    def facts(name: str, shas: tuple[str, ...]) -> BranchFacts:
        return BranchFacts(target=name, shas=frozenset(shas), landed={"sh-1": shas} if shas else {})

    of = {name: facts(name, shas) for name, shas in others.items()}
    return {"shop": RemoteFacts(**dict(facts("main", own)), others=of)}


def found(target: str | None, status: BeadStatus, remotes: dict[str, RemoteFacts]) -> list[tuple[ProblemKind, str]]:
    merged = status is BeadStatus.CLOSED
    fact = BeadFact(
        rig="shop",
        status=status,
        close_reason="merged" if merged else None,
        merged_sha=SHA if merged else None,
        target=target,
    )
    record = RecordFacts(beads={"sh-1": fact}, jobs={}, landings={}, polecats=(), queued=(), dangling=())
    return [(problem.kind, problem.message.rpartition(" on ")[2]) for problem in disagreements(record, remotes, None)]


@pytest.mark.parametrize(
    ("target", "remotes"),
    [
        (None, remote((SHA,))),
        ("main", remote((SHA,))),
        ("next", remote(next=(SHA,))),
        ("next", remote((SHA,), next=())),
        ("next", remote((SHA,))),
        ("next", remote(("b" * 40,))),
    ],
    ids=["own branch", "named so", "on its target", "went on", "went on, target gone", "went on rewritten"],
)
def test_what_landed_is_there(target: str | None, remotes: dict[str, RemoteFacts]) -> None:
    assert found(target, BeadStatus.CLOSED, remotes) == []


@pytest.mark.parametrize(
    ("target", "remotes", "missing_on"),
    [
        (None, remote(next=(SHA,)), "main"),
        (None, remote(("b" * 40,)), "main"),
        ("next", remote(next=("b" * 40,)), "next"),
        ("next", remote(), "next"),
    ],
    ids=["only elsewhere", "only other work", "rewound", "gone"],
)
def test_what_landed_is_missed(target: str | None, remotes: dict[str, RemoteFacts], missing_on: str) -> None:
    assert found(target, BeadStatus.CLOSED, remotes) == [(ProblemKind.CLOSED_NOT_LANDED, missing_on)]


def test_an_open_bead_is_landed_where_it_was_to_land_and_nowhere_else() -> None:
    landed = remote(next=(SHA,))
    assert found("next", BeadStatus.OPEN, landed) == [(ProblemKind.LANDED_BUT_OPEN, "next is its work")]
    assert found(None, BeadStatus.OPEN, landed) == []
    assert found("next", BeadStatus.OPEN, remote((SHA,), next=())) == []


def test_a_job_that_waits_for_room_has_no_workflow_and_that_is_right() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fact = BeadFact(rig="shop", status=BeadStatus.HOOKED, close_reason=None, merged_sha=None, target=None)

    def problems(workflow_id: str) -> list[ProblemKind]:
        job = JobRow(
            bead="sh-1", rig="shop", workflow_id=workflow_id, state=JobState.WAITING, attempt=0, sequence=1,
            started_at=now, updated_at=now,
        )  # fmt: skip
        record = RecordFacts(beads={"sh-1": fact}, jobs={"sh-1": job}, landings={}, polecats=(), queued=(), dangling=())
        return [each.kind for each in disagreements(record, {}, TemporalFacts(jobs=frozenset(), queues={}))]

    assert problems("dispatch/shop") == []
    assert problems("polecat/shop/sh-1") == [ProblemKind.HOOKED_WITHOUT_JOB]
