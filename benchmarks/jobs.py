"""Landed jobs a minute through a whole town, beside the bare git and tmux work of the same jobs."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import commands
from tests.e2e.living_town import LivingTown, git, shell_agent

POLL_S = 0.25


def measure(beads: int) -> dict[str, Any]:
    """Run `beads` jobs whose agent commits at once; figures in jobs a minute and seconds by phase."""
    with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
        bare_s = _bare_loop(Path(folder), beads)
        town = LivingTown(Path(folder))
        town.init()
        town.run("gt", "up")
        try:
            town.add_rig("--max-polecats", str(beads))
            return {"beads": beads, **_through_the_town(town, beads, bare_s)}
        finally:
            town.close()


def _through_the_town(town: LivingTown, beads: int, bare_s: float) -> dict[str, Any]:
    from benchmarks.cost import JobCost
    from benchmarks.sling import sling_all
    from ledger.store import Ledger
    from services.town import find_town

    found = find_town(town.root)
    ids = [town.bead(f"job {n}") for n in range(beads)]
    cost = JobCost(found)
    started = time.monotonic()
    sling_all(found, [(bead, shell_agent(file=f"{bead}.py")) for bead in ids])
    with contextlib.closing(Ledger.open(found.ledger_url(), migrate=False)) as ledger:
        while any(job.state.value != "merged" for job in ledger.jobs("shop")) or len(ledger.jobs("shop")) < beads:
            if time.monotonic() - started > 600:
                raise RuntimeError("the jobs did not all land in 10 minutes")
            time.sleep(POLL_S)
        took = time.monotonic() - started
        stories = [ledger.job_events(bead) for bead in ids]
    assert all(len(town.landed(bead)) == 1 for bead in ids)
    costs = cost.figures(beads)
    return {
        "seconds": round(took, 1),
        "jobs_per_minute": round(60 * beads / took, 1),
        "bare_loop_seconds": round(bare_s, 1),
        "ratio_to_bare_loop": round(took / bare_s, 2),
        **costs,
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


def _bare_loop(folder: Path, jobs: int) -> float:
    """The same git and tmux work, one job after another, without a town: seconds for all."""
    work = folder / "bare"
    work.mkdir()
    remote, clone, socket = work / "remote.git", work / "clone.git", f"gt-bench-{time.time_ns()}"
    git(work, "init", "-q", "--bare", "-b", "main", str(remote))
    git(work, "clone", "-q", "--bare", str(remote), str(clone))
    seed = work / "seed"
    git(work, "clone", "-q", str(remote), str(seed))
    git(seed, "commit", "-q", "--allow-empty", "-m", "first")
    git(seed, "push", "-q", "origin", "HEAD:main")
    started = time.monotonic()
    try:
        for number in range(jobs):
            _bare_job(work, remote, clone, socket, number)
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True, check=False)
    return time.monotonic() - started


def _bare_job(work: Path, remote: Path, clone: Path, socket: str, number: int) -> None:
    tree = work / f"tree{number}"
    git(clone, "fetch", "-q", str(remote), "+main:main")
    git(clone, "worktree", "add", "-q", "-b", f"job{number}", str(tree), "main")
    agent = shell_agent(file=f"f{number}.py", after=f"tmux -L {socket} wait-for -S job{number}")
    subprocess.run(
        ["tmux", "-L", socket, "-f", "/dev/null", "new-session", "-d", "-s", f"job{number}", "-c", str(tree), agent],
        check=True,
    )
    subprocess.run(["tmux", "-L", socket, "wait-for", f"job{number}"], check=True)
    git(tree, "push", "-q", str(remote), f"HEAD:refs/heads/job{number}")
    git(clone, "fetch", "-q", str(remote), "+main:main", f"+job{number}:refs/landing/{number}")
    merged = git(clone, "merge-tree", "--write-tree", "main", f"refs/landing/{number}").strip()
    sha = git(clone, "commit-tree", merged, "-p", "main", "-m", f"job {number}").strip()
    git(clone, "push", "-q", str(remote), f"{sha}:main", f":job{number}")
    git(clone, "worktree", "remove", "--force", str(tree))
