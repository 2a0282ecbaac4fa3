"""How long whole commands take: process start to process end, median of several."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agents import session_folder

REPEATS = 9
BIN = Path(sys.executable).parent


def measure() -> dict[str, float]:
    """Milliseconds, by command. The agents' commands run in a session folder with a real git worktree."""
    figures = {"gt --help": median_ms([str(BIN / "gt"), "--help"], Path.cwd(), dict(os.environ))}
    with tempfile.TemporaryDirectory() as folder:
        worktree, env = _session(Path(folder))
        for command in ("heartbeat", "hook", "done"):
            figures[f"gt {command}"] = median_ms([str(BIN / "gt"), command], worktree, env)
    return figures


def measure_talking(cwd: Path, env: dict[str, str], bead: str) -> dict[str, float]:
    """Milliseconds, by command, of those that ask a living town's Temporal; `cwd` is the town."""
    asked = {
        "gt status": ["status"],
        "gt job show": ["job", "show", bead],
        "gt refinery queue": ["refinery", "queue", "--rig", "shop"],
        "gt escalate list": ["escalate", "list"],
    }
    return {name: median_ms([str(BIN / "gt"), *words], cwd, env) for name, words in asked.items()}


def median_ms(argv: list[str], cwd: Path, env: dict[str, str]) -> float:
    """Median wall time of `REPEATS` runs, after one that warms the caches."""
    times: list[float] = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True)
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times[1:]), 1)


def wall_and_cpu_ms(argv: list[str], cwd: Path, env: dict[str, str]) -> dict[str, float]:
    """Median wall time, and mean time of the processor, which other work on the machine changes less."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = median_ms(argv, cwd, env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": round(cpu_s * 1000 / (REPEATS + 1), 1)}


def _session(folder: Path) -> tuple[Path, dict[str, str]]:
    """A worktree with one commit to hand in, and the environment of an agent in it."""
    worktree = folder / "worktree"
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.com"]

    def git(*argv: str) -> str:
        return subprocess.run(
            ["git", *identity, *argv], cwd=worktree, check=True, capture_output=True, text=True
        ).stdout.strip()

    worktree.mkdir()
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "base")
    base = git("rev-parse", "HEAD")
    git("checkout", "-q", "-b", "polecat/sh-1")
    (worktree / "a.txt").write_text("a")
    git("add", ".")
    git("commit", "-q", "-m", "work")
    session = folder / "run" / "sessions" / "shop" / "toast" / "sh-1" / "1"
    (session / session_folder.INBOX).mkdir(parents=True)
    (session / session_folder.TASK).write_text("# task\n")
    session_folder.write_json(
        session / session_folder.SESSION,
        {
            "town": str(folder), "rig": "shop", "polecat": "toast", "bead": "sh-1", "attempt": 1, "title": "work",
            "branch": "polecat/sh-1", "target": "main", "worktree": str(worktree), "base_sha": base,
            "session": "shop--toast",
        },
    )  # fmt: skip
    env = {
        **os.environ, "GT_TOWN": str(folder), "GT_RIG": "shop", "GT_POLECAT": "toast", "GT_BEAD": "sh-1",
        "GT_ATTEMPT": "1", "GT_BRANCH": "polecat/sh-1", "GT_TARGET": "main",
        "GT_TASK_FILE": str(session / session_folder.TASK), "GT_FAILURE_LOG": str(session / session_folder.FAILURE_LOG),
    }  # fmt: skip
    return worktree, env
