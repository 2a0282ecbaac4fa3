"""How long a polecat's worktree takes from one bead to the next: `python -m benchmarks.worktrees`.

Two repositories: one of 10,000 files, one with 200 MB of history. An agent has changed one file and committed it;
the work is parked, then the worktree is released and prepared for the next bead, which is what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from activities.git.worktree.worktrees import Worktrees
from models.ledger.records import Rig
from models.town import TownPaths

FILES = 10_000
HISTORY_COMMITS = 200
COMMIT_BYTES = 1_000_000
ROUNDS = 15


class Cost(NamedTuple):
    """Of one round, in seconds."""

    wall: float
    cpu: float
    """of this process and git's"""


def measure(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """By repository: milliseconds of a round, the quickest and the median, and the median of its CPU time."""
    figures = {}
    for name, commits in (("10,000 files", many_files()), ("200 MB of history", long_history())):
        with tempfile.TemporaryDirectory(prefix="gt-bench-") as folder:
            costs = [*used_again(Path(folder), commits, rounds)]
        figures[name] = {
            "fastest_ms": 1000 * min(cost.wall for cost in costs),
            "median_ms": 1000 * statistics.median(cost.wall for cost in costs),
            "median_cpu_ms": 1000 * statistics.median(cost.cpu for cost in costs),
        }
    return {name: {key: round(value, 1) for key, value in row.items()} for name, row in figures.items()}


def used_again(folder: Path, commits: Iterator[bytes], rounds: int) -> Iterator[Cost]:
    remote = folder / "shop.git"
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    subprocess.run(["git", "-C", str(remote), "fast-import", "--quiet"], input=b"".join(commits), check=True)
    rig = Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    worktrees = Worktrees(TownPaths(folder / "town"))
    path = worktrees.prepare(rig, "toast", "sh-0", "main").path
    for number in range(1, rounds + 1):
        (path / "work.txt").write_text(str(number))
        _git(path, "add", "work.txt")
        _git(path, "-c", "user.name=a", "-c", "user.email=a@x", "commit", "--quiet", "-m", "Work")
        worktrees.park(rig, "toast", f"sh-{number - 1}", 1, None)
        wall, cpu = time.monotonic(), sum(os.times()[:4])
        worktrees.release(rig, "toast", f"sh-{number - 1}")
        worktrees.prepare(rig, "toast", f"sh-{number}", "main")
        yield Cost(time.monotonic() - wall, sum(os.times()[:4]) - cpu)


def many_files() -> Iterator[bytes]:
    yield _commit(1)
    for number in range(FILES):
        yield _file(f"packages/{number % 200}/{number}.txt", f"{number}\n".encode() * 20)


def long_history() -> Iterator[bytes]:
    content = random.Random(1)
    for number in range(HISTORY_COMMITS):
        yield _commit(number + 1)
        yield _file(f"data/{number % 20}.bin", content.randbytes(COMMIT_BYTES))


def _commit(number: int) -> bytes:
    return b"commit refs/heads/main\ncommitter A <a@x> %d +0000\ndata 4\nWork\n" % (1_700_000_000 + number)


def _file(path: str, content: bytes) -> bytes:
    return b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content)


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worktrees")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))


if __name__ == "__main__":
    main()
