"""Whatever ends or stops a job without a merge, and no person asked for, is told to people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import workflows
from models.ledger.records import JobState
from models.mayor.escalations import EscalationStatus
from policies.job.ends import ASKED_FOR, ENDS, End

STOPS = {JobState.BLOCKED, JobState.ABANDONED, JobState.CLOSED}


@pytest.mark.parametrize("end", End)
def test_every_way_to_end_without_a_merge_is_in_the_table(end: End) -> None:
    assert ENDS[end].state in STOPS


@pytest.mark.parametrize("end", sorted(set(End) - ASKED_FOR - {End.NOTHING_TO_DO}))
def test_what_no_person_asked_for_is_escalated(end: End) -> None:
    assert ENDS[end].asks


@pytest.mark.parametrize("end", sorted(ASKED_FOR | {End.NOTHING_TO_DO}))
def test_what_a_person_asked_for_or_what_is_done_asks_nobody(end: End) -> None:
    assert not ENDS[end].asks
    assert ENDS[end].state.final


def test_no_workflow_stops_a_job_without_the_table() -> None:
    """They enter those states by `ENDS[...].state` alone."""
    names = "|".join(f"JobState.{state.name}" for state in STOPS)
    enters = re.compile(rf"enter\(\s*({names})")
    root = Path(workflows.__file__).parent
    assert [path.name for path in root.rglob("*.py") if enters.search(path.read_text())] == []


@pytest.mark.parametrize("end", sorted(set(End) - ASKED_FOR - {End.NOTHING_TO_DO}))
def test_every_question_names_the_command_that_answers_it(end: End) -> None:
    ruling = ENDS[end]
    asked = EscalationStatus(
        id="sh-1.2.x", severity=ruling.severity.value, kind=ruling.asks, source="polecat/shop/sh-1", bead="sh-1",
        rig="shop", opened_at=datetime(2026, 1, 1, tzinfo=UTC), acked=False, message="?",
    )  # fmt: skip
    over = ruling.state.final
    assert asked.answer == ("gt sling sh-1 shop" if over else "gt escalate resolve sh-1.2.x --action retry")
