"""The diagnosis of a session: product.md section 4 as tables, and what must hold for any sighting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.job.health import Diagnosis, HealthKind, Sighting, Thresholds
from models.job.messages import ObservationKind
from policies.job.health import ACCUSATIONS, QUESTION_S, diagnose, is_dead, needs_tail, objection, reported_as

LIMITS = Thresholds(polecat_timeout_s=300, grace_s=60, stuck_timeout_s=1800)
BOUNDED = Thresholds(polecat_timeout_s=300, grace_s=60, stuck_timeout_s=1800, session_timeout_s=7200)
PROMPT = "Do you want to proceed?\n❯ 1. Yes\n  2. No\n"


def seen(**facts: Any) -> Sighting:
    """A living session that works, but for `facts`."""
    return Sighting(**({"started": True, "present": True} | facts))


TABLE: dict[str, tuple[Sighting, HealthKind | None, HealthKind, str]] = {
    "works": (seen(progress_age_s=5), None, HealthKind.HEALTHY, "works"),
    "beats": (seen(heartbeat_age_s=2), None, HealthKind.HEALTHY, "works"),
    "was never started": (Sighting(started=False, present=False), None, HealthKind.HEALTHY, "not_started"),
    "starts just now": (Sighting(started=False, present=True, pane_dead=True), None, HealthKind.HEALTHY, "not_started"),
    "handed its work in": (seen(done_told=True, pane_dead=True, exit_code=0), None, HealthKind.HEALTHY, "done_told"),
    "session gone": (seen(present=False, heartbeat_age_s=0), None, HealthKind.UNRESPONSIVE, "session_gone"),
    "pane dead, signal": (seen(pane_dead=True, exit_code=137), None, HealthKind.UNRESPONSIVE, "pane_dead"),
    "pane dead, unknown how": (seen(pane_dead=True), None, HealthKind.UNRESPONSIVE, "pane_dead"),
    "ended well without gt done": (
        seen(pane_dead=True, exit_code=0),
        None,
        HealthKind.FINISHED_WITHOUT_DONE,
        "exit_without_done",
    ),
    "silent": (seen(heartbeat_age_s=301), None, HealthKind.STALE, "heartbeat_stale"),
    "silent within the grace": (
        seen(heartbeat_age_s=360, verdict_age_s=59),
        HealthKind.STALE,
        HealthKind.STALE,
        "heartbeat_stale",
    ),
    "silent beyond the grace": (
        seen(heartbeat_age_s=361, verdict_age_s=60),
        HealthKind.STALE,
        HealthKind.UNRESPONSIVE,
        "heartbeat_lost",
    ),
    "silent for an hour at first sight": (seen(heartbeat_age_s=3600), None, HealthKind.STALE, "heartbeat_stale"),
    "silent for an hour, the limit was lowered": (
        seen(heartbeat_age_s=3600, verdict_age_s=3600),
        HealthKind.HEALTHY,
        HealthKind.STALE,
        "heartbeat_stale",
    ),
    "beats again": (seen(heartbeat_age_s=1), HealthKind.STALE, HealthKind.RECOVERED, "works"),
    "beats again after all": (seen(heartbeat_age_s=1), HealthKind.UNRESPONSIVE, HealthKind.RECOVERED, "works"),
    "goes on beating": (seen(heartbeat_age_s=1), HealthKind.RECOVERED, HealthKind.HEALTHY, "works"),
    "no progress": (seen(progress_age_s=1801), None, HealthKind.STUCK, "no_progress"),
    "no progress but beats": (seen(progress_age_s=1801, heartbeat_age_s=1), None, HealthKind.STUCK, "no_progress"),
    "spins": (seen(progress_age_s=1801, output_age_s=0, tail="⠋ thinking"), None, HealthKind.STUCK, "no_progress"),
    "waits at a prompt": (
        seen(progress_age_s=1801, tail=PROMPT),
        None,
        HealthKind.WAITING_FOR_INPUT,
        "prompt_menu",
    ),
    "asks before it begins": (
        seen(progress_age_s=31, output_age_s=31, tail=PROMPT),
        None,
        HealthKind.WAITING_FOR_INPUT,
        "prompt_menu",
    ),
    "asked, and goes on": (seen(progress_age_s=31, output_age_s=1, tail=PROMPT), None, HealthKind.HEALTHY, "works"),
    "at its input line": (seen(progress_age_s=900, output_age_s=900, tail="❯"), None, HealthKind.HEALTHY, "works"),
    "at a prompt for a moment": (seen(progress_age_s=20, tail=PROMPT), None, HealthKind.HEALTHY, "works"),
    "progress again": (seen(progress_age_s=1), HealthKind.STUCK, HealthKind.RECOVERED, "works"),
    "was answered": (seen(progress_age_s=1), HealthKind.WAITING_FOR_INPUT, HealthKind.RECOVERED, "works"),
    "silent and without progress": (
        seen(heartbeat_age_s=4000, progress_age_s=4000, tail=PROMPT),
        HealthKind.STUCK,
        HealthKind.STALE,
        "heartbeat_stale",
    ),
    "superseded and alive": (seen(superseded=True, heartbeat_age_s=0), None, HealthKind.ZOMBIE, "superseded"),
    "superseded and dead": (seen(superseded=True, present=False), None, HealthKind.ZOMBIE, "superseded"),
    "superseded with a late gt done": (seen(superseded=True, done_told=True), None, HealthKind.ZOMBIE, "superseded"),
}


@pytest.mark.parametrize(("sighting", "earlier", "kind", "rule"), TABLE.values(), ids=TABLE)
def test_each_sighting_has_its_verdict_and_names_its_rule(
    sighting: Sighting, earlier: HealthKind | None, kind: HealthKind, rule: str
) -> None:
    verdict = diagnose(sighting, LIMITS, earlier)
    assert (verdict.kind, verdict.rule) == (kind, rule)
    assert verdict.reason


def test_a_session_may_last_for_ever_unless_a_limit_is_set() -> None:
    old = seen(session_age_s=7201, heartbeat_age_s=0)
    assert diagnose(old, LIMITS, None).kind is HealthKind.HEALTHY
    assert diagnose(old, BOUNDED, None).rule == "session_timeout"
    assert diagnose(old, BOUNDED, None).kind is HealthKind.UNRESPONSIVE


def test_a_stuck_agent_that_still_writes_is_said_to() -> None:
    assert "still writes" in diagnose(seen(progress_age_s=1801, output_age_s=3), LIMITS, None).reason
    assert "still writes" not in diagnose(seen(progress_age_s=1801, output_age_s=1801), LIMITS, None).reason


@pytest.mark.parametrize(
    ("kind", "facts", "reported"),
    [
        (HealthKind.HEALTHY, {}, None),
        (HealthKind.ZOMBIE, {}, None),
        (HealthKind.STALE, {}, ObservationKind.STALE),
        (HealthKind.RECOVERED, {}, ObservationKind.RECOVERED),
        (HealthKind.UNRESPONSIVE, {}, ObservationKind.UNRESPONSIVE),
        (HealthKind.UNRESPONSIVE, {"present": False}, ObservationKind.DIED),
        (HealthKind.UNRESPONSIVE, {"pane_dead": True}, ObservationKind.DIED),
        (HealthKind.FINISHED_WITHOUT_DONE, {"pane_dead": True}, ObservationKind.DIED),
        (HealthKind.STUCK, {}, ObservationKind.STUCK),
        (HealthKind.WAITING_FOR_INPUT, {}, ObservationKind.STUCK),
    ],
)
def test_what_a_job_is_told(kind: HealthKind, facts: dict[str, Any], reported: ObservationKind | None) -> None:
    assert reported_as(kind, seen(**facts)) == reported


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"present": False}, HealthKind.HEALTHY),
        ({"pane_dead": True}, HealthKind.STALE),
        ({"started": False}, HealthKind.UNRESPONSIVE),
        ({"done_told": True}, HealthKind.UNRESPONSIVE),
        ({}, HealthKind.ZOMBIE),
        ({"superseded": True}, HealthKind.HEALTHY),
        ({}, HealthKind.FINISHED_WITHOUT_DONE),
        ({"pane_dead": True, "exit_code": 1}, HealthKind.FINISHED_WITHOUT_DONE),
    ],
)
def test_an_own_strategy_cannot_deny_what_is_certain(facts: dict[str, Any], kind: HealthKind) -> None:
    assert objection(seen(**facts), Diagnosis(kind=kind, rule="mine"))


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"pane_dead": True, "exit_code": 3}, HealthKind.STUCK),
        ({"heartbeat_age_s": 9000}, HealthKind.HEALTHY),
        ({"progress_age_s": 10}, HealthKind.STUCK),
        ({"heartbeat_age_s": 10}, HealthKind.UNRESPONSIVE),
    ],
)
def test_an_own_strategy_may_weigh_what_it_sees_differently(facts: dict[str, Any], kind: HealthKind) -> None:
    assert objection(seen(**facts), Diagnosis(kind=kind, rule="mine")) == ""


# --- what holds for any sighting --------------------------------------------------------------------------------

ages = st.floats(0, 1e6)
sightings = st.builds(
    Sighting,
    started=st.booleans(),
    present=st.booleans(),
    pane_dead=st.booleans(),
    exit_code=st.none() | st.integers(0, 255),
    done_told=st.booleans(),
    superseded=st.booleans(),
    heartbeat_age_s=st.none() | ages,
    progress_age_s=ages,
    output_age_s=ages,
    session_age_s=ages,
    verdict_age_s=ages,
    tail=st.sampled_from(["", PROMPT, "⠋ thinking"]) | st.text(max_size=80),
)
alive = sightings.map(
    lambda sighting: sighting.model_copy(
        update={"started": True, "present": True, "pane_dead": False, "superseded": False, "done_told": False}
    )
)
limits = st.builds(
    Thresholds,
    polecat_timeout_s=st.floats(5, 86400),
    grace_s=st.floats(0, 3600),
    stuck_timeout_s=st.floats(10, 86400),
    session_timeout_s=st.just(0.0) | st.floats(1, 604800),
)
earlier_verdicts = st.none() | st.sampled_from(HealthKind)


@given(sightings, limits, earlier_verdicts)
def test_a_fresh_heartbeat_never_hides_a_dead_pane(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    dead = sighting.model_copy(
        update={"started": True, "pane_dead": True, "heartbeat_age_s": 0.0, "superseded": False, "done_told": False}
    )
    assert reported_as(diagnose(dead, thresholds, earlier).kind, dead) is ObservationKind.DIED


@given(sightings, limits, earlier_verdicts)
def test_an_idle_polecat_is_never_accused(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    idle = sighting.model_copy(update={"started": False, "superseded": False})
    assert diagnose(idle, thresholds, earlier).kind in {HealthKind.HEALTHY, HealthKind.RECOVERED}


@given(sightings, limits, earlier_verdicts, st.sampled_from([{"started": False}, {"done_told": True}]))
def test_an_idle_polecat_is_never_restarted(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None, idle: dict[str, bool]
) -> None:
    """No session of it was started, or its work is handed in; whatever else is seen."""
    idler = sighting.model_copy(update=idle)
    assert reported_as(diagnose(idler, thresholds, earlier).kind, idler) in {None, ObservationKind.RECOVERED}


@given(alive, limits, earlier_verdicts)
def test_ages_below_all_thresholds_are_always_healthy(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    fresh = sighting.model_copy(
        update={
            "heartbeat_age_s": None if sighting.heartbeat_age_s is None else thresholds.polecat_timeout_s,
            "output_age_s": QUESTION_S,
            "progress_age_s": thresholds.stuck_timeout_s,
            "session_age_s": thresholds.session_timeout_s,
        }
    )
    expected = HealthKind.RECOVERED if earlier in ACCUSATIONS else HealthKind.HEALTHY
    assert diagnose(fresh, thresholds, earlier).kind is expected


@given(alive, limits, earlier_verdicts)
def test_an_agent_that_never_beat_is_stuck_at_worst(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    unbounded = thresholds.model_copy(update={"session_timeout_s": 0.0})
    silent = sighting.model_copy(update={"heartbeat_age_s": None})
    assert diagnose(silent, unbounded, earlier).kind not in {HealthKind.STALE, HealthKind.UNRESPONSIVE}


@given(alive, limits, earlier_verdicts.filter(lambda kind: kind not in {HealthKind.STALE, HealthKind.UNRESPONSIVE}))
def test_silence_is_never_unresponsive_before_it_was_stale(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    unbounded = thresholds.model_copy(update={"session_timeout_s": 0.0})
    assert diagnose(sighting, unbounded, earlier).kind is not HealthKind.UNRESPONSIVE


@given(alive, limits, st.integers(1, 50), st.floats(0.1, 30))
def test_a_verdict_does_not_flap_within_the_grace(
    sighting: Sighting, thresholds: Thresholds, looks: int, pace_s: float
) -> None:
    """A silent agent is stale at every look of its grace, then unresponsive at every look."""
    unbounded = thresholds.model_copy(update={"session_timeout_s": 0.0})
    silent_for, stands_for = unbounded.polecat_timeout_s + 0.1, 0.0
    earlier: HealthKind | None = None
    for _ in range(looks):
        now = sighting.model_copy(update={"heartbeat_age_s": silent_for, "verdict_age_s": stands_for})
        kind = diagnose(now, unbounded, earlier).kind
        stale_for = silent_for - unbounded.polecat_timeout_s - 0.1
        assert kind in {HealthKind.STALE, HealthKind.UNRESPONSIVE}
        if kind is HealthKind.UNRESPONSIVE:
            assert earlier is not None
            assert stale_for >= unbounded.grace_s - 1e-3
        else:
            assert earlier in {None, HealthKind.STALE}
        stands_for = stands_for + pace_s if kind is earlier else pace_s
        earlier, silent_for = kind, silent_for + pace_s


@given(alive, limits, st.sampled_from(sorted(ACCUSATIONS)))
def test_a_recovery_is_said_once(sighting: Sighting, thresholds: Thresholds, earlier: HealthKind) -> None:
    well = sighting.model_copy(update={"heartbeat_age_s": 0.0, "progress_age_s": 0.0, "session_age_s": 0.0})
    first = diagnose(well, thresholds, earlier).kind
    assert first is HealthKind.RECOVERED
    assert diagnose(well, thresholds, first).kind is HealthKind.HEALTHY


@given(sightings, limits, earlier_verdicts)
def test_output_is_not_progress(sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None) -> None:
    """But for a question, which stands where nothing is written any more."""
    sighting = sighting.model_copy(update={"tail": "working"})
    spins = diagnose(sighting.model_copy(update={"output_age_s": 0.0}), thresholds, earlier)
    quiet = diagnose(sighting.model_copy(update={"output_age_s": 1e6}), thresholds, earlier)
    assert (spins.kind, spins.rule) == (quiet.kind, quiet.rule)


@given(sightings, limits, earlier_verdicts)
def test_the_tail_matters_only_where_it_is_read(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    unread = sighting.model_copy(update={"tail": ""})
    if not needs_tail(sighting, thresholds):
        assert diagnose(sighting, thresholds, earlier) == diagnose(unread, thresholds, earlier)


@given(sightings, limits, earlier_verdicts)
def test_the_built_in_diagnosis_draws_no_objection(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    assert objection(sighting, diagnose(sighting, thresholds, earlier)) == ""


@given(sightings, limits, earlier_verdicts)
def test_a_verdict_is_the_same_after_a_journey_as_json(
    sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None
) -> None:
    told = Sighting.model_validate_json(sighting.model_dump_json())
    limits_told = Thresholds.model_validate_json(thresholds.model_dump_json())
    assert diagnose(told, limits_told, earlier) == diagnose(sighting, thresholds, earlier)


@given(sightings)
def test_only_what_ran_can_be_dead(sighting: Sighting) -> None:
    assert not is_dead(sighting.model_copy(update={"started": False}))
