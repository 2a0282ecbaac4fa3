"""What one merge has seen of each gate, for the ledger of flaky gates."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.ledger.records import GateSpec
    from models.refinery.gates import GateOutcome, GateReport, GateTally, Seen
    from policies.refinery.merge_rates import flakes_meant, flakiness, record_of


class Tallies:
    """Counts reports as they come in.

    Args:
        setting: `merge_queue.confirm_runs`.
        seen: what was known of the gates before.
    """

    def __init__(self, gates: tuple[GateSpec, ...], setting: str, seen: Seen) -> None:
        self._setting = setting
        self._seen = seen
        self._by_gate = {gate.name: GateTally(gate=gate.name) for gate in gates}

    @property
    def all(self) -> tuple[GateTally, ...]:
        return tuple(self._by_gate.values())

    def count(self, report: GateReport, sha: str) -> None:
        """One run at one commit."""
        passed = report.passed
        if report.outcome is GateOutcome.PASSED and not (passed or report.skipped):
            passed = tuple(self._by_gate)
        for name in passed:
            self._add(name, "passed")
        for name in report.flaked:
            self._add(name, "failed")
            self._flaked(name, sha, report.log_path, 1)
        if report.outcome is not GateOutcome.PASSED and report.gate is not None:
            self._add(report.gate, "failed" if report.outcome is GateOutcome.FAILED else "could_not_run")

    def flake(self, red: GateReport, sha: str) -> None:
        """The gate that made `red` has passed at the same commit."""
        if red.gate is not None:
            meant = flakes_meant(self._setting, flakiness(record_of(self._seen, red.gate)))
            self._flaked(red.gate, sha, red.log_path, meant)

    def _flaked(self, name: str, sha: str, log_path: str | None, meant: int) -> None:
        tally = self._by_gate.get(name)
        if tally is not None:
            self._by_gate[name] = tally.model_copy(
                update={
                    "flaked": tally.flaked + 1,
                    "flakes_meant": tally.flakes_meant + meant,
                    "flaked_at": sha,
                    "log_path": log_path,
                }
            )

    def _add(self, name: str, field: str) -> None:
        tally = self._by_gate.get(name)
        if tally is not None:
            self._by_gate[name] = tally.model_copy(update={field: getattr(tally, field) + 1})
