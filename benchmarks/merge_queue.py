"""Forty real branches through a real Refinery: `python -m benchmarks.merge_queue`.

A Temporal server, a worker with the real workflows, git and gates, a bare remote. All branches
are submitted to a stopped Refinery, which is then started; the time runs until all are decided.
The gate sleeps two seconds and fails where a bad file is in the tree.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from activities.interceptor import ActivityConduct
from models import names
from models.ledger.records import GateSpec, MergeRequest, Rig
from models.refinery.answers import QueueFacts, QueueFactsRequest, QueueHistory, QueueStats
from models.refinery.messages import BuildChain
from models.settings import MergeQueueSettings, Settings
from models.town import TownPaths
from tests.temporal_server import client_of, dev_server
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.state import RefineryState
from workflows.refinery.workflow import RefineryWorkflow
from workflows.shared.sandbox import workflow_runner

CHANGES = 40
BAD_SHARE = 0.1
GATE_S = 2.0
POLL_S = 0.05
LIMIT_S = 600.0
QUERY_TRIES = 5
HOST = "bench"
CHAIN_LINKS, CHAIN_FILES = 50, 10_000
T = TypeVar("T")
_IDENTITY = ("-c", "user.name=b", "-c", "user.email=b@example.com", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0")


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["git", *_IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True, input=stdin
    )
    return done.stdout.strip()


def make_remote(folder: Path, files: int, branches: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """A bare remote with `files` files on main and a branch for each bead that adds the file named for it.

    Returns:
        its path, and the head of each bead's branch.
    """
    remote = folder / "remote.git"
    git(folder, "init", "-q", "--bare", "-b", "main", str(remote))
    stream = ["commit refs/heads/main\ncommitter b <b@example.com> 1700000000 +0000\ndata 4\nbase"]
    stream += [f"M 100644 inline dir{number % 100}/file{number}\ndata 2\n{number % 10}\n" for number in range(files)]
    for bead, added in branches.items():
        stream.append(
            f"commit refs/heads/{names.job_branch(bead)}\ncommitter b <b@example.com> 1700000000 +0000\n"
            f"data 4\nwork\nfrom refs/heads/main\nM 100644 inline {added}\ndata 2\nx\n"
        )
    git(remote, "fast-import", "--quiet", stdin="\n".join(stream) + "\n")
    return remote, {bead: git(remote, "rev-parse", f"refs/heads/{names.job_branch(bead)}") for bead in branches}


def requests(heads: dict[str, str]) -> list[MergeRequest]:
    now = datetime.now(UTC)
    return [
        MergeRequest(
            id=names.merge_request_id(bead, 1), rig="shop", bead=bead, title=f"Add {bead}", polecat="toast", attempt=1,
            branch=names.job_branch(bead), head_sha=head, target="main", submitted_at=now,
        )
        for bead, head in heads.items()
    ]  # fmt: skip


def shop(remote: Path) -> Rig:
    gate = GateSpec(name="test", command=f"sleep {GATE_S} && ! ls bad-* 2>/dev/null", timeout_s=60)
    return Rig(
        name="shop", url=str(remote), prefix="sh", branch="main", gates=(gate,), created_at=datetime.now(UTC)
    )  # fmt: skip


@dataclass
class Way:
    """How one run merges."""

    bad_share: float
    runners: int
    max_batch: int


async def forty(client: Client, folder: Path, way: Way) -> dict[str, Any]:
    """Merge the branches; seconds, gate runs, and what came of them."""
    source = random.Random(1)
    bad = set(source.sample(range(CHANGES), round(CHANGES * way.bad_share)))
    branches = {f"sh-{n}": f"{'bad' if n in bad else 'good'}-{n}" for n in range(CHANGES)}
    remote, heads = make_remote(folder, 100, branches)
    settings = MergeQueueSettings(max_batch=way.max_batch, max_concurrent=way.runners, retry_delay=1)
    async with working(client, TownPaths(folder / "town"), shop(remote), Settings(merge_queue=settings)):
        refinery = await client.start_workflow(
            RefineryWorkflow.run,
            RefineryState(rig="shop", stopped=True),
            id=names.refinery_id("shop"),
            task_queue=names.TOWN_QUEUE,
        )
        for request in requests(heads):
            await refinery.signal(RefineryWorkflow.submit, request)
        started = time.monotonic()
        await refinery.execute_update(RefineryWorkflow.start)
        stats = await _ask(refinery, "stats", QueueStats)
        while stats.landed + stats.sent_back < CHANGES:
            if time.monotonic() - started > LIMIT_S:
                raise TimeoutError(f"not decided after {LIMIT_S:.0f} s: {stats}")
            await asyncio.sleep(POLL_S)
            stats = await _ask(refinery, "stats", QueueStats)
        took = time.monotonic() - started
        history = await _ask(refinery, "history", QueueHistory)
        await refinery.terminate()
    landed = len([item for item in history.items if item.merged_sha])
    assert landed == CHANGES - len(bad), f"{landed} of {CHANGES - len(bad)} good changes landed"
    # With two runners gates overlap, so what is left over cannot be told.
    overhead = round(1000 * (took - stats.gate_runs * GATE_S) / CHANGES)
    beside = {"beside_gates_ms_a_change": overhead} if way.runners == 1 else {}
    return {
        "p": way.bad_share,
        "runners": way.runners,
        "one_by_one": way.max_batch == 1,
        "seconds": round(took, 1),
        "gate_times": round(took / GATE_S, 1),
        "gate_runs": stats.gate_runs,
        "landed": landed,
        "load": round(os.getloadavg()[0], 1),
        **beside,
    }


async def _ask(refinery: WorkflowHandle[Any, Any], query: str, answer: type[T]) -> T:
    """A query's answer; one that a busy worker does not answer in time is put again."""
    for _ in range(QUERY_TRIES):
        with contextlib.suppress(RPCError):
            found: T = await refinery.query(query, result_type=answer)
            return found
    raise TimeoutError(f"the Refinery left the query {query} without an answer {QUERY_TRIES} times")


