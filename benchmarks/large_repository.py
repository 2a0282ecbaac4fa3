"""A job on a large repository, beside what git alone takes for the same work.

Jobs run one after another, each through a town and then by git alone, on the same remote: fetch,
worktree, commit, push, merge, the gate's checkout, push to the target. The difference is the town's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import load_average
from benchmarks.sling import sling_all
from benchmarks.town import bench_town
from tests.e2e.living_town import GATE, git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

FILES = 10_000
HISTORY_MB = 200
JOBS = 7
BLOB_BYTES = 1_000_000
FILE_BYTES = 600
LIMIT_S = 300.0


def measure(files: int = FILES, history_mb: int = HISTORY_MB, jobs: int = JOBS) -> dict[str, Any]:
    """Seconds; medians over the jobs after the first, which has the repository cloned."""
    with bench_town(max_polecats=2) as town:
        fill(town.remote, files, history_mb)
        load = load_average()
        bare = Bare(town.folder / "bare", town.remote)
        clone_s = bare.clone()
        by_town, by_git = [], []
        for number in range(jobs):
            by_town.append(_town_job(town, number))
            by_git.append(bare.job(number))
        overheads = [ours - theirs for ours, theirs in zip(by_town[1:], by_git[1:], strict=True)]
        return {
            "files": files,
            "history_mb": round(_pack_bytes(town.remote) / 1e6),
            "jobs": jobs,
            "load_before": load,
            "overhead_s_p50": round(statistics.median(overheads), 2),
            "overhead_s_most": round(max(overheads), 2),
            "job_s_p50": round(statistics.median(by_town[1:]), 2),
            "git_alone_s_p50": round(statistics.median(by_git[1:]), 2),
            "first_job_s": round(by_town[0], 2),
            "git_alone_first_s": round(clone_s + by_git[0], 2),
        }


def fill(remote: Path, files: int, history_mb: int) -> None:
    """Add small files to the remote's main, and a large one that each of many commits replaces."""
    importer = subprocess.Popen(
        ["git", "-c", "core.compression=0", "fast-import", "--quiet"], cwd=remote, stdin=subprocess.PIPE
    )
    assert importer.stdin is not None
    with importer.stdin as stream:

        def commit(message: str) -> None:
            head = f"commit refs/heads/main\ncommitter b <b@example.com> 1700000000 +0000\ndata {len(message)}\n"
            stream.write(f"{head}{message}\n".encode())

        def content(path: str, data: bytes) -> None:
            stream.write(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")

        commit("files")
        stream.write(b"from refs/heads/main^0\n")
        for number in range(files):
            text = f"value = {number}\n".encode()
            content(f"part{number % 100}/file{number}.py", text * (FILE_BYTES // len(text)))
        for number in range(history_mb * 1_000_000 // BLOB_BYTES):
            commit(f"asset {number}")
            content("asset.bin", os.urandom(BLOB_BYTES))
    if importer.wait() != 0:
        raise RuntimeError(f"git fast-import ended {importer.returncode}")


def _town_job(town: QuickTown, number: int) -> float:
    """Seconds from the sling to the bead's closing; one that ended well is closed only once its commit has landed."""
    bead = town.bead(f"job {number}")
    started = time.monotonic()
    sling_all(town.town, [(bead, shell_agent(file=f"town{number}.py"))])
    wait_until(f"{bead} to be closed", lambda: town.status_of(bead) == "closed", LIMIT_S)
    return time.monotonic() - started


class Bare:
    """The same work by hand: a bare clone, and a worktree and a gate's folder kept from job to job, as in a town."""

    def __init__(self, folder: Path, remote: Path) -> None:
        self._folder = folder
        self._remote = str(remote)
        self._cache = folder / "clone.git"
        self._tree = folder / "tree"
        self._gate = folder / "gate"
        folder.mkdir()

    def clone(self) -> float:
        started = time.monotonic()
        git(self._folder, "clone", "-q", "--bare", "--no-local", self._remote, str(self._cache))
        return time.monotonic() - started

    def job(self, number: int) -> float:
        """Seconds until the change is on the remote's main."""
        started = time.monotonic()
        cache, remote, tree, branch = self._cache, self._remote, self._tree, f"bare{number}"
        git(cache, "fetch", "-q", remote, "+main:main")
        if tree.exists():
            git(tree, "checkout", "-q", "-b", branch, "main")
        else:
            git(cache, "worktree", "add", "-q", "-b", branch, str(tree), "main")
        _shell(tree, shell_agent(file=f"{branch}.py", after="git status"))
        git(tree, "push", "-q", remote, f"HEAD:refs/heads/{branch}")
        git(cache, "fetch", "-q", remote, "+main:main", f"+{branch}:refs/landing/{number}")
        merged = git(cache, "merge-tree", "--write-tree", "main", f"refs/landing/{number}").strip()
        sha = git(cache, "commit-tree", merged, "-p", "main", "-m", f"job {number}").strip()
        if self._gate.exists():
            git(self._gate, "checkout", "-q", "--detach", sha)
        else:
            git(cache, "worktree", "add", "-q", "--detach", str(self._gate), sha)
        _shell(self._gate, GATE)
        git(cache, "push", "-q", remote, f"{sha}:main", f":{branch}")
        return time.monotonic() - started


def _shell(folder: Path, command: str) -> None:
    subprocess.run(["/bin/sh", "-c", command], cwd=folder, check=True, capture_output=True)


def _pack_bytes(repository: Path) -> int:
    return sum(pack.stat().st_size for pack in (repository / "objects" / "pack").glob("*.pack"))


if __name__ == "__main__":
    import json

    print(json.dumps(measure(), indent=2))
