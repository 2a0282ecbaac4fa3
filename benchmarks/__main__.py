"""Run every benchmark and print its figures; with `--json FILE` they are written there too."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import commands, jobs, ledger, merge_policy, merge_queue, patrol, supervision, watching


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--beads", type=int, default=40)
    parser.add_argument("--watch-seconds", type=float, default=120, help="how long quiet sessions are watched")
    parser.add_argument("--write-seconds", type=float, default=30, help="how long fifty writers write to the ledger")
    parser.add_argument("--kills", type=int, default=20, help="of each kind, in a whole town")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "commands": commands.measure(),
        "jobs": jobs.measure(options.beads),
        "ledger": ledger.measure(options.write_seconds),
        "merge_policy": merge_policy.measure(),
        "merge_queue": merge_queue.measure(),
        "patrol": patrol.measure(),
        "watching": watching.measure(options.watch_seconds),
        "supervision": supervision.measure(options.kills),
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
