"""A ledger that hangs, forgets, collects its garbage or has no room: what is said, and that nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from sqlalchemy import Connection, text

from ledger.engine import engines
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.ledger.records import NewBead
from tests.ledger.conftest import DoltServer
from tests.ledger.records import a_bead, a_rig
from tests.pace import DEADLINE_S

OpenLedger = Callable[[str], Ledger]


def test_a_commit_that_the_log_does_not_hold_is_not_acknowledged_but_written_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says yes and forgets cannot be had on demand, so its log is made to miss the first commit."""
    real = ledger._versioning.holds
    answers = iter([False])
    monkeypatch.setattr(
        ledger._versioning, "holds", lambda connection, commit: next(answers, None) is None and real(connection, commit)
    )
    ledger.add_rig(a_rig())
    assert next(answers, None) is None
    assert ledger.rig("shop") == a_rig()


def test_a_ledger_that_forgets_every_commit_is_not_believed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger._versioning, "holds", lambda connection, commit: False)
    ledger.add_rig(a_rig())  # found to be there at the second try
    monkeypatch.setattr("ledger.engine.transactions.CONFLICT_PATIENCE_S", 0.2)
    numbers = iter(range(1000))
    with pytest.raises(GtError) as failure:
        ledger.write(lambda connection: (_write_setting(connection, next(numbers)), "always new"))
    assert failure.value.code is ErrorCode.LEDGER_CONFLICT
    assert failure.value.retryable


def _write_setting(connection: Connection, number: int) -> int:
    row = {"scope": "town", "key": f"k{number}", "value": "1"}
    connection.execute(text("INSERT INTO settings (scope, `key`, value) VALUES (:scope, :key, :value)"), row)
    return number


def stop_wholly(pid: int) -> None:
    """SIGSTOP, and wait until none of its threads runs: a busy machine lets them go on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + DEADLINE_S
    for thread in psutil.Process(pid).threads():
        while psutil.Process(thread.id).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline


def test_a_server_that_hangs_is_unreachable_within_the_time_limit_and_then_goes_on(
    mortal_server: DoltServer, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    bead = a_bead(open_ledger(mortal_server.url("town")))
    monkeypatch.setattr(engines, "STATEMENT_TIMEOUT_S", 1)
    ledger = open_ledger(mortal_server.url("town"))
    assert ledger.bead(bead.id) == bead
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.5)
    stop_wholly(mortal_server.pid)
    try:
        for ask in (lambda: ledger.bead(bead.id), lambda: Ledger.open(mortal_server.url("town"))):
            started = time.monotonic()
            with pytest.raises(GtError) as failure:
                ask()
            assert failure.value.code is ErrorCode.LEDGER_UNREACHABLE
            assert time.monotonic() - started < 20, "what one statement may take as a rule"
    finally:
        os.kill(mortal_server.pid, signal.SIGCONT)
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", DEADLINE_S)
    assert ledger.bead(bead.id) == bead


@pytest.mark.usefixtures("endless_patience")
def test_fifty_writers_share_few_connections_and_lose_nothing(dolt_server: DoltServer, server_url: str) -> None:
    ledger = Ledger.open(server_url)
    ledger.add_rig(a_rig())
    most = 0

    def create(number: int) -> str:
        nonlocal most
        bead = ledger.create_bead(NewBead(rig="shop", title=f"bead {number}")).id
        most = max(most, ledger._engine.pool.checkedout())  # type: ignore[attr-defined]
        return bead

    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(create, range(200)))
    assert {bead.id for bead in ledger.beads()} == set(made)
    assert len(set(made)) == 200
    assert most <= engines.POOL_SIZE + engines.MAX_OVERFLOW
    ledger.close()


def test_a_server_without_a_free_connection_is_said_and_waited_for(
    dolt_server: DoltServer, server_url: str, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger.open(server_url).close()
    monkeypatch.setattr(engines, "STATEMENT_TIMEOUT_S", 1)
    ledger = open_ledger(server_url)
    ledger._engine.dispose()
    with dolt_server.crowded():
        monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", 0.3)
        with pytest.raises(GtError) as failure:
            ledger.ping()
        assert failure.value.code is ErrorCode.LEDGER_UNREACHABLE
    monkeypatch.setattr("ledger.engine.transactions.LOST_PATIENCE_S", DEADLINE_S)
    ledger.ping()


@pytest.mark.usefixtures("endless_patience")
def test_writers_go_on_while_garbage_is_collected_and_lose_nothing(ledger: Ledger, url: str) -> None:
    ledger.add_rig(a_rig())
    made: list[str] = []
    enough = threading.Event()

    def create() -> None:
        own = Ledger.open(url)
        while not enough.is_set():
            made.append(own.create_bead(NewBead(rig="shop", title="made in the storm")).id)
        own.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for rounds in range(1, 5):
        while len(made) < 15 * rounds and all(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        ledger.collect_garbage()
        assert ledger.rig("shop") == a_rig()
    enough.set()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) >= 60
    assert {bead.id for bead in ledger.beads()} == set(made)


def test_collecting_garbage_keeps_rows_and_history(ledger: Ledger) -> None:
    beads = [a_bead(ledger, f"bead {number}", description="x" * 500) for number in range(20)]
    before = [(entry.message, entry.changes) for entry in ledger.bead_history(beads[7].id)]
    ledger.collect_garbage()
    assert ledger.beads() == beads
    assert [(entry.message, entry.changes) for entry in ledger.bead_history(beads[7].id)] == before
