"""Towns of one's own with real servers; whatever a test does, no process outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from models.town import Listen
from services.init_town import create_town
from services.supervisor import programs, up_and_down
from services.supervisor.up_and_down import down
from services.town import Town, load_town
from tests.pace import DEADLINE_S, pause_s
from tests.temporal_server import dev_server

T = TypeVar("T")
STAND_IN = "tests.services.stand_in_worker"

up = functools.partial(up_and_down.up, timeout_s=DEADLINE_S)


def wait_until(what: str, look: Callable[[], T], timeout_s: float = DEADLINE_S) -> T:
    """Poll `look` until it gives something true, and return that; AssertionError after `timeout_s`."""
    begun = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < timeout_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(pause_s(waited))


async def eventually(what: str, look: Callable[[], Awaitable[bool]], timeout_s: float = DEADLINE_S) -> None:
    """Ask `look` until it says True; AssertionError after `timeout_s`."""
    begun = time.monotonic()
    while not await look():
        waited = time.monotonic() - begun
        assert waited < timeout_s, f"waited {timeout_s:.0f} s for {what}"
        await asyncio.sleep(pause_s(waited))


def living(town: Town) -> dict[int, str]:
    """Every process that works in the town's directory: pid and command line."""
    found: dict[int, str] = {}
    for process in psutil.process_iter(["pid", "cwd", "status"]):
        with contextlib.suppress(psutil.Error):
            inside = Path(process.info["cwd"] or "/").is_relative_to(town.root)
            if inside and process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())
    return found


def end_all(town: Town) -> None:
    with contextlib.suppress(Exception):
        down(town)
    for pid in living(town):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until("what was killed to be gone", lambda: not living(town))


def set_listen(town: Town, wanted: Listen) -> Town:
    text = town.paths.config.read_text()
    town.paths.config.write_text(re.sub('listen = "[a-z]+"', f'listen = "{wanted}"', text))
    return load_town(town.root)


@contextlib.contextmanager
def scratch_town(store: str) -> Iterator[Town]:
    """A town that is not up yet, in a short path; its Temporal listens on loopback, whoever has an account here."""
    folder = Path(tempfile.mkdtemp(prefix="gt-"))
    town = set_listen(create_town(folder / "town", store=store).town, Listen.LOOPBACK)
    try:
        yield town
    finally:
        end_all(town)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a Temporal server without a town, shared by a module's tests."""
    with dev_server(tmp_path_factory.mktemp("temporal")) as opened:
        yield opened


@pytest.fixture
def light_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervise a worker that starts fast and has no work of its own."""
    monkeypatch.setattr(programs, "WORKER_MODULE", STAND_IN)


@pytest.fixture
def town(light_worker: None) -> Iterator[Town]:
    """An embedded-ledger town that is not up yet."""
    with scratch_town("embedded") as made:
        yield made


@pytest.fixture(scope="module")
def running_town() -> Iterator[Town]:
    """A town with a Dolt server that is up, shared by a module's tests: each leaves it healthy."""
    with pytest.MonkeyPatch.context() as patch, scratch_town("server") as made:
        patch.setattr(programs, "WORKER_MODULE", STAND_IN)
        up(made)
        yield made
