"""What quiet polecats cost a whole town: history of each cycle, then processor and memory at the default interval."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, NamedTuple

import psutil
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from benchmarks.machine import load_average
from benchmarks.sling import sling_all
from benchmarks.town import bench_town
from models import names
from models.errors import GtError
from models.settings import HealthSettings
from services.supervisor.up_and_down import service_states
from services.temporal.client import connect
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown

INTERVAL_S = 5
CYCLES = 4
POLECATS = 200
SECONDS = 60.0
IDLE = "exec sleep 100000"
WAIT_S = 600.0


class Count(NamedTuple):
    """Of one workflow: events of its run, and cycles in its life."""

    run_id: str | None
    events: int
    cycles: int


def measure(polecats: int = POLECATS, seconds: float = SECONDS, cycles: int = CYCLES) -> dict[str, Any]:
    """Events a cycle (the same, whatever the interval is), and what `seconds` of watching idle polecats cost."""
    with bench_town(max_polecats=polecats, settings={"session.done_grace": 0}) as town:
        fresh = [town.bead("idle") for _ in range(polecats)]
        sling_all(town.town, [(bead, IDLE) for bead in fresh])
        wait_until(f"{polecats} sessions", lambda: len(town.sessions()) == polecats, WAIT_S)
        town.configure({"health.check_interval": INTERVAL_S})
        events = _events(town, cycles)
        town.configure({"health.check_interval": HealthSettings().check_interval})
        # From the next cycle on the interval is the default one, so that `seconds` hold as many as they shall.
        _counts_at(town, {role: count.cycles + 1 for role, count in _counts_at(town, {}).items()})
        return {"polecats": polecats, "events_a_cycle": events, **_cost(town, seconds)}


def _cost(town: QuickTown, seconds: float) -> dict[str, Any]:
    """Processor in percent of one core, with all that a process started, and resident memory in MB."""
    load = load_average()
    pids = {state.name: state.pid for state in service_states(town.town) if state.pid} | {
        "tmux server": town.tmux_pid()
    }
    before = {name: _spent(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    cpu = {name: round(100 * (_spent(pid) - before[name]) / took, 1) for name, pid in pids.items()}
    memory = {name: round(sum(map(_resident, _tree(pid))) / 1e6) for name, pid in pids.items()}
    return {
        "seconds": round(took, 1),
        "load_before": load,
        "cpu_percent": cpu | {"together": round(sum(cpu.values()), 1)},
        "memory_mb": memory | {"together": sum(memory.values())},
    }


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    # The agents are the tmux server's children, and theirs is no cost of watching.
    return [root] if root.name().startswith("tmux") else [root, *root.children(recursive=True)]


def _spent(pid: int) -> float:
    """Seconds of the living, and of those that they have waited for."""
    return sum(map(_cpu_seconds, _tree(pid)))


def _cpu_seconds(process: psutil.Process) -> float:
    """0 of one that has ended meanwhile: its parent has waited for it and counts its time."""
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _events(town: QuickTown, cycles: int) -> dict[str, float]:
    """Of one cycle, by role."""
    settled = {role: count.cycles + 2 for role, count in _counts_at(town, {}).items()}
    before = _counts_at(town, settled)
    after = _counts_at(town, {role: count.cycles + cycles for role, count in before.items()})
    return {
        role: round((after[role].events - count.events) / (after[role].cycles - count.cycles), 1)
        for role, count in before.items()
        if count.run_id == after[role].run_id
    }


def _counts_at(town: QuickTown, cycles: dict[str, int]) -> dict[str, Count]:
    """The counts once every role has come so far."""
    found: dict[str, Count] = {}

    def far() -> bool:
        try:
            found.update(asyncio.run(_counts(town)))
        except (RPCError, WorkflowQueryFailedError, GtError) as error:
            # With many sessions just started a worker may be too busy to answer in time.
            print(f"asked again: {error}", file=sys.stderr)
            return False
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
