"""What quiet polecats cost a whole town: history of each cycle, then processor and memory at the default interval."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from temporalio.client import Client

from benchmarks.sling import sling_all
from models import names
from models.settings import HealthSettings
from services.supervision import service_states
from services.temporal import connect
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown

INTERVAL_S = 5
CYCLES = 10
POLECATS = (1, 50, 200)
SECONDS = 120.0
IDLE = "exec sleep 100000"
WAIT_S = 240.0


class Count(NamedTuple):
    """Of one workflow: events of its run, and cycles in its life."""

    run_id: str | None
    events: int
    cycles: int


def measure(seconds: float = SECONDS, polecats: tuple[int, ...] = POLECATS) -> dict[str, Any]:
    """By number of idle polecats: events a cycle (the same, whatever the interval is), and what `seconds` cost."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
        town = QuickTown(Path(folder))
        town.init()
        try:
            town.run("gt", "up")
            town.configure({"session.done_grace": 0})
            town.add_rig("--max-polecats", str(max(polecats)))
            return {f"{number} polecats": _with(town, number, seconds) for number in polecats}
        finally:
            town.close()


def _with(town: QuickTown, polecats: int, seconds: float) -> dict[str, Any]:
    fresh = [town.bead("idle") for _ in range(polecats - len(town.sessions()))]
    sling_all(town.town, [(bead, IDLE) for bead in fresh])
    wait_until(f"{polecats} sessions", lambda: len(town.sessions()) == polecats, WAIT_S)
    town.configure({"health.check_interval": INTERVAL_S})
    events = _events(town)
    town.configure({"health.check_interval": HealthSettings().check_interval})
    _counts_at(town, {role: count.cycles + 2 for role, count in asyncio.run(_counts(town)).items()})
    return {"events a cycle": events, **_cost(town, seconds)}


def _cost(town: QuickTown, seconds: float) -> dict[str, Any]:
    """Processor in percent of one core, with all that a process started, and resident memory in MB."""
    pids = {state.name: state.pid for state in service_states(town.town) if state.pid} | {
        "tmux server": town.tmux_pid()
    }
    before = {name: _spent(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    cpu = {name: round(100 * (_spent(pid) - before[name]) / took, 1) for name, pid in pids.items()}
    memory = {name: round(sum(one.memory_info().rss for one in _tree(pid)) / 1e6) for name, pid in pids.items()}
    load = round(os.getloadavg()[0], 1)
    return {"cpu_percent": cpu | {"together": round(sum(cpu.values()), 1)}, "memory_mb": memory, "load": load}


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    # The agents are the tmux server's children, and theirs is no cost of watching.
    return [root] if root.name().startswith("tmux") else [root, *root.children(recursive=True)]


def _spent(pid: int) -> float:
    """Seconds of the living, and of those that they have waited for."""
    return sum(sum(one.cpu_times()[:4]) for one in _tree(pid))


def _events(town: QuickTown) -> dict[str, float]:
    """Of one cycle, by role."""
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
