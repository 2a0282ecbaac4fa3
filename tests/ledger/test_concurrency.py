"""Many threads and processes at once, kills in the middle: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from activities.crash_points import crash_point
from ledger.engine import schema
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.records import BeadChanges, BeadStatus, NewBead
from tests.ledger.conftest import ROOT, DoltServer
from tests.ledger.records import a_bead, a_merge, a_rig, a_write
from tests.pace import DEADLINE_S

WRITERS = 8


@pytest.fixture
def url(new_url: str) -> str:
    """A ledger of the test's own: what a killed writer had asked for may still come."""
    return new_url


def run_writer(url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("writer.py")), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    assert process.stdin is not None
    process.stdin.write(url + "\n")
    process.stdin.flush()
    return process


def acknowledged(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return out.split()


def pymysql_connection(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    parts = make_url(url)
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.database,
    )


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Run the actions in threads that start together; failures are returned like results."""
    gate = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> object:
        gate.wait()
        try:
            return action()
        except GtError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


@pytest.mark.usefixtures("endless_patience")
def test_ids_are_unique_when_many_threads_create_beads_from_few_words(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = iter(["aaa", "aab"] * 100)
    lock = threading.Lock()

    def word(length: int) -> str:
        with lock:
            return next(words) + "0" * (length - 3)

    monkeypatch.setattr("ledger.beads.beads.random_word", word)
    ledger.add_rig(a_rig())
    made = at_once(*[lambda: ledger.create_bead(NewBead(rig="shop", title="x")).id] * WRITERS)
    assert len(set(made)) == WRITERS
    assert {bead.id for bead in ledger.beads()} == set(made)


def test_ids_are_unique_across_processes_and_each_acknowledged_bead_is_there(ledger: Ledger, url: str) -> None:
    ledger.add_rig(a_rig())
    processes = [run_writer(url, "create", "15") for _ in range(4)]
    made = [bead for process in processes for bead in acknowledged(process)]
    assert len(made) == len(set(made)) == 60
    assert {bead.id for bead in ledger.beads()} == set(made)


@pytest.mark.usefixtures("endless_patience")
def test_eight_jobs_write_at_once_and_every_event_is_there_once(ledger: Ledger) -> None:
    beads = [a_bead(ledger, f"bead {number}").id for number in range(WRITERS)]

    def job(bead: str) -> Callable[[], None]:
        def run() -> None:
            for sequence in range(1, 11):
                ledger.record_job([a_write(bead, 1, sequence, polecat=f"p-{bead[3:]}")])
            ledger.record_job([a_merge(bead, 1, 11)])

        return run

    assert at_once(*(job(bead) for bead in beads)) == [None] * WRITERS
    for bead in beads:
        assert [event.sequence for event in ledger.job_events(bead)] == list(range(1, 12))
        assert ledger.bead(bead).close_reason == "merged"
        assert len([entry for entry in ledger.bead_history(bead) if "merged" in entry.message]) == 1


def test_the_same_writes_from_four_processes_are_recorded_once(ledger: Ledger, url: str) -> None:
    bead = a_bead(ledger).id
    processes = [run_writer(url, "work", bead, "12") for _ in range(4)]
    for process in processes:
        assert acknowledged(process) == [str(sequence) for sequence in range(1, 13)]
    job = ledger.job(bead)
    assert job is not None
    assert (job.sequence, job.restarts) == (12, 12)
    messages = [entry.message for entry in ledger.bead_history(bead)]
    assert messages == [f"{bead}: created (Fix the login page)"] + [f"{bead}: attempt started (attempt 1)"] * 12


@pytest.mark.document("2: 临时锁冲突")
def test_the_same_write_committed_at_the_same_moment_is_one_commit(
    server_url: str, open_ledger: Callable[[str], Ledger]
) -> None:
    one, two = open_ledger(server_url), open_ledger(server_url)
    bead = a_bead(one).id
    both_wrote = threading.Barrier(2)

    def meet(met: list[str]) -> Callable[[str], None]:
        def announce(point: str) -> None:
            if point == "ledger.before_commit" and not met:
                met.append(point)
                both_wrote.wait(timeout=DEADLINE_S)

        return announce

    for ledger in (one, two):
        ledger.announce = meet([])
    write = a_write(bead, 1, 1)
    assert at_once(lambda: one.record_job([write]), lambda: two.record_job([write])) == [None, None]
    one.announce = None
    assert [event.sequence for event in one.job_events(bead)] == [1]
    with pymysql_connection(server_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT message FROM dolt_log")
        messages = [row[0] for row in cursor.fetchall()]
    assert messages.count(f"{bead}: attempt started (attempt 1)") == 1


def test_a_bead_whose_commit_was_not_answered_is_not_created_twice(ledger: Ledger) -> None:
    ledger.add_rig(a_rig())
    lost: list[str] = []

    def lose_the_answer_once(point: str) -> None:
        if point == "ledger.committed" and not lost:
            lost.append(point)
            raise DBAPIError("COMMIT", {}, pymysql.OperationalError(2013, "Lost connection"))

    ledger.announce = lose_the_answer_once
    bead = ledger.create_bead(NewBead(rig="shop", title="x"))
    assert lost
    assert ledger.beads() == [bead]


def test_two_edges_at_once_never_close_a_circle(ledger: Ledger) -> None:
    for _ in range(5):
        one, two = a_bead(ledger).id, a_bead(ledger).id
        results = at_once(
            lambda one=one, two=two: ledger.add_dependency(one, two),  # type: ignore[misc]
            lambda one=one, two=two: ledger.add_dependency(two, one),  # type: ignore[misc]
        )
        assert sorted(type(result).__name__ for result in results) == ["GtError", "NoneType"]
        assert len(ledger.bead(one).dependencies + ledger.bead(two).dependencies) == 1


def test_two_rigs_at_once_never_share_a_prefix(ledger: Ledger) -> None:
    results = at_once(
        lambda: ledger.add_rig(a_rig("shop")),
        lambda: ledger.add_rig(a_rig("shed", prefix="sh")),
    )
    assert [type(result).__name__ for result in results].count("GtError") == 1
    assert len(ledger.rigs()) == 1


def test_a_close_by_hand_and_a_starting_job_do_not_both_win(ledger: Ledger) -> None:
    for _ in range(5):
        bead = a_bead(ledger).id
        at_once(
            lambda bead=bead: ledger.close_bead(bead, "wontfix"),  # type: ignore[misc]
            lambda bead=bead: ledger.record_job([a_write(bead, 1, 1)]),  # type: ignore[misc]
        )
        stored = ledger.bead(bead)
        closed_first = stored.status is BeadStatus.CLOSED
        assert (stored.close_reason == "wontfix") is closed_first
        assert (stored.assignee is None) is closed_first


def test_different_fields_changed_at_once_are_all_kept(ledger: Ledger) -> None:
    bead = a_bead(ledger).id
    at_once(
        lambda: ledger.update_bead(bead, BeadChanges(title="New words")),
        lambda: ledger.update_bead(bead, BeadChanges(priority=0)),
        lambda: ledger.update_bead(bead, BeadChanges(assignee="ada")),
        lambda: ledger.record_job([a_write(bead, 1, 1, polecat=None)]),
    )
    stored = ledger.bead(bead)
    assert (stored.title, stored.priority, stored.assignee) == ("New words", 0, "ada")
    assert stored.status is BeadStatus.IN_PROGRESS


def test_many_processes_may_open_a_new_ledger_at_once(url: str, open_ledger: Callable[[str], Ledger]) -> None:
    results = at_once(*[lambda: open_ledger(url).schema_version()] * 4)
    assert results == [schema.SCHEMA_VERSION] * 4


@pytest.mark.parametrize(("point", "recorded"), [("ledger.before_commit", 0), ("ledger.committed", 1)])
def test_a_writer_killed_around_its_commit_leaves_all_or_nothing_and_its_retry_finishes(
    ledger: Ledger, url: str, tmp_path: Path, point: str, recorded: int
) -> None:
    bead = a_bead(ledger).id
    armed = {"GT_CRASH_POINT": point, "GT_CRASH_MARK": str(tmp_path / "mark")}
    killed = run_writer(url, "work", bead, "3", **armed)
    killed.communicate(timeout=DEADLINE_S)
    assert killed.returncode == -9
    assert [event.sequence for event in ledger.job_events(bead)] == list(range(1, recorded + 1))
    assert len(ledger.bead_history(bead)) == 1 + recorded
    again = run_writer(url, "work", bead, "3", **armed)
    assert acknowledged(again) == ["1", "2", "3"]
    assert [event.sequence for event in ledger.job_events(bead)] == [1, 2, 3]
    assert len(ledger.bead_history(bead)) == 4


def test_writers_killed_at_any_moment_lose_nothing_that_was_acknowledged(ledger: Ledger, url: str) -> None:
    bead = a_bead(ledger).id
    for acknowledged_lines in (1, 3, 6):
        process = run_writer(url, "work", bead, "100000")
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(acknowledged_lines)]
        process.kill()
        rest, _ = process.communicate(timeout=DEADLINE_S)
        told += rest.split()
        sequences = [event.sequence for event in ledger.job_events(bead)]
        job = ledger.job(bead)
        assert job is not None
        assert sequences == list(range(1, job.sequence + 1))
        assert job.sequence >= int(told[-1])
        assert len(ledger.bead_history(bead)) == 1 + job.sequence


@pytest.mark.usefixtures("endless_patience")
def test_a_server_killed_and_restarted_in_the_middle_loses_and_doubles_nothing(
    mortal_server: DoltServer, open_ledger: Callable[[str], Ledger]
) -> None:
    ledger = open_ledger(mortal_server.url("town"))
    beads = [a_bead(ledger, f"bead {number}").id for number in range(4)]
    made: list[str] = []
    halfway = threading.Barrier(len(beads) + 2)

    def job(bead: str) -> Callable[[], None]:
        def run() -> None:
            for sequence in range(1, 41):
                if sequence == 15:
                    halfway.wait()
                ledger.record_job([a_write(bead, 1, sequence, polecat=f"p-{bead[3:]}")])

        return run

    def create() -> None:
        for number in range(30):
            if number == 10:
                halfway.wait()
            made.append(ledger.create_bead(NewBead(rig="shop", title="created in the storm")).id)

    def crash() -> None:
        halfway.wait()
        for _ in range(2):
            mortal_server.kill()
            mortal_server.start()

    results = at_once(*(job(bead) for bead in beads), create, crash)
    assert results == [None] * len(results)
    for bead in beads:
        assert [event.sequence for event in ledger.job_events(bead)] == list(range(1, 41))
    stormy = [bead.id for bead in ledger.beads() if bead.title == "created in the storm"]
    assert sorted(stormy) == sorted(made)
    assert len(stormy) == 30


def test_a_server_that_stays_away_is_unreachable_and_back_when_it_returns(
    mortal_server: DoltServer, open_ledger: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.3)
    ledger = open_ledger(mortal_server.url("town"))
    mortal_server.kill()
    for ask in (ledger.ping, lambda: ledger.add_rig(a_rig()), lambda: Ledger.open(mortal_server.url("town"))):
        with pytest.raises(GtError) as failure:
            ask()
        assert (failure.value.code, failure.value.hint) == (ErrorCode.LEDGER_UNREACHABLE, "gt up")
        assert mortal_server.password not in failure.value.message
    mortal_server.start()
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", DEADLINE_S)
    ledger.ping()
    assert ledger.add_rig(a_rig()) == a_rig()


def test_the_crash_points_of_the_ledger_are_announced_in_order(ledger: Ledger) -> None:
    seen: list[str] = []
    bead = a_bead(ledger).id

    def announce(point: str) -> None:
        crash_point(point)
        seen.append(point)

    ledger.announce = announce
    ledger.record_job([a_write(bead, 1, 1)])
    assert seen == ["ledger.before_commit", "ledger.committed"]
