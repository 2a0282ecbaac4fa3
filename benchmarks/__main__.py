"""Run the named benchmarks, or all, and print their figures.

Each runs in a process of its own, which leaves nothing behind (benchmarks.contained). One that fails
is told with the end of its log, the others still run, and the exit code is 1. A whole run, every
benchmark at full length, also writes docs/figures.json and the block of README.md that is made of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import figures
from benchmarks.contained import Interrupted, TimedOut, interruptible, run_contained
from benchmarks.machine import load_average, machine, this_run

LIMIT_S = 1800.0
"""for one benchmark, also on a machine with much other work"""
LOG_LINES = 40


class Benchmark(NamedTuple):
    """A module's `measure`, and what it is called with."""

    module: str
    full: Mapping[str, Any] = {}
    quick: Mapping[str, Any] = {}
    in_whole_run: bool = True


BENCHMARKS = {
    "commands": Benchmark("commands"),
    # The same of commands that read, in a town of any size.
    "large_town": Benchmark("large_town", {}, {"rigs": 2, "polecats": 4, "beads": 20}, in_whole_run=False),
    "jobs": Benchmark("jobs", {"beads": 40}, {"beads": 3}),
    "large_repository": Benchmark("large_repository", {}, {"files": 500, "history_mb": 10, "jobs": 2}),
    "merge_queue": Benchmark("merge_queue", {"rounds": 3}, {"rounds": 1, "chain_links": 5}),
    "merge_policy": Benchmark("merge_policy", {"rates": (0.1,)}, {"rates": (0.1,), "seeds": 1}),
    "ledger": Benchmark("ledger", {"seconds": 10, "jobs": 300}, {"seconds": 1, "jobs": 10, "beads": 100}),
    "patrol": Benchmark("patrol", {}, {"polecats": 3, "seconds": 5, "cycles": 1}),
    "supervision": Benchmark("supervision", {"times": 6}, {"times": 1}),
    "sandbox": Benchmark(
        "sandbox",
        {"starts": 60, "beads": 20, "rounds": 4, "calls": 300},
        {"starts": 3, "beads": 2, "rounds": 1, "calls": 5},
        in_whole_run=False,
    ),
    # What patrol and supervision measure in a whole town, by the scanner alone.
    "watching": Benchmark("watching", {}, {"seconds": 3, "sessions": (3,), "kills": 1}, in_whole_run=False),
    "worktrees": Benchmark("worktrees", {}, {"rounds": 1}, in_whole_run=False),
}


@dataclass(frozen=True)
class Failed:
    """A benchmark without figures."""

    why: str


def main() -> int:
    whole = [name for name, one in BENCHMARKS.items() if one.in_whole_run]
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: a whole run")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="as small as each can be: whether they run at all")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.alone:
        (name,) = options.names
        options.json.write_text(json.dumps(_measure(name, quick=options.quick)))
        return 0
    names = options.names or whole
    try:
        with interruptible():
            measured = run_all(names, quick=options.quick)
    except Interrupted as error:
        sys.stderr.write(f"ended by {error}; nothing is left behind\n")
        return error.exit_code
    failed = sorted(name for name, found in measured["figures"].items() if isinstance(found, Failed))
    document = measured | {"figures": {k: v for k, v in measured["figures"].items() if k not in failed}}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
        return 1
    if names == whole and not options.quick:
        figures.write(document)
    return 0


def run_all(names: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """The machine, this run, and by benchmark its figures or why there are none."""
    document: dict[str, Any] = {"machine": machine(), "run": this_run()}
    began = time.monotonic()
    found: dict[str, Any] = {}
    loads: dict[str, float] = {}
    for name in names:
        started, load = time.monotonic(), load_average()
        loads[name] = load
        found[name] = _apart(name, quick=quick)
        took = time.monotonic() - started
        said = f"FAILED: {found[name].why}" if isinstance(found[name], Failed) else "done"
        sys.stderr.write(f"{name}: {said} ({took:.0f} s, load {load} before and {load_average()} after)\n")
        if not isinstance(found[name], Failed):
            # Now, so that one that is interrupted an hour later has not measured for nothing.
            sys.stderr.write(json.dumps(found[name]) + "\n")
        sys.stderr.flush()
    document["run"] |= {"minutes": round((time.monotonic() - began) / 60, 1), "loads": loads}
    return document | {"figures": found}


def _apart(name: str, *, quick: bool) -> Any:
    """One benchmark in a process of its own: its figures, or Failed."""
    with tempfile.TemporaryDirectory(prefix="gt-figures-") as folder:
        answer, log = Path(folder, "figures.json"), Path(folder, "log")
        argv = [sys.executable, "-m", "benchmarks", "--alone", name, "--json", str(answer)]
        try:
            code = run_contained([*argv, *(["--quick"] if quick else [])], log, LIMIT_S)
        except TimedOut as error:
            why = str(error)
        else:
            if code == 0 and answer.exists():
                return json.loads(answer.read_text())
            why = f"exit code {code}"
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-LOG_LINES:]))
        return Failed(why)


def _measure(name: str, *, quick: bool) -> Any:
    chosen = BENCHMARKS[name]
    module = importlib.import_module(f"benchmarks.{chosen.module}")
    return module.measure(**(chosen.quick if quick else chosen.full))


if __name__ == "__main__":
    sys.exit(main())
