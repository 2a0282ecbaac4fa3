"""The second-order watch: who is accused, restarted, given up and taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.settings import HealthSettings, RecoverySettings, Settings
from models.supervision.messages import Probe, ProbeResult, WitnessPing
from policies.supervision.watchdog import (
    BOOT_INTERVAL,
    Cause,
    Limits,
    Verdict,
    Watch,
    WatchClock,
    judge,
    may_boot_restart,
    within_window,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WITNESS = "witness/shop"
ANSWERS, ABSENT, WEDGED, SILENT = ProbeResult.ANSWERS, ProbeResult.ABSENT, ProbeResult.WEDGED, ProbeResult.SILENT


def limits(**health: int) -> Limits:
    return Limits.of(Settings(health=HealthSettings(**health)))


def probe(result: ProbeResult, *, stopped: bool = False) -> Probe:
    return Probe(workflow_id=WITNESS, result=result, run_id="run-1", stopped=stopped)


@dataclass
class Story:
    """A watched workflow and the Deacon, cycle by cycle; `alive` says how it is found."""

    limits: Limits = field(default_factory=limits)
    pings: bool = True
    now_s: float = 0.0
    patrols: int = 0
    found: Callable[[Watch], ProbeResult] = lambda _watch: ANSWERS
    pinging: bool = True
    patrolling: bool = True
    has_work: bool = True
    stopped: bool = False
    watch: Watch = field(init=False)
    reports: list[str] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    overs: int = 0
    helps: bool = False
    """a restart sets everything right"""

    def __post_init__(self) -> None:
        self.watch = Watch.begin(WITNESS, self.now_s, pings=self.pings)

    def cycle(self, step_s: float = 60.0) -> Verdict:
        self.now_s += step_s
        if self.pinging and self.pings:
            self.patrols += self.patrolling
            ping = WitnessPing(
                rig="shop", witness=WITNESS, number=1, has_work=self.has_work,
                patrolled_at=NOON + timedelta(minutes=self.patrols),
            )  # fmt: skip
            self.watch = self.watch.hear(ping, self.now_s)
        self.watch = self.watch.look(probe(self.found(self.watch), stopped=self.stopped), self.now_s)
        verdict = judge(self.watch, self.now_s, self.limits, 0.5)
        self.watch = verdict.watch
        if verdict.report:
            self.reports.append(verdict.report)
            self.watch = self.watch.model_copy(update={"told": (*self.watch.told, str(len(self.reports)))})
        if verdict.restart:
            self.restarts.append(self.now_s)
            if self.helps:
                self.pinging, self.patrolling, self.found = True, True, lambda _watch: ANSWERS
        self.overs += verdict.over
        return verdict

    def run(self, cycles: int, step_s: float = 60.0) -> Story:
        for _ in range(cycles):
            self.cycle(step_s)
        return self


# --- the Witness --------------------------------------------------------------------------------


def test_a_witness_that_pings_and_patrols_is_left_alone() -> None:
    story = Story().run(1000)
    assert (story.restarts, story.reports, story.watch.down) == ([], [], "")


def test_a_witness_without_pings_for_the_timeout_is_down_reported_and_restarted_at_once() -> None:
    story = Story(pinging=False, helps=True)
    story.run(9)
    assert story.restarts == []
    story.cycle()
    assert story.restarts == [600]
    assert len(story.reports) == 1
    assert Cause.NO_PING.value in story.reports[0]
    story.run(3)
    assert (story.overs, story.watch.down, story.watch.told) == (1, "", ())


def test_a_witness_whose_patrol_is_overdue_is_restarted_without_an_alarm() -> None:
    story = Story(patrolling=False, helps=True)
    story.run(6)
    assert story.restarts == [360], "its first ping told of a patrol; 300 s later it was overdue"
    story.run(10)
    assert (story.reports, len(story.restarts), story.watch.down) == ([], 1, "")


def test_a_witness_without_work_need_not_patrol() -> None:
    assert Story(patrolling=False, has_work=False).run(1000).restarts == []


def test_work_that_arrives_gives_the_patrol_its_whole_limit() -> None:
    story = Story(patrolling=False, has_work=False).run(100)
    story.has_work = True
    story.run(5)
    assert story.restarts == []
    story.run(1)
    assert len(story.restarts) == 1


def test_a_stopped_witness_is_not_accused_and_gets_fresh_limits_when_it_starts() -> None:
    story = Story(pinging=False, stopped=True).run(100)
    assert story.restarts == []
    story.stopped = False
    story.run(9)
    assert story.restarts == []
    assert Story(pinging=False, stopped=True, found=lambda _watch: ABSENT).run(3).restarts, "gone is not stopped"


def test_limits_are_no_shorter_than_three_cycles_of_whom_they_are_about() -> None:
    assert limits(witness_timeout=10, patrol_timeout=10, check_interval=60).silence_s == 180
    assert limits(witness_timeout=600, check_interval=60).silence_s == 600
    assert limits(patrol_timeout=10, check_interval=1).patrol_s == 10


# --- what the ping finds ------------------------------------------------------------------------


@pytest.mark.parametrize("found", [ABSENT, WEDGED])
def test_one_look_does_not_accuse_but_two_do(found: ProbeResult) -> None:
    looks = iter([found, ANSWERS, found, found])
    story = Story(pings=False, found=lambda _watch: next(looks, ANSWERS))
    story.run(3)
    assert story.restarts == []
    story.cycle()
    assert len(story.restarts) == 1
    story.cycle()
    assert (story.watch.down, story.reports) == ("", []), "a restart that helped is nobody's business"


def test_silence_is_borne_for_the_timeout_and_one_answer_ends_it() -> None:
    story = Story(pings=False, found=lambda watch: SILENT).run(9)
    assert story.restarts == []
    story.found = lambda _watch: ANSWERS
    story.cycle()
    story.found = lambda _watch: SILENT
    story.run(9)
    assert story.restarts == []
    story.cycle()
    assert len(story.restarts) == 1


def test_one_that_ends_again_and_again_is_restarted_under_the_budget_then_given_up_and_reported() -> None:
    story = Story(pings=False, found=lambda _watch: ABSENT).run(60)
    assert len(story.restarts) == 3
    assert len(story.reports) == 2, "that the first restart did not help, and that it is given up"
    assert "3 restarts within 3600 s did not help" in story.reports[-1]
    story.run(100)
    assert len(story.restarts) == 3
    story.found = lambda _watch: ANSWERS  # a person has brought it back
    story.run(2)
    assert (story.overs, story.watch.given_up) == (1, "")


def test_the_second_restart_waits_for_its_delay_and_the_next_for_twice_that() -> None:
    story = Story(pings=False, found=lambda _watch: ABSENT).run(40, step_s=5)
    first, second, third = story.restarts
    assert second - first >= 5 + 30
    assert third - second >= 5 + 60


def test_one_whose_code_fails_again_after_a_restart_is_given_up_at_once() -> None:
    story = Story(pings=False, found=lambda _watch: WEDGED).run(50)
    assert len(story.restarts) == 1
    assert "fails again after a restart" in story.reports[0]
    assert len(story.reports) == 1


def test_code_that_fails_long_after_a_restart_is_a_new_fault() -> None:
    story = Story(pings=False, found=lambda _watch: WEDGED).run(2)
    story.found = lambda _watch: ANSWERS
    story.run(40)
    story.found = lambda _watch: WEDGED
    story.run(2)
    assert len(story.restarts) == 2
    assert story.reports == []


def test_one_that_recovers_before_its_restart_is_due_keeps_its_budget() -> None:
    story = Story(pings=False, found=lambda _watch: ABSENT).run(4, step_s=5)
    assert (len(story.restarts), story.watch.restart_due_s is not None) == (1, True)
    before = story.watch.budget
    story.found = lambda _watch: ANSWERS
    story.run(1, step_s=5)
    assert (story.watch.restart_due_s, story.watch.budget, len(story.restarts)) == (None, before, 1)


# --- gaps ---------------------------------------------------------------------------------------


def test_after_a_gap_everybody_gets_fresh_limits() -> None:
    story = Story(pinging=False).run(9)
    story.watch = story.watch.forgive(story.now_s)
    story.run(9)
    assert story.restarts == []
    story.run(1)
    assert len(story.restarts) == 1


@pytest.mark.parametrize("silent", ["pinging", "patrolling"])
def test_a_gap_acquits_nobody_who_has_not_shown_since_that_it_works(silent: str) -> None:
    story = Story(limits=Limits.of(Settings(recovery=RecoverySettings(max_retries=1))))
    setattr(story, silent, False)
    story.run(14)
    setattr(story, silent, True)
    assert story.run(2).watch.down == "", "the restart has helped"
    setattr(story, silent, False)
    assert story.run(14).watch.given_up
    before = (len(story.reports), story.overs)
    for _ in range(3):
        story.watch = story.watch.forgive(story.now_s)
        story.run(14)
    assert (len(story.reports), story.overs) == before
    setattr(story, silent, True)
    story.cycle()
    assert (story.overs, story.watch.down) == (before[1] + 1, "")


def test_a_gap_before_a_restart_is_due_leaves_one_down_that_does_not_ping() -> None:
    story = Story()
    for story.pinging, cycles in ((False, 10), (True, 2), (False, 10)):
        story.run(cycles)
    assert (len(story.restarts), story.watch.restart_due_s is not None, story.overs) == (1, True, 1)
    story.watch = story.watch.forgive(story.now_s)
    story.cycle()
    assert (story.overs, bool(story.watch.down)) == (1, True)


def test_a_clock_counts_what_was_expected_and_little_more() -> None:
    clock, gap = WatchClock().tick(NOON, 0, 30)
    assert gap
    clock, gap = clock.tick(NOON + timedelta(seconds=60), 60, 30)
    assert (clock.watched_s, gap) == (60, False)
    clock, gap = clock.tick(NOON + timedelta(seconds=80), 10, 30)
    assert (clock.watched_s, gap) == (72, False), "10 s late: 2 s of it count"
    clock, gap = clock.tick(NOON + timedelta(hours=9), 60, 30)
    assert (clock.watched_s, gap) == (134, True)
    clock, gap = clock.tick(NOON, 60, 30)
    assert (clock.watched_s, gap) == (134, True), "a clock that was set back"


# --- properties ---------------------------------------------------------------------------------

SETTINGS = st.builds(
    RecoverySettings,
    max_retries=st.integers(0, 100),
    retry_delay=st.integers(0, 3600),
    max_delay=st.integers(0, 86400),
    window=st.integers(1, 604800),
    healthy_reset=st.integers(1, 604800),
)
"""every combination that the ranges allow, the odd ones too"""
PATIENCE = st.integers(10, 86400)
"""seconds of silence that are borne"""
RESULTS = st.sampled_from(list(ProbeResult))


def failing(recovery: RecoverySettings, patience_s: float, found: ProbeResult) -> Story:
    """One that never works again; ANSWERS: it answers, but does not ping."""
    story = Story(limits=Limits(silence_s=patience_s, patrol_s=patience_s, recovery=recovery))
    story.found, story.pinging = (lambda _watch: found), False
    return story


def run_until_given_up(story: Story, recovery: RecoverySettings) -> None:
    for _ in range(recovery.max_retries + 1):
        story.run(3, step_s=story.limits.silence_s)
        story.run(1, step_s=1.2 * recovery.max_delay + story.limits.silence_s)


@given(SETTINGS, PATIENCE, RESULTS)
def test_whatever_the_settings_one_that_never_works_is_given_up_when_its_budget_is_spent(
    recovery: RecoverySettings, patience_s: float, found: ProbeResult
) -> None:
    story = failing(recovery, patience_s, found)
    run_until_given_up(story, recovery)
    assert story.watch.given_up
    assert len(story.restarts) <= recovery.max_retries
    assert found is WEDGED or len(story.restarts) == recovery.max_retries
    assert story.reports


@given(SETTINGS, PATIENCE)
def test_a_patrol_that_stands_still_after_each_restart_is_given_up_too(
    recovery: RecoverySettings, patience_s: float
) -> None:
    story = failing(recovery, patience_s, ANSWERS)
    story.pinging, story.patrolling = True, False
    run_until_given_up(story, recovery)
    assert len(story.restarts) <= recovery.max_retries
    assert story.watch.given_up


@given(SETTINGS, PATIENCE, st.sampled_from([ABSENT, SILENT, ANSWERS]))
def test_whatever_the_settings_a_spent_budget_expires_once_it_has_worked_for_the_window_or_for_healthy_reset(
    recovery: RecoverySettings, patience_s: float, found: ProbeResult
) -> None:
    assume(recovery.max_retries > 0)
    story = failing(recovery, patience_s, found)
    run_until_given_up(story, recovery)
    story.found, story.pinging = (lambda _watch: ANSWERS), True  # a person has brought it back
    story.run(2, step_s=1)
    story.run(1, step_s=min(recovery.window, recovery.healthy_reset))
    assert story.watch.given_up == ""
    before = len(story.restarts)
    story.found, story.pinging = (lambda _watch: found), False
    story.run(3, step_s=patience_s)
    assert len(story.restarts) > before


@given(st.lists(st.tuples(RESULTS, st.booleans(), st.booleans(), st.floats(1, 300)), max_size=80))
def test_every_escalation_is_told_to_be_over_once_it_works_again(
    course: list[tuple[ProbeResult, bool, bool, float]],
) -> None:
    story = Story()
    for found, pinging, patrolling, step_s in course:
        story.found = lambda _watch, found=found: found  # type: ignore[misc]
        story.pinging, story.patrolling = pinging, patrolling
        story.cycle(step_s)
    story.found, story.pinging, story.patrolling = (lambda _watch: ANSWERS), True, True
    story.run(3)
    assert (story.watch.told, story.watch.down, story.watch.given_up) == ((), "", "")


@given(st.lists(st.floats(1, 59), min_size=1, max_size=100))
def test_one_that_always_answers_in_time_is_never_accused_whatever_the_pace(steps: list[float]) -> None:
    story = Story()
    for step_s in steps:
        story.cycle(step_s)
    assert (story.restarts, story.reports) == ([], [])


@given(st.lists(st.floats(-1e5, 1e5), max_size=50), st.floats(0, 600))
def test_the_watch_never_runs_backwards_nor_faster_than_it_was_asked_to(leaps: list[float], expected_s: float) -> None:
    clock, now = WatchClock().tick(NOON, 0, 30)[0], NOON
    for leap in leaps:
        now += timedelta(seconds=leap)
        after, _ = clock.tick(now, expected_s, 30)
        assert 0 <= after.watched_s - clock.watched_s <= expected_s + 2.001
        clock = after


# --- Boot ---------------------------------------------------------------------------------------


def test_boot_restarts_under_its_own_budget() -> None:
    recovery = RecoverySettings(max_retries=2, window=1800)
    restarts = tuple(NOON - timedelta(seconds=ago) for ago in (1801, 1799, 1))
    assert within_window(restarts, NOON, recovery) == restarts[1:]
    assert "2 restarts" in may_boot_restart(probe(ABSENT), restarts, False, NOON, recovery)
    assert may_boot_restart(probe(ABSENT), restarts[:2], False, NOON, recovery) == ""
    assert may_boot_restart(probe(WEDGED), (), True, NOON, recovery)
    assert may_boot_restart(probe(WEDGED), (), False, NOON, recovery) == ""
    assert may_boot_restart(probe(ABSENT), (NOON + timedelta(days=1),) * 9, False, NOON, recovery) == ""


@given(SETTINGS)
def test_boots_budget_can_be_reached_and_expires_whatever_the_settings(recovery: RecoverySettings) -> None:
    restarts, now = list[datetime](), NOON
    for _ in range(recovery.max_retries + 1):
        refused = may_boot_restart(probe(ABSENT), tuple(restarts), False, now, recovery)
        restarts += [] if refused else [now]
        now += BOOT_INTERVAL
    assert refused
    assert len(restarts) == recovery.max_retries
    now += timedelta(seconds=recovery.window) + BOOT_INTERVAL * (recovery.max_retries + 1)
    again = may_boot_restart(probe(ABSENT), tuple(restarts), False, now, recovery)
    assert (again == "") == (recovery.max_retries > 0)
