"""The lock that keeps two servers out of one directory, and the pace of restarts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.errors import ErrorCode, GtError
from services.locks import locked_within, open_lock, try_exclusive
from services.supervisor import guard
from services.supervisor.processes import Birth, write_record
from tests.pace import DEADLINE_S
from tests.services.conftest import wait_until

GUARD = [sys.executable, "-P", "-m", "services.supervisor.guard"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to end after the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def sleeper(lock: Path, seconds: str = "3600") -> subprocess.Popen[bytes]:
    return subprocess.Popen([*GUARD, "--lock", str(lock), "--", "sleep", seconds])


def runs_sleep(lock: Path, pid: int) -> bool:
    holder = guard.tenant(lock)
    return holder is not None and holder.pid == pid and psutil.Process(pid).name() == "sleep"


def test_the_lock_lives_exactly_as_long_as_the_program(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    lock = tmp_path / "server.lock"
    first = sleeper(lock)
    started.append(first)
    wait_until("the program to run", lambda: runs_sleep(lock, first.pid))
    opened = open_lock(lock)
    assert not locked_within(opened, 0.0)
    first.kill()
    first.wait()
    assert locked_within(opened, DEADLINE_S)
    opened.close()


@pytest.mark.parametrize(
    ("options", "seen"), [((), {"HOME", "API_TOKEN", "HTTPS_PROXY"}), (("--no-secrets",), {"HOME", "HTTPS_PROXY"})]
)
def test_a_program_gets_no_more_of_the_environment_than_it_needs(
    tmp_path: Path, options: tuple[str, ...], seen: set[str]
) -> None:
    given = {"HOME": "/", "API_TOKEN": "t", "HTTPS_PROXY": "http://u:p@proxy", "SUPERVISOR_SERVER_URL": "unix:///s"}
    argv = [*GUARD, "--lock", str(tmp_path / "lock"), *options, "--", "/usr/bin/env"]
    done = subprocess.run(argv, env=given, capture_output=True, text=True, check=True)
    assert {line.partition("=")[0] for line in done.stdout.splitlines()} & set(given) == seen


def test_a_leftover_of_ours_is_ended_before_a_second_server_starts(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    lock = tmp_path / "server.lock"
    leftover = sleeper(lock)
    started.append(leftover)
    wait_until("the leftover to run", lambda: runs_sleep(lock, leftover.pid))
    guard.hold(lock, wait_s=0.1).close()
    leftover.wait(DEADLINE_S)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_lock_that_nobody_can_name_any_more_is_free(tmp_path: Path) -> None:
    """As when Temporal throws into an activity's thread between the opening of a lock and the `try` after it."""
    lock = tmp_path / "some.lock"
    for _ in range(2):
        assert locked_within(open_lock(lock), 0.0)
        assert try_exclusive(lock) is not None


def test_a_holder_that_is_not_known_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    stranger = open_lock(lock)
    assert locked_within(stranger, 0.0)
    me = Birth.of(os.getpid())
    assert me is not None
    write_record(guard.record_path(lock), guard.Tenancy(pid=me.pid, started=me.started - 1000))
    with pytest.raises(GtError) as caught:
        guard.hold(lock, wait_s=0.1)
    stranger.close()
    assert caught.value.code is ErrorCode.REFUSED


def test_a_worker_started_by_hand_does_not_take_the_place_of_a_living_one(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    lock = tmp_path / "worker.lock"
    first = sleeper(lock)
    started.append(first)
    wait_until("the program to run", lambda: runs_sleep(lock, first.pid))
    with pytest.raises(GtError) as caught:
        guard.enter(lock)
    assert str(first.pid) in caught.value.message
    assert first.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_program_dies_with_its_supervisor(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    code = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(3600)"
    supervisor = subprocess.Popen([sys.executable, "-c", code, *GUARD, "--lock", str(lock), "--", "sleep", "3600"])

    def program() -> Birth | None:
        holder = guard.tenant(lock)
        return holder if holder is not None and runs_sleep(lock, holder.pid) else None

    born = wait_until("the program to run", program)
    assert born is not None
    supervisor.kill()
    supervisor.wait()
    wait_until("the program to die", lambda: not born.lives())


def test_a_guard_whose_supervisor_is_another_one_starts_nothing(tmp_path: Path) -> None:
    pid_file = tmp_path / "supervisord.pid"
    pid_file.write_text("1\n")
    argv = [*GUARD, "--lock", str(tmp_path / "l"), "--parent-pid-file", str(pid_file), "--", "touch", "touched"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "supervisor" in done.stderr
    assert not (tmp_path / "touched").exists()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    argv = [*GUARD, "--lock", str(tmp_path / "l"), "--", "no-such-program"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no-such-program is not installed" in done.stderr


def test_restarts_of_a_failing_program_are_paced_but_never_far_apart(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    born = Birth.of(os.getpid())
    assert born is not None
    now = born.started
    delays = [guard.settle_in(lock, now) for _ in range(200)]
    assert delays[:2] == [0.0, 0.0]
    assert delays == sorted(delays)
    assert delays[-1] == guard.MAX_DELAY_S
    holder = guard.tenant(lock)
    assert holder is not None
    assert (holder.starts, holder.unsteady(now)) == (200, True)


def test_a_program_that_was_well_is_restarted_at_once_again(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    for _ in range(20):
        guard.settle_in(lock, time.time())
    assert guard.settle_in(lock, time.time() + 60) == 0.0
    holder = guard.tenant(lock)
    assert holder is not None
    assert holder.failures == 0


def test_a_torn_record_counts_as_none(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    guard.record_path(lock).write_text('{"pid": 12')
    assert guard.tenant(lock) is None
    assert guard.settle_in(lock, time.time()) == 0.0
