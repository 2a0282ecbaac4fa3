"""History that a quiet cycle of Witness and Deacon costs, in a whole town: `python -m benchmarks.patrol`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import Client

from benchmarks.sling import sling_all
from models import names
from services.temporal import connect
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown

INTERVAL_S = 5
CYCLES = 10
POLECATS = (1, 10)
IDLE = "exec sleep 100000"
WAIT_S = 120.0


class Count(NamedTuple):
    """Of one workflow: events of its run, and cycles in its life."""

    run_id: str | None
    events: int
    cycles: int


def measure(polecats: tuple[int, ...] = POLECATS) -> dict[str, Any]:
    """Events a cycle of `check_interval`, by number of idle polecats; whatever the interval is, they are the same."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
        town = QuickTown(Path(folder))
        town.init()
        try:
            town.run("gt", "up")
            town.configure({"health.check_interval": INTERVAL_S, "session.done_grace": 0})
            town.add_rig("--max-polecats", str(max(polecats)))
            return {f"{number} polecats": _with(town, number) for number in polecats}
        finally:
            town.close()


def _with(town: QuickTown, polecats: int) -> dict[str, float]:
    fresh = [town.bead("idle") for _ in range(polecats - len(town.sessions()))]
    sling_all(town.town, [(bead, IDLE) for bead in fresh])
    wait_until(f"{polecats} sessions", lambda: len(town.sessions()) == polecats, WAIT_S)
    first = asyncio.run(_counts(town))
    settled = {role: count.cycles + 2 for role, count in first.items()}
    before = _counts_at(town, settled)
    after = _counts_at(town, {role: count.cycles + CYCLES for role, count in before.items()})
    return {
        role: round((after[role].events - count.events) / (after[role].cycles - count.cycles), 1)
        for role, count in before.items()
        if count.run_id == after[role].run_id
    }


def _counts_at(town: QuickTown, cycles: dict[str, int]) -> dict[str, Count]:
    """The counts once every role has come so far."""
    found: dict[str, Count] = {}

    def far() -> bool:
        found.update(asyncio.run(_counts(town)))
        return all(found[role].cycles >= number for role, number in cycles.items())

    wait_until("more cycles", far, WAIT_S)
    return found


async def _counts(town: QuickTown) -> dict[str, Count]:
    client = await connect(town.town)
    witness = await client.get_workflow_handle(names.witness_id("shop")).query("state", result_type=dict[str, Any])
    deacon = await client.get_workflow_handle(names.DEACON_ID).query("status", result_type=dict[str, Any])
    return {
        "witness": await _count(client, names.witness_id("shop"), witness["deacon"]["number"]),
        "deacon": await _count(client, names.DEACON_ID, deacon["cycles"]),
    }


async def _count(client: Client, workflow_id: str, cycles: int) -> Count:
    described = await client.get_workflow_handle(workflow_id).describe()
    return Count(described.run_id, described.history_length, cycles)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
