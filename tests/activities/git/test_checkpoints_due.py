"""When unfinished work is saved, and that nothing ends the saving."""

from __future__ import annotations

import threading
import time

import pytest

from activities.git.worktree.checkpoints import Checkpointer
from models.job.checkpoints import CheckpointOrder
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.checkpoint_bench import WIP, Bench
from tests.activities.sessions.desk import eventually
from tests.activities.workshop import Workshop


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> Bench:
    return Bench(town_paths, rig, workshop)


def test_once_an_interval_and_again_soon_after_a_failure(bench: Bench) -> None:
    now = time.time()
    clock = [now]
    checkpointer = Checkpointer(bench.saver, clock=lambda: clock[0])
    bench.write("half.txt", "half\n")
    checkpointer.save_due(bench.order)
    assert bench.workshop.at_remote(WIP) is None, "the attempt has just begun"
    remote = bench.workshop.remote
    remote.rename(remote.with_name("away"))
    clock[0] = now + 601
    checkpointer.save_due(bench.order)
    remote.with_name("away").rename(remote)
    clock[0] += 30
    checkpointer.save_due(bench.order)
    assert bench.workshop.at_remote(WIP) is None
    clock[0] += 31
    checkpointer.save_due(bench.order)
    assert bench.workshop.at_remote(WIP)


def test_a_clock_that_was_set_back_does_not_stop_it(bench: Bench) -> None:
    bench.write("half.txt", "half\n")
    Checkpointer(bench.saver, clock=lambda: 1_000_000.0).save_due(bench.order)
    assert bench.workshop.at_remote(WIP)


def test_following_an_order_returns_at_once_and_saves_in_a_thread_of_its_own(bench: Bench) -> None:
    checkpointer = Checkpointer(bench.saver, tick_s=0.05)
    bench.write("half.txt", "half\n")
    order = bench.order.model_copy(update={"interval_s": 0.1})
    held = bench.worktrees._changing(bench.rig, "toast", "sh-1")
    with held:
        checkpointer.follow(order)  # one that saved here would wait for the lock that is held
        checkpointer.follow(order)
    eventually(lambda: bench.workshop.at_remote(WIP))
    # The thread outlives the test: it must find nothing more to do.
    checkpointer._orders.clear()


def test_a_worktree_in_a_state_that_nobody_thought_of_stops_no_save_of_another(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write("half.txt", "half\n")
    (bench.begin(1, polecat="nux", bead="sh-2") / ".git" / "HEAD").write_bytes(b"\xff\xfe is no text")
    bench.begin(1, polecat="slit", bead="sh-3")
    note = bench.paths.worktree_side("shop", "slit") / "owner.json"
    note.write_text('{"bead": 3, "target": "main", "attempt": 1}')
    checkpointer = Checkpointer(bench.saver, clock=lambda: time.time() + 1_000)
    checkpointer.save_due(bench.order)
    assert bench.workshop.at_remote(WIP)
    assert [one.getMessage() for one in caplog.records] == ["work in progress of shop/slit"]
    checkpointer.save_due(bench.order)
    assert len(caplog.records) == 1, "it is tried again, and told of, a minute later"


def test_whatever_fails_does_not_end_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = Checkpointer(bench.saver, tick_s=0.01)
    tried: list[str] = []

    def fails(order: CheckpointOrder) -> None:
        tried.append(order.rig.name)
        raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(checkpointer, "save_due", fails)
    checkpointer.follow(bench.order)
    eventually(lambda: len(tried) > 2)
    checkpointer._orders.clear()


def test_a_thread_that_has_ended_all_the_same_is_begun_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = Checkpointer(bench.saver, tick_s=0.01)
    begun: list[threading.Thread] = []
    monkeypatch.setattr(checkpointer, "_run", lambda: begun.append(threading.current_thread()))
    checkpointer.follow(bench.order)
    eventually(lambda: begun and not begun[0].is_alive())
    checkpointer.follow(bench.order)
    eventually(lambda: len(begun) == 2)
