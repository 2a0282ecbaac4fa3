"""Run the named benchmarks, or all, and print their figures; with `--json FILE` they are written there too."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import commands, jobs, ledger, merge_policy, merge_queue, patrol, supervision, watching

BENCHMARKS: dict[str, Callable[[argparse.Namespace], object]] = {
    "commands": lambda _: commands.measure(),
    "jobs": lambda options: jobs.measure(options.beads),
    "ledger": lambda options: ledger.measure(options.write_seconds),
    "merge_policy": lambda _: merge_policy.measure(),
    "merge_queue": lambda _: merge_queue.measure(),
    "patrol": lambda options: patrol.measure(options.watch_seconds),
    "watching": lambda options: watching.measure(options.watch_seconds),
    "supervision": lambda options: supervision.measure(options.kills),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all of them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--beads", type=int, default=40)
    parser.add_argument("--watch-seconds", type=float, default=120, help="how long quiet sessions are watched")
    parser.add_argument("--write-seconds", type=float, default=30, help="how long fifty writers write to the ledger")
    parser.add_argument("--kills", type=int, default=20, help="of each kind, in a whole town")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    figures = {name: BENCHMARKS[name](options) for name in options.names or BENCHMARKS}
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
