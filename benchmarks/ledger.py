"""The ledger on both engines: writes, many writers, whole `bd` commands against many beads, and growth."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import BIN, wall_and_cpu_ms
from ledger.store import Ledger
from models.ledger.exchange import BeadLine
from models.ledger.records import BeadChanges, NewBead
from tests.ledger.conftest import DoltServer
from tests.ledger.records import SHA, a_merge, a_request, a_rig, a_write

WRITES = 200
WRITERS = 50
MANY_BEADS = 10_000
JOBS = 1_000
START_S = 120.0


def measure(seconds: float, jobs: int = JOBS, beads: int = MANY_BEADS) -> dict[str, Any]:
    """Figures by engine.

    Args:
        seconds: how long the many writers write.
        jobs: whose growth is measured; the figure is scaled to 1,000.
        beads: that there are when `bd` commands are measured.
    """
    with tempfile.TemporaryDirectory(prefix="gt-bench-ledger-") as folder:
        return {name: _engine(name, Path(folder) / name, seconds, jobs, beads) for name in ("embedded", "server")}


def _engine(name: str, folder: Path, seconds: float, jobs: int, beads: int) -> dict[str, Any]:
    folder.mkdir()
    with _urls(name, folder) as url:
        return {
            "one_row_write_with_commit_ms": _one_row(url("one")),
            "many_writers": _many_writers(url("many"), seconds),
            "growth_per_1000_jobs_mb": _growth(url("growth"), folder, jobs),
            "beads": beads,
            "commands_ms": _commands(name, folder, beads),
        }


@contextmanager
def _urls(name: str, folder: Path) -> Iterator[Callable[[str], str]]:
    if name == "embedded":
        yield lambda database: f"doltlite:///{folder / database}.doltlite"
        return
    server = DoltServer(folder / "dolt")
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def _quantiles(times_s: list[float]) -> dict[str, float]:
    ordered = sorted(times_s)
    return {
        "p50": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000, 2),
    }


def _one_row(url: str) -> dict[str, float]:
    """One field of one bead, changed, committed and read back."""
    ledger = Ledger.open(url)
    ledger.add_rig(a_rig())
    bead = ledger.create_bead(NewBead(rig="shop", title="x")).id
    times: list[float] = []
    for number in range(WRITES):
        started = time.perf_counter()
        ledger.update_bead(bead, BeadChanges(title=f"title {number}"))
        times.append(time.perf_counter() - started)
    ledger.close()
    return _quantiles(times)


def _many_writers(url: str, seconds: float) -> dict[str, Any]:
    """Writers that create beads over one ledger, as threads of one process do."""
    ledger = Ledger.open(url)
    ledger.add_rig(a_rig())
    told: list[str] = []
    failures: list[str] = []
    runs = 0
    end = time.monotonic() + seconds

    def count(point: str) -> None:
        nonlocal runs
        runs += point == "ledger.before_commit"

    def write() -> None:
        while time.monotonic() < end:
            try:
                told.append(ledger.create_bead(NewBead(rig="shop", title="made under load")).id)
            except Exception as error:
                failures.append(repr(error))

    ledger.announce = count
    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {bead.id for bead in ledger.beads()}
    ledger.close()
    return {
        "writers": WRITERS,
        "seconds": seconds,
        "writes_per_second": round(len(told) / seconds, 1),
        "retries": runs - len(told),
        "failed": len(failures),
        "lost": len(set(told) - stored),
        "doubled": len(told) - len(set(told)) + len(stored - set(told)),
    }


def _growth(url: str, folder: Path, jobs: int) -> dict[str, float]:
    """What jobs add, each with the transitions of one that is merged at once."""
    ledger = Ledger.open(url)
    ledger.add_rig(a_rig())
    before = _megabytes(folder)
    for number in range(jobs):
        bead = ledger.create_bead(
            NewBead(rig="shop", title=f"job {number}", description="what is to be done\n" * 10)
        ).id
        steps = ("hooked", "starting", "working")
        ledger.record_job([a_write(bead, 1, step, event=event) for step, event in enumerate(steps, start=1)])
        submitted = a_write(bead, 1, 4, event="submitted", merge_request=a_request(bead), head_sha=SHA)
        ledger.record_job([submitted, a_merge(bead, 1, 5)])
    grown = _megabytes(folder) - before
    ledger.collect_garbage()
    kept = _megabytes(folder) - before
    ledger.close()
    return {"before_gc": round(grown * 1000 / jobs, 1), "after_gc": round(kept * 1000 / jobs, 1)}


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _commands(name: str, folder: Path, beads: int) -> dict[str, dict[str, float]]:
    """Whole `bd` processes in a town with many beads."""
    from services.init_town import create_town

    town = create_town(folder / "town", "bench", name).town
    served = None
    if name == "server":
        served = subprocess.Popen([sys.executable, "-P", "-m", "services.dolt", "--town", str(town.root)])
    try:
        ledger = _patiently(lambda: Ledger.open(town.ledger_url()))
        ledger.add_rig(a_rig())
        at = datetime.now(UTC)
        ledger.import_beads(
            [
                BeadLine(id=f"sh-{n:05}", title=f"bead {n}", description="words " * 40, created_at=at)
                for n in range(beads)
            ]
        )
        ledger.close()
        figures = {}
        for words in (
            ("create", "new", "--rig", "shop"),
            ("show", f"sh-{beads // 2:05}"),
            ("list", "--limit", "50"),
            ("ready", "--limit", "50"),
            ("search", "bead 77"),
        ):
            argv = [str(BIN / "bd"), *words, "--town", str(town.root)]
            name = "bd show" if words[0] == "show" else " ".join(["bd", *words[:3]])
            figures[name] = wall_and_cpu_ms(argv, folder, {"PATH": "/usr/bin:/bin"})
        return figures
    finally:
        if served is not None:
            served.terminate()
            served.wait()


def _patiently(action: Callable[[], Ledger]) -> Ledger:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return action()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