@contextlib.asynccontextmanager
async def working(client: Client, paths: TownPaths, rig: Rig, settings: Settings) -> AsyncIterator[None]:
    """A worker with everything that a merge needs; the record is a constant."""

    @activity.defn
    async def queue_facts(asked: QueueFactsRequest) -> QueueFacts:
        return QueueFacts(rig=rig, settings=settings, hosts=(HOST,))

    landing, gates = LandingActivities(paths), GateActivities(paths)
    async with contextlib.AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(8))
        for queue in (names.TOWN_QUEUE, names.host_queue(HOST), names.gates_queue(HOST)):
            worker = Worker(
                client,
                task_queue=queue,
                workflows=[RefineryWorkflow, MergeWorkflow] if queue == names.TOWN_QUEUE else [],
                activities=[queue_facts, landing.build_chain, landing.land_chain, gates.run_gates],
                activity_executor=threads,
                interceptors=[ActivityConduct()],
                workflow_runner=workflow_runner(),
                max_concurrent_activities=os.cpu_count() if queue == names.gates_queue(HOST) else 8,
            )
            await stack.enter_async_context(worker)
        yield


def long_chain(folder: Path, links: int = CHAIN_LINKS) -> dict[str, Any]:
    """Seconds to build a chain of fifty changes in a repository of 10,000 files, in a new clone and again."""
    remote, heads = make_remote(folder, CHAIN_FILES, {f"sh-{n}": f"added-{n}" for n in range(links)})
    order = BuildChain(rig=shop(remote), target="main", changes=tuple(requests(heads)))
    landing = LandingActivities(TownPaths(folder / "town"))
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        chain = landing.build_chain(order)
        seconds.append(round(time.monotonic() - started, 2))
        assert len(chain.links) == links
    return {"links": links, "files": CHAIN_FILES, "new_clone_s": seconds[0], "again_s": seconds[1]}


def every_way() -> list[Way]:
    """With and without bad changes, by one and by two runners, and one by one."""
    largest = MergeQueueSettings().max_batch
    ways = [Way(bad, runners, largest) for bad in (0.0, BAD_SHARE) for runners in (1, 2)]
    return ways + [Way(bad, 1, 1) for bad in (0.0, BAD_SHARE)]


def measure(rounds: int = 1, chain_links: int = CHAIN_LINKS) -> dict[str, Any]:
    """Forty good changes by one and by two runners, `rounds` times each, and the long chain."""
    good = [way for way in every_way() if not way.bad_share and way.max_batch > 1]
    found = run_ways(good * rounds)
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
        chain = long_chain(Path(folder), chain_links)
    times = {
        f"gate_times_p50_{way.runners}_runners": round(
            statistics.median(row["seconds"] for row in found if row["runners"] == way.runners) / GATE_S, 2
        )
        for way in good
    }
    return {"changes": CHANGES, "gate_s": GATE_S, **times, "rows": found, "chain": chain}


def run_ways(ways: list[Way]) -> list[dict[str, Any]]:
    """One row for each, one after the other through one Temporal server."""
    # Their jobs do not run here, which each verdict would be warned of.
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as top:
        server = Path(top, "server")
        server.mkdir()
        rows = []
        with dev_server(server) as port:
            for number, way in enumerate(ways):
                folder = Path(top, f"way{number}")
                folder.mkdir()
                rows.append(asyncio.run(_one(port, folder, way)))
        return rows


async def _one(port: int, folder: Path, way: Way) -> dict[str, Any]:
    return await forty(await client_of(port), folder, way)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge_queue", description=__doc__)
    parser.add_argument("--good-alone", action="store_true", help="without bad changes, in batches")
    good_alone = parser.parse_args().good_alone
    print(json.dumps(measure() if good_alone else run_ways(every_way()), indent=2))


if __name__ == "__main__":
    main()
