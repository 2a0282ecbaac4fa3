"""How long commands that read take in a town with many rigs, polecats and beads."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from benchmarks.commands import BIN, median_ms
from benchmarks.machine import load_average
from benchmarks.town import bench_town
from cli.frame.command_client import SOCKET
from models.ledger.exchange import BeadLine
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown
from tests.ledger.records import a_merge, a_rig, a_write


def measure(rigs: int = 20, polecats: int = 200, beads: int = 10_000) -> dict[str, Any]:
    """Milliseconds by command, beside those of Python alone and of `gt --help`; the polecats are idle."""
    with bench_town(max_polecats=10) as town:
        ids = _fill(town, rigs, polecats, beads)
        wait_until("all workflows to answer and commands to be served", lambda: _is_ready(town, rigs))
        asked = [
            *("gt --help", "gt status", f"gt job show {ids[0]}", f"gt refinery queue --rig {_rig(1)}"),
            *("gt escalate list", "gt inbox", "gt polecat list", f"bd show {ids[-1]}"),
            *("bd list --limit 50", "bd ready --limit 50"),
        ]
        load = load_average()
        figures = {"python -c pass": median_ms([sys.executable, "-c", "pass"], town.root, town.env)}
        for line in asked:
            program, *words = line.split()
            figures[line] = median_ms([str(BIN / program), *words], town.root, town.env)
    return {"rigs": rigs, "polecats": polecats, "beads": beads, "load_before": load, "milliseconds": figures}


def _rig(number: int) -> str:
    return f"rig{number:02}"


def _fill(town: QuickTown, rigs: int, polecats: int, beads: int) -> list[str]:
    """Records as if so many polecats had landed a job each; returns the beads' ids."""
    now = datetime.now(UTC)
    ids = [f"q{1 + n % (rigs - 1):02}-{n:05}" for n in range(beads)]
    with town.record() as ledger:
        for number in range(1, rigs):
            ledger.add_rig(a_rig(_rig(number), prefix=f"q{number:02}", url=str(town.remote), gates=()))
        ledger.import_beads(
            [BeadLine(id=bead, title=f"bead {bead}", description="words " * 40, created_at=now) for bead in ids]
        )
        for n, bead in enumerate(ids[:polecats]):
            rig = _rig(1 + n % (rigs - 1))
            of = {"rig": rig, "workflow_id": f"polecat/{rig}/{bead}", "polecat": f"p{n:03}"}
            ledger.record_job([a_write(bead, 1, 1, **of), a_merge(bead, 1, 2, **of)])
    return ids


def _is_ready(town: QuickTown, rigs: int) -> bool:
    if not (town.root / "run" / SOCKET).is_socket():
        return False
    status = town.json("gt", "status", expect=None)
    return bool(status["healthy"]) and len(status["rigs"]) == rigs
