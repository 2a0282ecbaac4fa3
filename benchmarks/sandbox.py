"""What the lines of docs/security.md cost: a sandbox's start, jobs in it, a call through Temporal's socket."""

from __future__ import annotations

import asyncio
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

from activities.sessions.agent_network import make_proxy_folder, proxy_folder, proxy_line, relay_words
from benchmarks.jobs import through_the_town
from benchmarks.machine import load_average
from benchmarks.town import bench_town
from models.settings import SandboxSettings
from models.town import Listen, TownPaths
from services.sandbox import base_plan, in_sandbox, with_paths
from services.temporal.client import connect
from services.town import Town


def measure(starts: int, beads: int, rounds: int, calls: int) -> dict[str, Any]:
    """Each figure beside the same without the protection, by turns: a load that comes or goes is in both."""
    return {
        "load_before": load_average(),
        "start_ms": _starts(starts),
        "jobs": _jobs(beads, rounds),
        "call_ms": _calls(calls),
    }


def _starts(times: int) -> dict[str, Any]:
    """Milliseconds from a command's start to its end: bare, in an agent's sandbox, and there with a list of hosts."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-", ignore_cleanup_errors=True) as folder:
        ways = _ways(Path(folder))
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(times + 1):
            for name, (argv, environment) in ways.items():
                began = time.perf_counter()
                subprocess.run(argv, env=environment, check=True, capture_output=True)
                took[name].append((time.perf_counter() - began) * 1000)
    return {
        name: {"p50": round(statistics.median(values[1:]), 1), "shortest": round(min(values[1:]), 1)}
        for name, values in took.items()
    }


def _ways(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    settings, environment, hosts = SandboxSettings(), dict(os.environ), ["api.anthropic.com"]
    paths, record = TownPaths(folder / "town"), folder / "record"
    for made in (work := folder / "work", paths.root):
        made.mkdir(parents=True)
    make_proxy_folder(record)
    search = environment["PATH"]
    plan = base_plan(paths, settings, search, "true", work, Path.home(), network=True)
    words, inside = in_sandbox("bwrap", plan, settings, environment)
    alone = base_plan(paths, settings, search, "true", work, Path.home(), network=False)
    listed, inside_alone = in_sandbox("bwrap", with_paths(alone, read=[proxy_folder(record)]), settings, environment)
    line = proxy_line(record, hosts) + shlex.join(["exec", *listed, *relay_words(record, hosts), "true"])
    return {
        "bare": (["true"], environment),
        "sandbox": ([*words, "true"], inside),
        "sandbox_with_a_list_of_hosts": (["sh", "-c", line], inside_alone),
    }


def _jobs(beads: int, rounds: int) -> dict[str, Any]:
    """Landed jobs a minute with the sandbox and without, in one town."""
    found: dict[str, list[float]] = {"auto": [], "none": []}
    with bench_town(max_polecats=beads) as town:
        for number in range(rounds):
            for mode in ("auto", "none") if number % 2 else ("none", "auto"):
                town.configure({"sandbox.mode": mode})
                found[mode].append(through_the_town(town, beads)["jobs_per_minute"])
    medians = {mode: statistics.median(values) for mode, values in found.items()}
    share = round(100 * (1 - medians["auto"] / medians["none"]), 1)
    return {
        "beads": beads,
        "per_minute_in_the_sandbox": found["auto"],
        "without": found["none"],
        "fewer_percent": share,
    }


def _calls(times: int) -> dict[str, Any]:
    """Milliseconds of the smallest call to Temporal, behind its socket and on loopback (p50)."""
    asked: dict[str, list[float]] = {"socket": [], "loopback": []}
    with (
        bench_town(max_polecats=1, listen=Listen.SOCKET) as closed,
        bench_town(max_polecats=1, listen=Listen.LOOPBACK) as open_,
    ):
        asyncio.run(_ask({"socket": closed.town, "loopback": open_.town}, times, asked))
    return {name: round(statistics.median(values), 2) for name, values in asked.items()}


async def _ask(towns: dict[str, Town], times: int, asked: dict[str, list[float]]) -> None:
    clients = {name: await connect(town) for name, town in towns.items()}
    for _ in range(times):
        for name, client in clients.items():
            began = time.perf_counter()
            await client.workflow_service.get_system_info(GetSystemInfoRequest())
            asked[name].append((time.perf_counter() - began) * 1000)
