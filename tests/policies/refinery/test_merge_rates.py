"""What the merge queue makes of what it has seen."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ledger.records import GateSpec
from models.refinery.gates import ChangeCounts, GatedCommit, GateOutcome, GateRecord, GateReport, GateTally, Seen
from policies.refinery.batching import batch_size, whole_queue
from policies.refinery.merge_rates import (
    COMMITS_KEPT,
    CONFIRM_ABOVE,
    MOST_CONFIRMS,
    PRIOR_FAILURE_RATE,
    SAMPLED,
    after_merge,
    confirming_runs,
    count_changes,
    count_runs,
    failure_rate,
    flakes_meant,
    flakiness,
    known_commits,
    record_of,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEST = GateSpec(name="test", command="pytest")


def rate_after(merges: int, landed: int, failed: int, counts: ChangeCounts | None = None) -> float:
    counts = counts or ChangeCounts()
    for _ in range(merges):
        counts = count_changes(counts, landed, failed)
    return failure_rate(counts)


class TestFailureRate:
    def test_a_new_rig_starts_from_the_prior(self) -> None:
        assert failure_rate(ChangeCounts()) == pytest.approx(PRIOR_FAILURE_RATE)

    @pytest.mark.parametrize(("landed", "failed"), [(9, 1), (4, 1), (49, 1)])
    def test_it_comes_close_to_what_is_seen_for_long(self, landed: int, failed: int) -> None:
        assert rate_after(200, landed, failed) == pytest.approx(failed / (landed + failed), abs=0.01)

    def test_a_change_of_the_times_is_followed_within_a_thousand_changes(self) -> None:
        bad_times = ChangeCounts()
        for _ in range(200):
            bad_times = count_changes(bad_times, 7, 3)
        assert failure_rate(bad_times) > 0.25
        assert rate_after(100, 10, 0, bad_times) < 0.03

    def test_forty_good_changes_of_a_new_rig_take_two_runs(self) -> None:
        counts, waiting, sizes = ChangeCounts(), 40, []
        while waiting:
            best = batch_size(failure_rate(counts), 1, 32)
            size = waiting if waiting <= whole_queue(best, 32) else best
            counts, waiting = count_changes(counts, size, 0), waiting - size
            sizes.append(size)
        assert sizes == [14, 26]

    @given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=30))
    def test_it_is_a_chance_whatever_is_seen(self, seen: list[tuple[int, int]]) -> None:
        counts = ChangeCounts()
        for landed, failed in seen:
            counts = count_changes(counts, landed, failed)
            assert 0 < failure_rate(counts) < 1


class TestFlakiness:
    def test_an_unknown_gate_is_confirmed_and_one_that_never_lied_for_long_is_not(self) -> None:
        gate = GateRecord(gate="test")
        assert confirming_runs("auto", flakiness(gate), culprits=1) == 1
        honest = count_runs(gate, GateTally(gate="test", passed=150), NOW)
        assert confirming_runs("auto", flakiness(honest), culprits=1) == 0

    def test_every_sixteenth_culprit_of_an_honest_gate_is_confirmed_all_the_same(self) -> None:
        sampled = [confirming_runs("auto", 0.001, culprits) for culprits in range(2 * SAMPLED)]
        assert sum(sampled) == 2
        assert flakes_meant("auto", 0.001) == SAMPLED

    def test_one_flake_of_a_gate_that_counted_as_honest_has_its_culprits_confirmed_again(self) -> None:
        honest = count_runs(GateRecord(gate="test"), GateTally(gate="test", passed=900), NOW)
        assert flakiness(honest) <= CONFIRM_ABOVE
        tally = GateTally(gate="test", flaked=1, flakes_meant=flakes_meant("auto", flakiness(honest)))
        assert flakiness(count_runs(honest, tally, NOW)) > CONFIRM_ABOVE

    @pytest.mark.parametrize(("chance", "runs"), [(0.006, 1), (0.05, 1), (0.1, 2), (0.16, 2), (0.3, MOST_CONFIRMS)])
    def test_the_flakier_the_gate_the_more_runs_confirm(self, chance: float, runs: int) -> None:
        assert confirming_runs("auto", chance, culprits=1) == runs

    def test_a_number_in_the_settings_holds_whatever_is_seen(self) -> None:
        assert [confirming_runs(str(number), 0.5, 0) for number in range(4)] == [0, 1, 2, 3]
        assert flakes_meant("1", 0.0) == 1

    def test_the_ledger_of_a_gate_keeps_what_ever_happened_and_where(self) -> None:
        row = count_runs(GateRecord(gate="test"), GateTally(gate="test", passed=3, failed=2, could_not_run=1), NOW)
        assert (row.runs, row.failures, row.flaky_runs, row.flaked_on) == (6, 2, 0, None)
        flake = GateTally(gate="test", passed=1, failed=1, flaked=1, flakes_meant=1, flaked_at="abc", log_path="/log")
        row = count_runs(row, flake, NOW)
        assert (row.runs, row.failures, row.flaky_runs) == (8, 3, 1)
        assert (row.flaked_at, row.flaked_on, row.log_path) == ("abc", NOW, "/log")


class TestMemory:
    def gated(self, number: int, outcome: GateOutcome = GateOutcome.PASSED) -> GatedCommit:
        return GatedCommit(sha=f"sha{number}", report=GateReport(outcome=outcome))

    def seen(self, *commits: GatedCommit) -> Seen:
        tallies = [GateTally(gate="test", passed=len(commits))]
        return after_merge(Seen(), landed=1, failed=0, tallies=tallies, commits=commits, gates=(TEST,), now=NOW)

    def test_a_merge_is_counted_and_its_latest_commits_are_remembered(self) -> None:
        seen = self.seen(*map(self.gated, range(COMMITS_KEPT + 5)))
        assert seen.changes.landed == 1
        assert record_of(seen, "test").runs == COMMITS_KEPT + 5
        assert [known.sha for known in seen.commits][-1] == f"sha{COMMITS_KEPT + 4}"
        assert len(known_commits(seen, (TEST,))) == COMMITS_KEPT

    def test_other_gates_know_nothing_of_commits_that_were_gated_before(self) -> None:
        assert known_commits(self.seen(self.gated(1)), (TEST, GateSpec(name="lint", command="ruff"))) == {}

    def test_a_commit_that_could_not_be_gated_is_not_known(self) -> None:
        seen = self.seen(self.gated(1, GateOutcome.COULD_NOT_RUN), self.gated(2, GateOutcome.FAILED))
        assert list(known_commits(seen, (TEST,))) == ["sha2"]
