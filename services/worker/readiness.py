"""How a worker shows that it lives: a file that says who it is, touched every few seconds."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from services.supervisor.guard import tenant
from services.supervisor.processes import Birth, read_record, write_record
from services.supervisor.programs import WORKER, lock_path
from services.town import Town

BEAT_S = 2.0
SILENT_AFTER_S = 15.0
"""A worker whose event loop has not touched its file for this long is not healthy."""


class WorkerReady(Birth):
    """Written when every poller of the worker was seen by the server."""

    identity: str


def ready_path(town: Town) -> Path:
    return town.paths.run / "worker.ready.json"


def announce(town: Town, identity: str) -> None:
    """Say that this process's worker is ready."""
    born = Birth.of(os.getpid())
    assert born is not None, "this process exists"
    write_record(ready_path(town), WorkerReady(pid=born.pid, started=born.started, identity=identity))


def beat(town: Town) -> None:
    """Touch the file of a worker that announced itself."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(ready_path(town))


def retract(town: Town) -> None:
    """A worker that ends in good order leaves nothing for its successor to clear up."""
    ready_path(town).unlink(missing_ok=True)


def last_worker(town: Town) -> WorkerReady | None:
    """The worker that announced itself last, alive or not."""
    return read_record(ready_path(town), WorkerReady)


def silence_s(town: Town) -> float:
    """Seconds since the last beat."""
    try:
        return max(0.0, time.time() - ready_path(town).stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def worker_ailment(town: Town) -> str | None:
    """None when this machine's worker does its work, else what is wrong in a few words."""
    holder = tenant(lock_path(town, WORKER))
    ready = last_worker(town)
    if holder is None or not holder.lives():
        return "does not run"
    if ready is None or ready.pid != holder.pid or not ready.lives():
        return "does not poll yet"
    silent_s = silence_s(town)
    if silent_s > SILENT_AFTER_S:
        return f"has been silent for {silent_s:.0f} s"
    return None
