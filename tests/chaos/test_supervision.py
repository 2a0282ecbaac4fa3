"""The short form of `make chaos-supervision`: a town at work while everything is killed at random."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from tests.chaos.schedule import Kind
from tests.chaos.supervision import Plan, run, summary


def test_random_kills_lose_nothing_and_restart_nobody_for_no_reason(
    record_property: Callable[[str, object], None],
) -> None:
    # Of a seed that soon has every kind of fault of the town; of one agent's: tests/e2e/one_town/test_supervision.py.
    verdict = run(Plan(seed=2474, seconds=33, in_flight=5, store="server", drain_s=600))
    print(json.dumps(verdict.figures, indent=2), file=sys.stderr)
    record_property("chaos", summary(verdict))
    assert verdict.ok, "\n".join(verdict.violations)
    faults, beads = verdict.figures["faults"], verdict.figures["beads"]
    assert isinstance(faults, dict)
    assert isinstance(beads, int)
    assert {Kind.TMUX_SERVER, Kind.WORKER, Kind.FREEZE, Kind.TEMPORAL, Kind.DOLT, Kind.SUPERVISOR} <= faults.keys()
    assert beads >= 5
