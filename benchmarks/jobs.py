"""Landed jobs a minute through a whole town, beside the bare git and tmux work of the same jobs."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.cost import JobCost
from benchmarks.machine import load_average
from benchmarks.sling import sling_all
from benchmarks.town import bench_town
from models.ledger.records import JobState
from tests.e2e.living_town import git, landings, shell_agent
from tests.e2e.quick_town import QuickTown

POLL_S = 0.25
LIMIT_S = 600.0


def measure(beads: int) -> dict[str, Any]:
    """Run `beads` jobs whose agent commits at once; figures in jobs a minute and seconds by phase.

    The bare loop runs before and after the town, so that a load that comes or goes is in both halves of the ratio.
    """
    before_s = bare_loop(beads)
    with bench_town(max_polecats=beads) as town:
        figures = through_the_town(town, beads)
    bare_s = (before_s + bare_loop(beads)) / 2
    ratio = round(figures["seconds"] / bare_s, 2)
    return {"beads": beads, "ratio_to_bare_loop": ratio, "bare_loop_seconds": round(bare_s, 2), **figures}


def through_the_town(town: QuickTown, beads: int) -> dict[str, Any]:
    """Sling so many beads at once to a running town, and wait until all have landed."""
    ids = [town.bead(f"job {n}") for n in range(beads)]
    load, cost = load_average(), JobCost(town.town)
    started = time.monotonic()
    sling_all(town.town, [(bead, shell_agent(file=f"{bead}.py")) for bead in ids])
    with town.record() as ledger:
        while len([job for job in ledger.jobs("shop") if job.state is JobState.MERGED and job.bead in ids]) < beads:
            if time.monotonic() - started > LIMIT_S:
                states = Counter(job.state.value for job in ledger.jobs("shop"))
                raise TimeoutError(f"the {beads} jobs did not all land in {LIMIT_S} s: {dict(states)}")
            time.sleep(POLL_S)
        took = time.monotonic() - started
        stories = [ledger.job_events(bead) for bead in ids]
    landed = landings(town.remote)
    wrong = {bead: landed.get(bead, []) for bead in ids if len(landed.get(bead, [])) != 1}
    if wrong:
        raise RuntimeError(f"not landed exactly once: {wrong}")
    return {
        "jobs_per_minute": round(60 * beads / took, 1),
        "seconds": round(took, 2),
        "load_before": load,
        **cost.figures(beads),
        "seconds_by_phase_p50": _phases(stories),
        "milliseconds_of_commands_in_that_town": commands.measure_talking(town.root, town.env, ids[0]),
    }


def _phases(stories: list[Any]) -> dict[str, float]:
    """Median time between one event of a job and the next, by the name of the later."""
    gaps: dict[str, list[float]] = {}
    for events in stories:
        times: list[tuple[str, datetime]] = [(event.event, event.at) for event in events]
        for (_, earlier), (name, later) in pairwise(times):
            gaps.setdefault(name, []).append((later - earlier).total_seconds())
    return {name: round(statistics.median(values), 2) for name, values in gaps.items()}


def bare_loop(jobs: int) -> float:
    """The same git and tmux work, one job after another, without a town: seconds for all."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
        return _bare_loop(Path(folder), jobs)


def _bare_loop(work: Path, jobs: int) -> float:
    remote, clone, socket = work / "remote.git", work / "clone.git", f"gt-bench-{time.time_ns()}"
    git(work, "init", "-q", "--bare", "-b", "main", str(remote))
    git(work, "clone", "-q", "--bare", str(remote), str(clone))
    seed = work / "seed"
    git(work, "clone", "-q", str(remote), str(seed))
    git(seed, "commit", "-q", "--allow-empty", "-m", "first")
    git(seed, "push", "-q", "origin", "HEAD:main")
    try:
        # As in a town, the server outlives a job's session: it remembers a signal that nobody waits for yet.
        _tmux(socket, "-f", "/dev/null", "new-session", "-d", "-s", "stays", "exec sleep 100000")
        started = time.monotonic()
        for number in range(jobs):
            _bare_job(work, remote, clone, socket, number)
        return time.monotonic() - started
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True, check=False)


def _bare_job(work: Path, remote: Path, clone: Path, socket: str, number: int) -> None:
    tree = work / f"tree{number}"
    git(clone, "fetch", "-q", str(remote), "+main:main")
    git(clone, "worktree", "add", "-q", "-b", f"job{number}", str(tree), "main")
    agent = shell_agent(file=f"f{number}.py", after=f"tmux -L {socket} wait-for -S job{number}")
    _tmux(socket, "new-session", "-d", "-s", f"job{number}", "-c", str(tree), agent)
    _tmux(socket, "wait-for", f"job{number}")
    git(tree, "push", "-q", str(remote), f"HEAD:refs/heads/job{number}")
    git(clone, "fetch", "-q", str(remote), "+main:main", f"+job{number}:refs/landing/{number}")
    merged = git(clone, "merge-tree", "--write-tree", "main", f"refs/landing/{number}").strip()
    sha = git(clone, "commit-tree", merged, "-p", "main", "-m", f"job {number}").strip()
    git(clone, "push", "-q", str(remote), f"{sha}:main", f":job{number}")
    git(clone, "worktree", "remove", "--force", str(tree))


def _tmux(socket: str, *words: str) -> None:
    subprocess.run(["tmux", "-L", socket, *words], check=True)
