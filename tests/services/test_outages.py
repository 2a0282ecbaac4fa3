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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.init_town import create_town
from services.notifications import alarm
from services.notifications.files import AlertFiles
from services.supervisor import programs
from services.supervisor.client import Supervisor
from services.supervisor.guard import tenant
from services.supervisor.health import ailment
from services.supervisor.processes import read_record
from services.supervisor.programs import ALARM, DOLT, TEMPORAL, WORKER, lock_path, supervisor_socket
from services.town import Town
from tests.pace import Pace
from tests.services.conftest import STAND_IN, end_all, up, wait_until
from tests.sinks import HttpSink, http_sink

TOLD_S = 30.0
"""what is promised"""
LOOPS_ALONE = 2.0
"""how many times slower a machine is by the busy loops alone"""
DISK_BYTES = 192_000_000
BUNDLED = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z ")
pytestmark = pytest.mark.timeout(3600)  # some wait several times


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """A loop that never rests for each core: while something is promised in seconds, and no longer."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """A town that is up on a small disk of its own where this user may mount one."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="gt-") as folder:
        patch.setattr(programs, "WORKER_MODULE", STAND_IN)
        with small_disk(Path(folder)):
            made = create_town(Path(folder) / "town", store="server").town
            try:
                up(made)
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


@dataclass
class People:
    """What people learn of a town from now on: its log of alerts, and one channel."""

    town: Town
    channel: HttpSink
    known: int

    def logged(self, words: str) -> list[str]:
        """Edges, in order, of what these words are in the line of."""
        lines = self.town.paths.alerts_log.read_text(encoding="utf-8").splitlines()[self.known :]
        return [line.split()[1] for line in lines if words in line]

    def sent(self, words: str) -> list[str]:
        """The same of every notice that the channel has taken, alone or bundled with others."""
        found: list[str] = []
        for body in self.channel.taken:
            bundled = [line.split("Z ", 1)[1] for line in str(body["message"]).splitlines() if BUNDLED.match(line)]
            found += bundled or [str(body["title"]).split("] ", 1)[1]]
        return ["end" if line.startswith("over:") else "start" for line in found if words in line]

    def hear(self, *words: str, beside: contextlib.AbstractContextManager[None] | None = None) -> None:
        """The log has each in time; that it is sent as well is the matter of a process that has to start first.

        Args:
            beside: what the machine has to do until then.
        """
        pace = Pace()

        def told() -> bool:
            pace.sample()
            return all(self.logged(one) == ["start"] for one in words)

        with beside or contextlib.nullcontext():
            began = time.monotonic()
            wait_until("the outage to be told", told)
        took_s = time.monotonic() - began
        print(f"{words}: told after {took_s:.1f} s; slowness {pace.slowness:.1f}")
        # Beside the busy loops other tests may run.
        assert took_s < TOLD_S * max(1.0, pace.slowness / LOOPS_ALONE)
        wait_until("a message about it", lambda: all(self.sent(one) == ["start"] for one in words))

    def hear_the_end(self, *words: str) -> None:
        """Once, and nothing was told in between."""
        edges = ["start", "end"]
        wait_until("the ends to be told", lambda: all(self.logged(one) == edges for one in words))
        wait_until("a message about each end", lambda: all(self.sent(one) == edges for one in words))


@pytest.fixture
def people(town: Town) -> Iterator[People]:
    """All is well before and afterwards."""
    log = town.paths.alerts_log
    log.touch()
    wait_until("all to be well", lambda: all_is_well(town))
    with http_sink() as channel:
        AlertFiles(town.paths).set_channel("hook", channel.url)
        yield People(town, channel, len(log.read_text(encoding="utf-8").splitlines()))
        wait_until("all to be well", lambda: all_is_well(town))
        AlertFiles(town.paths).remove_channel("hook")


def all_is_well(town: Town) -> bool:
    """Also as the alarm has seen it: what it never saw at work may be starting, for a minute."""
    found, state = alarm.signs(town.paths), read_record(alarm.state_path(town.paths), alarm.AlarmState)
    quiet = found is not None and all(outage.until for outage in found.outages)
    seen = state is not None and {TEMPORAL, DOLT} <= {*state.well}
    return quiet and seen and all(ailment(town, name) is None for name in (TEMPORAL, DOLT, WORKER))


def pid_of(town: Town, name: str) -> int:
    holder = tenant(lock_path(town, name))
    assert holder is not None
    return holder.pid


@contextlib.contextmanager
def stopped(town: Town, name: str) -> Iterator[None]:
    """By a person, through the supervisor; whoever has to tell it starts after that and has never seen it well."""
    supervisor = Supervisor(supervisor_socket(town))
    supervisor.stop(name)
    with contextlib.suppress(ProcessLookupError):  # one that is about to start has seen nothing either
        os.kill(pid_of(town, ALARM), signal.SIGKILL)
    try:
        yield
    finally:
        supervisor.start(name)


@contextlib.contextmanager
def frozen(town: Town, name: str) -> Iterator[None]:
    """Whoever has to tell it starts after that, and knows from the one before it that it was well."""
    pid = pid_of(town, name)
    os.kill(pid, signal.SIGSTOP)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid_of(town, ALARM), signal.SIGKILL)
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


@pytest.mark.parametrize("fault", [stopped, killed_for_good, frozen])
def test_both_servers_that_are_away_are_each_told_within_half_a_minute_and_their_ends_once(
    town: Town, people: People, fault: Fault
) -> None:
    with fault(town, DOLT), fault(town, TEMPORAL):
        # Beside one of them is enough: what looks is the same.
        people.hear("dolt of", "temporal of", beside=busy_machine() if fault is frozen else None)
    people.hear_the_end("dolt of", "temporal of")


def test_a_temporal_whose_database_was_deleted_under_it_is_told_while_it_still_answers(
    town: Town, people: People
) -> None:
    for file in town.paths.data.glob("temporal.db*"):
        file.unlink()
    people.hear("temporal of")
    assert "was deleted" in town.paths.alerts_log.read_text(encoding="utf-8").splitlines()[-1]
    assert ailment(town, TEMPORAL) is None
    os.kill(pid_of(town, TEMPORAL), signal.SIGKILL)
    people.hear_the_end("temporal of")


def test_a_disk_that_fills_is_told_and_so_is_its_last_byte_and_the_room_that_comes_back(
    town: Town, people: People
) -> None:
    """Nothing can be written when the disk is full: no log, no lock, no state of the alarm."""
    usage = os.statvfs(town.root)
    total = usage.f_blocks * usage.f_frsize
    if total > 2 * DISK_BYTES:
        pytest.skip("this user may mount no small disk")
    ballast = town.root / "ballast"
    fill(ballast, int(0.88 * total) - (total - usage.f_bavail * usage.f_frsize))
    people.hear("disk_full")
    fill(ballast, total)
    with pytest.raises(OSError, match="No space left"):
        (town.root / "one-more").write_text("x" * 100_000)
    wait_until("a message that it is full", lambda: people.sent("disk_full") == ["start"] * 2)
    (town.root / "one-more").unlink()
    ballast.unlink()
    wait_until("both ends", lambda: people.sent("disk_full") == ["start"] * 2 + ["end"] * 2)


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
