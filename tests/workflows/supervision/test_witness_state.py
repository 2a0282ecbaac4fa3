"""What a Witness answers of several hosts, and by which limits its verdicts can be checked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from models.job.attempts import WatchReport
from models.job.health import Diagnosis, HealthKind, HealthReport, Sighting, Thresholds
from models.settings import HealthSettings, Settings
from models.supervision.messages import WitnessHealth
from policies.job.health import diagnose
from workflows.supervision.witness_state import HostWatch, WitnessState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def report(kind: HealthKind, attempt: int, age_s: float) -> WatchReport:
    found = HealthReport(
        polecat="toast",
        attempt=attempt,
        sighting=Sighting(started=True, present=True, superseded=kind is HealthKind.ZOMBIE),
        diagnosis=Diagnosis(kind=kind, rule="a rule"),
    )
    ages = {"sh-1": age_s}
    return WatchReport(health={"sh-1": found}, heartbeat_age_s=ages, progress_age_s=ages)


def test_a_verdict_comes_with_the_limits_that_gave_it_whatever_the_settings_are_by_now() -> None:
    limits = Thresholds.of(HealthSettings(polecat_timeout=300))
    sighting = Sighting(started=True, present=True, heartbeat_age_s=400.0)
    judged = HealthReport(
        polecat="toast",
        attempt=1,
        sighting=sighting,
        earlier=HealthKind.HEALTHY,
        diagnosis=diagnose(sighting, limits, HealthKind.HEALTHY),
    )
    state = WitnessState(rig="shop", settings=Settings(health=HealthSettings(polecat_timeout=900)))
    state.watches["h1"] = HostWatch(begun_at=NOW, report=WatchReport(health={"sh-1": judged}, thresholds=limits))
    answer = WitnessHealth.model_validate_json(state.health().model_dump_json())
    shown = answer.reports["sh-1"]
    assert shown.diagnosis.kind is HealthKind.STALE
    assert diagnose(shown.sighting, answer.limits_of("sh-1"), shown.earlier) == shown.diagnosis
    assert answer.limits_of("sh-2") == answer.thresholds == Thresholds.of(state.settings.health)


@pytest.mark.parametrize(("runs", "over"), [("a", "b"), ("b", "a")])
def test_of_a_bead_on_two_hosts_the_newest_attempt_is_shown(runs: str, over: str) -> None:
    state = WitnessState(rig="shop")
    state.watches[runs] = HostWatch(begun_at=NOW, report=report(HealthKind.HEALTHY, 4, age_s=5))
    state.watches[over] = HostWatch(begun_at=NOW, report=report(HealthKind.ZOMBIE, 3, age_s=900))
    assert state.health().reports["sh-1"].attempt == 4
    status = state.status()
    assert status.health == {"sh-1": "healthy"}
    assert status.heartbeat_age_s == status.progress_age_s == {"sh-1": 5}


def test_what_was_seen_of_a_host_stays_while_a_patrol_walks_there() -> None:
    """Its round still notes there that the host was attended; without it the Witness's code failed for good."""
    state = WitnessState(rig="shop", watches={host: HostWatch(begun_at=NOW) for host in ("h1", "h2")})
    state.drop_idle_watches(["h1"])
    assert list(state.watches) == ["h1"]
