"""What a merge queue makes of what it has seen: how often changes are bad, and how often gates lie.

Both rates come from decaying counts beside a prior, so that a new rig starts sensibly and an old
one follows its recent past: (prior + seen) / (the prior's weight + seen of both kinds).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from models.ledger.records import GateSpec
from models.refinery.gates import ChangeCounts, GatedCommit, GateOutcome, GateRecord, GateTally, Seen
from models.settings import GateSettings

PRIOR_FAILURE_RATE: Final = 1 / 20
"""chance that a submitted change fails its gates, before a rig has a history of its own"""
PRIOR_CHANGES: Final = 20
"""how many changes the prior weighs as much as"""
CHANGES_HALVED: Final = 200
"""decided changes after which what was seen counts half"""

PRIOR_FLAKINESS: Final = 1 / 100
PRIOR_RUNS: Final = 100
RUNS_HALVED: Final = 1000
"""runs of a gate after which what was seen of it counts half"""

CONFIRM_ABOVE: Final = 0.005
"""observed flakiness above which a suspect is confirmed before it is blamed; also the chance, that
all of its runs are red although it is good, that confirming runs have to get it below"""
MOST_CONFIRMS: Final = 3
SAMPLED: Final = 16
"""where suspects are blamed unconfirmed, every so manieth is confirmed all the same: else a gate
that becomes flaky would never be seen to be"""

COMMITS_KEPT: Final = 32

DEFAULT_WORLD: Final = GateSettings()
"""what gates run in where no setting says otherwise"""


def failure_rate(counts: ChangeCounts) -> float:
    """The chance that the next change is bad."""
    return (PRIOR_FAILURE_RATE * PRIOR_CHANGES + counts.failed) / (PRIOR_CHANGES + counts.landed + counts.failed)


def count_changes(counts: ChangeCounts, landed: int, failed: int) -> ChangeCounts:
    """The counts after so many more changes were decided by gates."""
    kept = 0.5 ** ((landed + failed) / CHANGES_HALVED)
    return ChangeCounts(
        landed=counts.landed * kept + landed, failed=counts.failed * kept + failed, culprits=counts.culprits + failed
    )


def flakiness(record: GateRecord) -> float:
    """The chance that the gate is red at a commit that is good."""
    return (PRIOR_FLAKINESS * PRIOR_RUNS + record.flakes) / (PRIOR_RUNS + record.passes + record.flakes)


def record_of(seen: Seen, gate: str | None) -> GateRecord:
    """The gate's row in the ledger of flaky gates; an empty one where there is none."""
    return next((record for record in seen.gates if record.gate == gate), GateRecord(gate=gate or ""))


def count_runs(record: GateRecord, tally: GateTally, now: datetime) -> GateRecord:
    """The gate's row after one more merge."""
    kept = 0.5 ** ((tally.passed + tally.flakes_meant) / RUNS_HALVED)
    counted: dict[str, object] = {
        "passes": record.passes * kept + tally.passed,
        "flakes": record.flakes * kept + tally.flakes_meant,
        "runs": record.runs + tally.passed + tally.failed + tally.could_not_run,
        "failures": record.failures + tally.failed,
        "flaky_runs": record.flaky_runs + tally.flaked,
    }
    if tally.flaked:
        counted |= {"flaked_at": tally.flaked_at, "flaked_on": now, "log_path": tally.log_path}
    return record.model_copy(update=counted)


def after_merge(
    seen: Seen,
    *,
    landed: int,
    failed: int,
    tallies: Iterable[GateTally],
    commits: tuple[GatedCommit, ...],
    gates: tuple[GateSpec, ...],
    now: datetime,
    world: GateSettings = DEFAULT_WORLD,
) -> Seen:
    """What is known after one more merge, which ran `gates` in this world."""
    records = {record.gate: record for record in seen.gates}
    for tally in tallies:
        records[tally.gate] = count_runs(record_of(seen, tally.gate), tally, now)
    return Seen(
        changes=count_changes(seen.changes, landed, failed),
        gates=tuple(records.values()),
        commits=commits[-COMMITS_KEPT:],
        commits_under=gates,
        commits_in=world,
    )


def known_commits(
    seen: Seen, gates: tuple[GateSpec, ...], world: GateSettings = DEFAULT_WORLD
) -> dict[str, GatedCommit]:
    """By commit, what `gates` have said before in this world. One that could not be gated is not known."""
    if seen.commits_under != gates or seen.commits_in != world:
        return {}
    return {known.sha: known for known in seen.commits if known.report.outcome is not GateOutcome.COULD_NOT_RUN}


def confirming_runs(setting: str, flakiness: float, culprits: int) -> int:
    """How many more times a suspect is gated before it is blamed.

    Args:
        setting: `merge_queue.confirm_runs`: a number, or `auto`.
        flakiness: of the gate that failed.
        culprits: how many the rig has blamed so far.
    """
    if setting != "auto":
        return int(setting)
    if flakiness > CONFIRM_ABOVE:
        enough = (runs for runs in range(1, MOST_CONFIRMS) if flakiness ** (runs + 1) <= CONFIRM_ABOVE)
        return next(enough, MOST_CONFIRMS)
    return 1 if culprits % SAMPLED == 0 else 0


def flakes_meant(setting: str, flakiness: float) -> int:
    """How many flakes one that was seen stands for."""
    return SAMPLED if setting == "auto" and flakiness <= CONFIRM_ABOVE else 1
