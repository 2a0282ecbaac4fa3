"""What the Mayor decides alone: the table, and that nothing is tried for ever without a person."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.errors import Level
from models.mayor.alerts import AlertType, Priority
from models.settings import RecoverySettings
from policies.mayor.decisions import (
    ANOTHER_POLECAT,
    FREE_TEXT,
    PATIENCE,
    Move,
    Past,
    Report,
    alert_type,
    decide,
    severity_floor,
    subject_of,
)

SETTINGS = RecoverySettings()
ONCE = {move: Past(moves={move: 1}) for move in Move}
NEVER = Past()


def report(kind: str, level: Level = Level.L3, *, job: bool = False, critical: bool = False, tried: str = "") -> Report:
    severity = Priority.CRITICAL if critical else Priority.HIGH
    return Report(kind=kind, level=level, severity=severity, has_job=job, tried=tried)


@pytest.mark.parametrize(
    ("told", "past", "move", "told_at_once"),
    [
        (report("help", Level.L2, job=True), NEVER, Move.ASK, True),
        (report("escalation", Level.L2), NEVER, Move.ASK, True),
        (report("dolt_down", Level.L4), NEVER, Move.ASK, True),
        (report("polecat_exhausted", Level.L1, job=True), NEVER, Move.RETRY, False),
        (report("help", Level.L1, job=True), NEVER, Move.RETRY, False),
        (report("polecat_exhausted", Level.L1, job=True), Past(moves={Move.RETRY: 3}), Move.ASK, True),
        (report("refinery_stalled", Level.L1), NEVER, Move.WAIT, False),
        (report("refinery_stalled", Level.L1), ONCE[Move.WAIT], Move.ASK, True),
        (report("polecat_exhausted", Level.L2, job=True), NEVER, Move.REASSIGN, False),
        (report("polecat_unresponsive", Level.L2, job=True), NEVER, Move.REASSIGN, False),
        (report("polecat_exhausted", Level.L2, job=True), ONCE[Move.REASSIGN], Move.ASK, True),
        (
            report("polecat_exhausted", Level.L2, job=True, tried=f"3 restarts, {ANOTHER_POLECAT}"),
            NEVER,
            Move.ASK,
            True,
        ),
        (report("polecat_exhausted", Level.L3, job=True), NEVER, Move.ASK, True),
        (report("polecat_stuck", Level.L2, job=True), NEVER, Move.ASK, True),
        (report("merge_failed", Level.L2, job=True), NEVER, Move.ASK, True),
        (report("job_ended", Level.L2, job=True), NEVER, Move.ASK, True),
        (report("dolt_down"), NEVER, Move.RESTART_SERVICE, True),
        (report("dolt_down"), ONCE[Move.RESTART_SERVICE], Move.ASK, True),
        (report("disk_full"), NEVER, Move.ASK, True),
        (report("disk_full", critical=True), NEVER, Move.PAUSE_RIG, True),
        (report("gate_broken"), NEVER, Move.ASK, True),
        (report("witness_down"), NEVER, Move.ASK, True),
        (report("deacon_down"), NEVER, Move.ASK, True),
        (report("host_lost"), NEVER, Move.ASK, True),
        (report("backup_failed"), NEVER, Move.ASK, True),
        (report("polecat_zombie", Level.L2), NEVER, Move.ASK, True),
        (report("a kind of a later version"), NEVER, Move.ASK, True),
    ],
)
def test_the_first_row_that_fits_decides(told: Report, past: Past, move: Move, told_at_once: bool) -> None:
    ruling = decide(told, past, SETTINGS)
    assert (ruling.move, ruling.tell) == (move, told_at_once), ruling.rule


def test_retries_come_later_each_time_up_to_the_longest_delay() -> None:
    told = report("polecat_exhausted", Level.L1, job=True)
    settings = RecoverySettings(max_retries=8)
    delays = [decide(told, Past(moves={Move.RETRY: count}), settings).after.total_seconds() for count in range(8)]
    assert delays == [30, 60, 120, 240, 480, 600, 600, 600]


def test_what_may_end_by_itself_gets_a_while() -> None:
    assert decide(report("refinery_stalled", Level.L1), NEVER, SETTINGS).after == PATIENCE


reports = st.builds(
    Report,
    kind=st.sampled_from([*(kind.value for kind in AlertType), "help"]),
    level=st.sampled_from(list(Level)),
    severity=st.sampled_from(list(Priority)),
    has_job=st.booleans(),
    tried=st.sampled_from(["", ANOTHER_POLECAT]),
)


@example(
    Report(kind="disk_full", level=Level.L1, severity=Priority.CRITICAL, has_job=True), RecoverySettings(max_retries=0)
)
@given(reports, st.builds(RecoverySettings, max_retries=st.integers(0, 100), retry_delay=st.integers(0, 3600)))
def test_a_fault_that_comes_back_reaches_a_person_whatever_was_tried(told: Report, settings: RecoverySettings) -> None:
    moves: dict[Move, int] = {}
    for _ in range(settings.max_retries + len(Move)):
        ruling = decide(told, Past(moves=moves), settings)
        assert timedelta(0) <= ruling.after <= timedelta(seconds=max(settings.max_delay, PATIENCE.total_seconds()))
        if ruling.tell:
            return
        assert told.level not in {Level.L3, Level.L4}, "people hear of a system's fault at once"
        moves[ruling.move] = moves.get(ruling.move, 0) + 1
    raise AssertionError(f"nobody ever hears of {told}")


@pytest.mark.parametrize(
    ("kind", "bead", "rig", "subject", "by_workflow", "about"),
    [
        ("polecat_exhausted", "sh-1", "shop", "", True, "sh-1"),
        ("refinery_stalled", "sh-1", "shop", "", True, "shop"),
        ("witness_down", None, "shop", "", True, "shop"),
        ("host_lost", None, None, "h1", True, "h1"),
        ("dolt_down", None, None, "", True, "town"),
        ("deacon_down", None, "shop", "", True, "town"),
        ("backup_failed", None, None, "", True, "e1"),
        ("help", "sh-1", "shop", "", True, "sh-1"),
        ("help", "sh-1", "shop", "", False, "e1"),
    ],
)
def test_two_tellings_of_one_kind_and_subject_are_one_fault_but_a_person_s_words_stand_alone(
    kind: str, bead: str | None, rig: str | None, subject: str, by_workflow: bool, about: str
) -> None:
    assert subject_of("e1", kind, subject, bead, rig, by_workflow) == about


def test_each_kind_is_told_under_a_type() -> None:
    assert {alert_type(kind.value) for kind in AlertType} == set(AlertType)
    assert {alert_type(kind) for kind in FREE_TEXT} == {AlertType.ESCALATION}


def test_a_disaster_is_critical_whatever_it_was_called() -> None:
    assert severity_floor(Level.L4, Priority.LOW) is Priority.CRITICAL
    assert severity_floor(Level.L3, Priority.LOW) is Priority.LOW
