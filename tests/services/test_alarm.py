"""The supervisor's alarm in real towns: a worker that keeps dying, one that hangs, channels that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from cli.inbox import _services
from models.alerts import AlertMirror
from models.settings import AlertSettings
from policies import alarm as policy
from services import alarm, programs, readiness
from services.alarm import Alarm
from services.alert_files import AlertFiles
from services.guard import tenant
from services.health import ailment
from services.programs import ALARM, TEMPORAL, WORKER, lock_path, supervisor_socket
from services.supervision import down, up
from services.supervisor import Supervisor
from services.town import Town
from tests.services.conftest import scratch_town, wait_until
from tests.sinks import http_sink, smtp_sink

DEADLINE_S = 90.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def dying_town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """A town whose worker dies at once until it is healed."""
    monkeypatch.setattr(programs, "WORKER_MODULE", "tests.services.dying_worker")
    with scratch_town("embedded") as town:
        yield town


def log_of(town: Town) -> list[str]:
    path = town.paths.alerts_log
    return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


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
        wait_until("both channels", lambda: http.taken and smtp.mails, DEADLINE_S)
        assert "worker of" in http.titles()[0]
        assert "CRITICAL host_lost" in smtp.subjects()[0]
        [item] = [one for one in _services(dying_town, set()) if one["id"] == WORKER]
        assert item["severity"] == "critical"

        listener = tenant(lock_path(dying_town, ALARM))
        assert listener is not None
        os.kill(listener.pid, signal.SIGKILL)
        wait_until("another alarm", lambda: pid_of(dying_town, ALARM) not in {None, listener.pid})

        (dying_town.root / "heal").touch()
        wait_until("the worker", lambda: ailment(dying_town, WORKER) is None, DEADLINE_S)
        wait_until("the end on both", lambda: len(http.taken) == 2 and len(smtp.mails) == 2, DEADLINE_S)
        assert "over: host_lost" in http.titles()[1]
        assert log_of(dying_town) == ["start", "end"]
        assert alarm.alarms(dying_town) == []


def test_a_worker_that_hangs_is_told_and_one_that_a_person_has_stopped_is_over(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at from here, with shorter limits than the supervised alarm has."""
    monkeypatch.setattr(policy, "STARTING_S", 2.0)
    monkeypatch.setattr(readiness, "SILENT_AFTER_S", 3.0)
    with http_sink() as http:
        AlertFiles(town.paths).set_channel("hook", http.url)
        up(town)
        worker = tenant(lock_path(town, WORKER))
        assert worker is not None
        with looking(town):
            os.kill(worker.pid, signal.SIGSTOP)
            try:
                wait_until("the alert", lambda: http.taken, DEADLINE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGCONT)
            assert "does not do its work: has been silent" in json.dumps(http.taken[0])
            Supervisor(supervisor_socket(town)).stop(WORKER)
            wait_until("the end", lambda: len(http.taken) == 2, DEADLINE_S)
        down(town)
        assert log_of(town) == ["start", "end"]


@contextlib.contextmanager
def looking(town: Town) -> Iterator[None]:
    """Look again and again meanwhile, in this process, and not by the supervised alarm."""
    Supervisor(supervisor_socket(town)).stop(ALARM)

    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append((asyncio.get_running_loop(), task))
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await watch.look()
                await asyncio.sleep(0.2)

    watch = Alarm(town)
    begun = threading.Event()
    ended: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []
    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    begun.wait(10)
    try:
        yield
    finally:
        [(loop, task)] = ended
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)


def test_a_look_that_hangs_hides_no_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that takes a minute for its message does not either."""
    monkeypatch.setattr(policy, "OUTAGE_S", 1.0)
    hung = threading.Event()
    with http_sink() as http, deaf_server() as deaf:
        AlertFiles(town.paths).set_channel("hook", http.url)
        AlertFiles(town.paths).set_channel("deaf", f"json://127.0.0.1:{deaf}/")
        up(town)
        monkeypatch.setattr(readiness, "worker_ailment", lambda _: str(hung.wait(DEADLINE_S)))
        try:
            with looking(town):
                wait_until("a first look", lambda: alarm.signs(town.paths) is not None)
                temporal = tenant(lock_path(town, TEMPORAL))
                assert temporal is not None
                os.kill(temporal.pid, signal.SIGSTOP)
                wait_until("the alert", lambda: http.taken, DEADLINE_S)
                os.kill(temporal.pid, signal.SIGCONT)
                wait_until("the end", lambda: len(http.taken) == 2, DEADLINE_S)
        finally:
            hung.set()
        assert ["temporal of" in title for title in http.titles()] == [True, True]


@contextlib.contextmanager
def deaf_server() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
