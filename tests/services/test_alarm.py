"""The supervisor's alarm in real towns: a worker that keeps dying, one that hangs, channels that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli.work.inbox import _services
from models.mayor.alerts import AlertMirror
from models.settings import AlertSettings
from policies.supervision import alarm as policy
from services.notifications import alarm
from services.notifications.alarm import Alarm
from services.notifications.files import AlertFiles
from services.supervisor import programs
from services.supervisor.client import Supervisor
from services.supervisor.guard import tenant
from services.supervisor.health import ailment
from services.supervisor.programs import ALARM, TEMPORAL, WORKER, lock_path, supervisor_socket
from services.supervisor.up_and_down import down
from services.town import Town
from services.worker import readiness
from tests.pace import DEADLINE_S
from tests.services.conftest import scratch_town, up, wait_until
from tests.sinks import HttpSink, http_sink, smtp_sink


@pytest.fixture
def dying_town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """A town whose worker dies at once until it is healed."""
    monkeypatch.setattr(programs, "WORKER_MODULE", "tests.services.dying_worker")
    with scratch_town("embedded") as town:
        yield town


def log_of(town: Town) -> list[str]:
    """Edges of what was told of the worker: a busy machine's Temporal may be late as well."""
    path = town.paths.alerts_log
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if "worker of" in line]


def of_the_worker(sink: HttpSink) -> list[str]:
    return [title for title in sink.titles() if "worker of" in title]


def pid_of(town: Town, program: str) -> int | None:
    holder = tenant(lock_path(town, program))
    return holder.pid if holder is not None else None


def test_a_worker_that_keeps_dying_is_told_once_through_every_channel_and_its_healing_once(dying_town: Town) -> None:
    files = AlertFiles(dying_town.paths)
    files.refresh_mirror(lambda: AlertMirror(alerts=AlertSettings(quiet_hours="00:00-23:59")))
    with http_sink(refusals=3) as http, smtp_sink() as smtp:
        files.set_channel("hook", http.url)
        files.set_channel("email", smtp.url)
        up(dying_town, wait=False)
        wait_until("both channels", lambda: of_the_worker(http) and smtp.mails)
        assert "CRITICAL host_lost" in smtp.subjects()[0]
        [item] = [one for one in _services(dying_town, set()) if one["id"] == WORKER]
        assert item["severity"] == "critical"

        listener = tenant(lock_path(dying_town, ALARM))
        assert listener is not None
        os.kill(listener.pid, signal.SIGKILL)
        wait_until("another alarm", lambda: pid_of(dying_town, ALARM) not in {None, listener.pid})

        (dying_town.root / "heal").touch()
        wait_until("the worker", lambda: ailment(dying_town, WORKER) is None)
        wait_until("the end on both", lambda: len(of_the_worker(http)) > 1 and len(smtp.mails) > 1)
        assert ["over: host_lost" in title for title in of_the_worker(http)] == [False, True]
        assert log_of(dying_town) == ["start", "end"]
        assert alarm.alarms(dying_town) == []


def test_a_worker_that_hangs_is_told_and_one_that_a_person_has_stopped_is_over(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at from here, with shorter limits than the supervised alarm has."""
    monkeypatch.setattr(policy, "STARTING_S", 2.0)
    monkeypatch.setattr(readiness, "SILENT_AFTER_S", 3.0)
    with http_sink() as http, ThreadPoolExecutor(1) as aside:
        AlertFiles(town.paths).set_channel("hook", http.url)
        up(town)
        worker = tenant(lock_path(town, WORKER))
        assert worker is not None
        # Before anybody looks with these limits, which a worker that is only slow may pass.
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            with looking(town):
                wait_until("the alert", lambda: of_the_worker(http))
                stopped = aside.submit(Supervisor(supervisor_socket(town)).stop, WORKER)
                wait_until("the end", lambda: len(of_the_worker(http)) > 1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)
        stopped.result()
        down(town)
        assert "does not do its work: has been silent" in of_the_worker(http)[0]
        assert log_of(town) == ["start", "end"]


async def test_what_was_told_while_the_log_could_not_be_written_is_logged_once_it_can_be(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "STARTING_S", 0.0)  # nothing runs here
    town.paths.alerts_log.mkdir(parents=True)
    await Alarm(town).look()
    assert {condition.key.partition("@")[0] for condition in alarm.alarms(town)} >= {"service:worker"}
    await Alarm(town).look()
    town.paths.alerts_log.rmdir()
    await Alarm(town).look()
    await Alarm(town).look()
    assert log_of(town) == ["start"]


@contextlib.contextmanager
def looking(town: Town) -> Iterator[Alarm]:
    """Look again and again meanwhile, in this process, and not by the supervised alarm."""
    Supervisor(supervisor_socket(town)).stop(ALARM)

    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        begun.put((asyncio.get_running_loop(), task))
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await watch.look()
                await asyncio.sleep(0.2)

    watch = Alarm(town)
    begun: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    loop, task = begun.get(timeout=DEADLINE_S)
    try:
        yield watch
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def test_a_look_that_hangs_hides_no_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that takes a minute for its message does not either."""
    monkeypatch.setattr(policy, "OUTAGE_S", 1.0)
    monkeypatch.setattr(policy, "STARTING_S", 10 * DEADLINE_S)  # the worker, whose look hangs, is not told of
    hung = threading.Event()
    with http_sink() as http, deaf_server() as deaf:
        AlertFiles(town.paths).set_channel("hook", http.url)
        AlertFiles(town.paths).set_channel("deaf", f"json://127.0.0.1:{deaf}/")
        up(town)
        monkeypatch.setattr(readiness, "worker_ailment", lambda _: str(hung.wait()))
        try:
            with looking(town) as watch:
                # What was never at work is given longer than the test takes.
                wait_until("Temporal to be seen at work", lambda: TEMPORAL in watch._was_well)
                temporal = tenant(lock_path(town, TEMPORAL))
                assert temporal is not None
                os.kill(temporal.pid, signal.SIGSTOP)
                wait_until("the alert", lambda: http.taken)
                os.kill(temporal.pid, signal.SIGCONT)
                wait_until("the end", lambda: len(http.taken) > 1)
        finally:
            hung.set()
        assert ["temporal of" in title for title in http.titles()[:2]] == [True, True]


@contextlib.contextmanager
def deaf_server() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
