"""Gate runs per landed change, simulated with the merge queue's own policies: `python -m benchmarks.merge_policy`.

A stream of changes, each bad with chance p, independent of the others; a gate that is red at every
commit with a bad change in it, and at a good commit with chance f. A change that was sent back
comes back repaired as a new one, bad with chance p again, and its runs count: the figure is all
runs over all landings. Batch size, search, confirming runs and the learned rates are those of
policies.refinery.batching and policies.refinery.merge_rates, starting from a new rig's prior.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from models.refinery.gates import GateTally, Seen
from models.settings import MergeQueueSettings
from policies.refinery.batching import Knowledge, batch_size, learn, next_probes, whole_queue
from policies.refinery.merge_rates import after_merge, confirming_runs, failure_rate, flakes_meant, flakiness, record_of

CHANGES = 10_000
SEEDS = 5
FAILURE_RATES = (0.0, 0.02, 0.05, 0.10, 0.20, 0.30)
FLAKINESS = (0.0, 0.05)
HALVING_BATCH = 5
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Yard:
    """The stream, the gate, and the count of what it cost."""

    chance_bad: float
    chance_flaky: float
    random: random.Random
    runs: int = 0
    landed: int = 0
    wrongly_back: int = 0

    def changes(self, count: int) -> list[bool]:
        """The next changes; True is a good one."""
        return [self.random.random() >= self.chance_bad for _ in range(count)]

    def gate(self, changes: list[bool]) -> bool:
        self.runs += 1
        return all(changes) and self.random.random() >= self.chance_flaky

    def send_back(self, good: bool) -> None:
        self.wrongly_back += good

    @property
    def runs_per_landed(self) -> float:
        return self.runs / self.landed

    @property
    def wrongly_back_percent(self) -> float:
        """Of the good changes."""
        return 100 * self.wrongly_back / (self.landed + self.wrongly_back)


def ours(yard: Yard, changes: int, *, whole: bool = False) -> None:
    """The policies of this project, with one runner and default settings; always more waits than fits a batch."""
    settings, seen, waiting = MergeQueueSettings(), Seen(), list[bool]()
    cleared = False
    while yard.landed < changes:
        rate = failure_rate(seen.changes)
        size = batch_size(rate, settings.min_batch, settings.max_batch)
        if whole:
            size = whole_queue(size, settings.max_batch)
        waiting += yard.changes(size - len(waiting))
        landed, failed, tally = _merge(yard, waiting[:size], seen, settings, cleared=cleared)
        # Either it was gated as a control, or what landed was gated as a candidate: nobody else pushes here.
        cleared = True
        if failed:
            yard.send_back(waiting[landed])
        del waiting[: landed + failed]
        yard.landed += landed
        seen = after_merge(seen, landed=landed, failed=failed, tallies=[tally], commits=(), gates=(), now=NOW)


def ours_whole(yard: Yard, changes: int) -> None:
    """The same where just so many wait, each time, that all of them are merged as one."""
    ours(yard, changes, whole=True)


def _merge(
    yard: Yard, batch: list[bool], seen: Seen, settings: MergeQueueSettings, *, cleared: bool
) -> tuple[int, int, GateTally]:
    """One batch: how many land, how many go back (0 or 1), and what was seen of the gate.

    Args:
        cleared: the target's tip is known to be green; else the first red costs a control run on it.
    """
    rate, lies = failure_rate(seen.changes), flakiness(record_of(seen, "test"))
    confirms = confirming_runs(settings.confirm_runs, lies, seen.changes.culprits)
    known, passed, flaked = Knowledge(size=len(batch)), 0, 0
    while known.green < known.size and known.culprit(confirms) is None:
        for prefix in next_probes(known, rate, confirms=confirms):
            green = yard.gate(batch[:prefix])
            if not green and not cleared and known.green == 0:
                cleared = any(yard.gate([]) for _ in range(1 + confirms))
            passed += green
            flaked += green and any(red.prefix == prefix for red in known.reds)
            known = learn(known, prefix, green=green)
    meant = flaked * flakes_meant(settings.confirm_runs, lies)
    return known.green, int(known.green < known.size), GateTally(gate="test", passed=passed, flakes_meant=meant)


def serial(yard: Yard, changes: int) -> None:
    """One change after the other; a red one goes back."""
    while yard.landed < changes:
        (good,) = change = yard.changes(1)
        if yard.gate(change):
            yard.landed += 1
        else:
            yard.send_back(good)


def halving(yard: Yard, changes: int) -> None:
    """Batches of five; a red one is halved down to single changes. What follows from other runs is not run."""
    while yard.landed < changes:
        _halve(yard, yard.changes(HALVING_BATCH), known_red=False)


def _halve(yard: Yard, batch: list[bool], *, known_red: bool) -> bool:
    """Land the good part of `batch`; whether all of it landed."""
    if not known_red and yard.gate(batch):
        yard.landed += len(batch)
        return True
    if len(batch) == 1:
        yard.send_back(batch[0])
        return False
    middle = len(batch) // 2
    left_green = _halve(yard, batch[:middle], known_red=False)
    _halve(yard, batch[middle:], known_red=left_green)
    return False


def floor(chance_bad: float) -> float:
    """H(p)/(1-p), the least that any method can need: a run tells at most one bit."""
    if chance_bad in {0.0, 1.0}:
        return 0.0
    pass_chance = 1 - chance_bad
    bits = -chance_bad * math.log2(chance_bad) - pass_chance * math.log2(pass_chance)
    return bits / pass_chance


def simulate(
    method: Callable[[Yard, int], None], chance_bad: float, chance_flaky: float, seeds: int = SEEDS
) -> dict[str, float]:
    """Figures of one method over `CHANGES` landings for each seed."""
    yards = [Yard(chance_bad, chance_flaky, random.Random(seed)) for seed in range(1, seeds + 1)]
    for yard in yards:
        method(yard, CHANGES)
    runs = [yard.runs_per_landed for yard in yards]
    return {
        "runs_per_landed": round(statistics.mean(runs), 3),
        "least": round(min(runs), 3),
        "most": round(max(runs), 3),
        "wrongly_back_percent": round(statistics.mean(yard.wrongly_back_percent for yard in yards), 3),
    }


def measure(seeds: int = SEEDS, rates: tuple[float, ...] = FAILURE_RATES) -> list[dict[str, Any]]:
    """One row for each failure rate and flakiness."""
    methods = {"ours": ours, "ours_whole_queue": ours_whole, "serial": serial, f"halving_{HALVING_BATCH}": halving}
    return [
        {"p": bad, "flakiness": flaky, "floor": round(floor(bad), 3)}
        | {name: simulate(method, bad, flaky, seeds) for name, method in methods.items()}
        for flaky in FLAKINESS
        for bad in rates
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge_policy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of {CHANGES} landings each")
    print(json.dumps(measure(parser.parse_args().seeds), indent=2))


if __name__ == "__main__":
    main()
