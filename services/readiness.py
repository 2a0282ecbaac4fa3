"""How a worker shows that it lives: a file that says who it is, touched every few seconds."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from services.processes import Birth, read_record, write_record
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
