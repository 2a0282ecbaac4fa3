"""Whether what landed is still there: on a bead's own target, or where that went on to."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.verify_rules import disagreements
from models.ledger.exchange import read_line
from models.ledger.records import BeadStatus, JobRow, JobState
from models.upkeep.verification import (
    BeadFact,
    BranchFacts,
    LandingFact,
    Problem,
    ProblemKind,
    RecordFacts,
    RemoteFacts,
    RigFact,
    TemporalFacts,
)

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


# --- from git to the ledger: landings of which no bead knows ---------------------------------------

ADDED = datetime(2026, 1, 1, microsecond=700_000, tzinfo=UTC)
OLD, NEW = "1" * 40, "2" * 40


def unknown(landings: dict[str, str], **facts: Any) -> list[str]:
    """Commits of unknown landings; see `problems_of`."""
    return [problem.detail["sha"] for problem in problems_of(landings, **facts)]


def problems_of(
    landings: dict[str, str],
    *,
    bead: str = "sh-1",
    at: datetime = ADDED + timedelta(hours=1),
    status: BeadStatus | None = None,
    known: tuple[str, ...] = (),
    branch: str = "main",
) -> list[Problem]:
    """Unknown landings.

    Args:
        landings: of the bead on the target: the submitted commit by the landing's.
        status: the ledger's; None: it has no such bead.
        known: landings that the ledger has.
        branch: that they are on.
    """
    there = BranchFacts(
        target=branch,
        shas=frozenset(landings),
        landed={bead: tuple(landings)},
        landings={sha: LandingFact(change=change, at=at) for sha, change in landings.items()},
    )
    if branch == "main":
        facts = RemoteFacts(**dict(there))
    else:
        facts = RemoteFacts(target="main", shas=frozenset(), landed={}, others={branch: there})
    fact = BeadFact(rig="shop", status=status, close_reason="done", merged_sha=None) if status else None
    record = RecordFacts(
        rigs=(RigFact(name="shop", prefix="sh", created_at=ADDED),),
        beads={bead: fact} if fact else {},
        jobs={},
        landings={bead: frozenset(known)},
        polecats=(),
        queued=(),
        dangling=(),
    )
    found = disagreements(record, {"shop": facts}, None)
    return [problem for problem in found if problem.kind is ProblemKind.LANDED_UNKNOWN]


def test_a_landing_of_a_bead_that_the_ledger_has_not_is_found() -> None:
    assert unknown({SHA: NEW}) == [SHA]
    assert unknown({SHA: NEW}, at=ADDED.replace(microsecond=0)) == [SHA], "in the second in which its rig was added"


def test_a_later_landing_of_a_closed_bead_that_the_ledger_does_not_know_is_found() -> None:
    landings = {"b" * 40: NEW, SHA: OLD}
    assert unknown(landings, status=BeadStatus.CLOSED, known=(SHA,)) == ["b" * 40]
    assert unknown(landings, status=BeadStatus.CLOSED, known=(SHA, "b" * 40)) == []


def test_what_to_type_for_an_unknown_landing_takes_it_into_the_ledger() -> None:
    (absent,) = problems_of({SHA: NEW})
    assert "no such bead" in absent.message
    echo, text, *rest = shlex.split(absent.command)
    assert (echo, rest) == ("echo", ["|", "bd", "import", "-"])
    line = read_line(text)
    assert line is not None
    assert (line.id, line.rig, line.status, line.close_reason, line.merged_sha, line.target) == (
        "sh-1", "shop", BeadStatus.CLOSED, "merged", SHA, None,
    )  # fmt: skip
    (elsewhere,) = problems_of({SHA: NEW}, branch="next")
    assert json.loads(shlex.split(elsewhere.command)[1])["target"] == "next"
    (closed,) = problems_of({SHA: NEW}, status=BeadStatus.CLOSED)
    assert closed.command == f"bd reopen sh-1 --reason 'landed as {SHA[:12]}' && bd verify --fix"
    (closed,) = problems_of({SHA: NEW}, status=BeadStatus.CLOSED, branch="next")
    assert " && bd update sh-1 --target next && bd verify --fix" in closed.command


def test_a_copy_of_a_known_landing_is_no_landing_of_its_own() -> None:
    assert unknown({"b" * 40: OLD, SHA: OLD}, status=BeadStatus.CLOSED, known=(SHA,)) == []


def test_what_an_earlier_town_or_another_prefix_has_landed_is_nobody_s() -> None:
    assert unknown({SHA: NEW}, at=ADDED - timedelta(seconds=1)) == []
    assert unknown({SHA: NEW}, bead="till-1") == []


def test_an_open_bead_s_landing_is_told_as_that_alone() -> None:
    assert unknown({SHA: NEW}, status=BeadStatus.OPEN) == []
