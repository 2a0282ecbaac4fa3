"""An outage is told within half a minute, and its end once, by a town whose machine has more to do than it can."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services import alarm, programs
from services.alert_files import AlertFiles
from services.founding import create_town
from services.guard import tenant
from services.health import ailment
from services.programs import DOLT, TEMPORAL, WORKER, lock_path, supervisor_socket
from services.supervision import up
from services.supervisor import Supervisor
from services.town import Town
from tests.services.conftest import STAND_IN, end_all, wait_until
from tests.sinks import HttpSink, http_sink

TOLD_S = 30.0
"""what is promised"""
BACK_S = 90.0
"""for a server to start again and be seen well"""
DISK_BYTES = 192_000_000
BUNDLED = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z ")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def busy_machine() -> Iterator[None]:
    """A loop that never rests for each core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture(scope="module")
def town(busy_machine: None) -> Iterator[Town]:
    """A town that is up on a small disk of its own where this user may mount one."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="gt-") as folder:
        patch.setattr(programs, "WORKER_MODULE", STAND_IN)
        with small_disk(Path(folder)):
            made = create_town(Path(folder) / "town", store="server").town
            try:
                up(made, timeout_s=180.0)
                yield made
            finally:
                end_all(made)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def sink(town: Town) -> Iterator[HttpSink]:
    """What people are sent while all was well before, and is afterwards."""
    for name in (TEMPORAL, DOLT, WORKER):
        wait_until(f"{name} to be well", lambda name=name: ailment(town, name) is None, BACK_S)  # type: ignore[misc]
    wait_until("the alarm to have nothing to say", lambda: all_is_well(town), BACK_S)
    with http_sink() as http:
        AlertFiles(town.paths).set_channel("hook", http.url)
        yield http
        wait_until("the alarm to have nothing to say", lambda: all_is_well(town), BACK_S)
        AlertFiles(town.paths).remove_channel("hook")


def all_is_well(town: Town) -> bool:
    found = alarm.signs(town.paths)
    return found is not None and all(outage.until for outage in found.outages)


def pid_of(town: Town, name: str) -> int:
    holder = tenant(lock_path(town, name))
    assert holder is not None
    return holder.pid


def headlines(sink: HttpSink) -> list[str]:
    """Of every notice that people were sent, alone or bundled with others."""
    found: list[str] = []
    for body in sink.taken:
        bundled = [line.split("Z ", 1)[1] for line in str(body["message"]).splitlines() if BUNDLED.match(line)]
        found += bundled or [str(body["title"]).split("] ", 1)[1]]
    return found


def told_in_time(sink: HttpSink, *words: str) -> None:
    wait_until("the outage to be told", lambda: headlines(sink), TOLD_S)
    assert all(word in headlines(sink)[0] for word in words), headlines(sink)


def over(sink: HttpSink, *words: str) -> None:
    """Its end is told too, and nothing else ever was."""
    wait_until("its end to be told", lambda: len(headlines(sink)) >= 2, BACK_S)
    assert all(word in headlines(sink)[1] for word in ("over:", *words)), headlines(sink)
    assert len(headlines(sink)) == 2, headlines(sink)


@contextlib.contextmanager
def stopped(town: Town, name: str) -> Iterator[None]:
    """By a person, through the supervisor."""
    supervisor = Supervisor(supervisor_socket(town))
    supervisor.stop(name)
    try:
        yield
    finally:
        supervisor.start(name)


@contextlib.contextmanager
def frozen(town: Town, name: str) -> Iterator[None]:
    pid = pid_of(town, name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def killed_for_good(town: Town, name: str) -> Iterator[None]:
    """As soon as it has started, whenever it is started."""
    enough = threading.Event()

    def kill() -> None:
        while not enough.wait(0.05):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid_of(town, name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        enough.set()
        killer.join()


Fault = Callable[[Town, str], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("fault", [stopped, killed_for_good])
@pytest.mark.parametrize(("name", "type"), [(DOLT, "dolt_down"), (TEMPORAL, "host_lost")])
def test_a_server_that_is_away_is_told_within_half_a_minute_and_its_end_once(
    town: Town, sink: HttpSink, name: str, type: str, fault: Fault
) -> None:
    with fault(town, name):
        told_in_time(sink, f"CRITICAL {type}", f"{name} of")
    over(sink, type)


def test_a_temporal_whose_database_was_deleted_under_it_is_told_while_it_still_answers(
    town: Town, sink: HttpSink
) -> None:
    for file in town.paths.data.glob("temporal.db*"):
        file.unlink()
    told_in_time(sink, "CRITICAL host_lost", "temporal of", "was deleted")
    assert ailment(town, TEMPORAL) is None
    os.kill(pid_of(town, TEMPORAL), signal.SIGKILL)
    over(sink, "host_lost")


def test_both_servers_that_hang_at_once_are_each_told_in_time(town: Town, sink: HttpSink) -> None:
    with frozen(town, DOLT), frozen(town, TEMPORAL):
        wait_until("both to be told", lambda: len(headlines(sink)) == 2, TOLD_S)
    wait_until("both ends", lambda: len(headlines(sink)) == 4, BACK_S)
    edges = [("over:" in line, DOLT in line) for line in headlines(sink)]
    assert sorted(edges) == [(False, False), (False, True), (True, False), (True, True)]


def test_a_disk_that_fills_is_told_and_so_is_its_last_byte_and_the_room_that_comes_back(
    town: Town, sink: HttpSink
) -> None:
    """Nothing can be written when the disk is full: no log, no lock, no state of the alarm."""
    usage = os.statvfs(town.root)
    if usage.f_blocks * usage.f_frsize > 2 * DISK_BYTES:
        pytest.skip("a small disk cannot be mounted by this user")
    ballast = town.root / "ballast"
    total = usage.f_blocks * usage.f_frsize
    used = total - usage.f_bavail * usage.f_frsize
    fill(ballast, int(0.88 * total) - used)
    told_in_time(sink, "HIGH disk_full")
    fill(ballast, total)
    wait_until(
        "the full disk to be told", lambda: any("CRITICAL disk_full" in line for line in headlines(sink)), TOLD_S
    )
    with pytest.raises(OSError, match="No space left"):
        (town.root / "one-more").write_text("x" * 100_000)
    (town.root / "one-more").unlink()
    ballast.unlink()
    wait_until("both ends", lambda: sum("over: disk_full" in line for line in headlines(sink)) == 2, BACK_S)
    assert sum("disk_full" in line for line in headlines(sink)) == 4, headlines(sink)


def fill(file: Path, size: int) -> None:
    """Make `file` that large, or as large as there is room."""
    with file.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.tell() < size:
            stream.write(bytes(min(1_000_000, size - stream.tell())))
        return
    # The last pages: a write of many bytes that does not fit may leave some free.
    with file.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)
