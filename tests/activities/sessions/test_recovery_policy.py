"""A rig's own diagnosis: found, asked, and overruled where it cannot be right."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.sessions import recovery_policy
from activities.sessions.recovery_policy import AGAIN_S, Case, RecoveryPolicies
from models.job.health import HealthKind, Sighting, Thresholds
from policies.job.health import diagnose
from tests.pace import DEADLINE_S

LIMITS = Thresholds(polecat_timeout_s=30, grace_s=10, stuck_timeout_s=100)
WELL = Case(Sighting(started=True, present=True, progress_age_s=20), LIMITS, None)
QUIET = Case(Sighting(started=True, present=True, progress_age_s=60, output_age_s=50), LIMITS, None)
DEAD = Case(Sighting(started=True, present=True, pane_dead=True, exit_code=1), LIMITS, None)

EXAMPLE = Path(__file__).parents[3] / "docs" / "recovery-policy.md"


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that answers has all the time that a busy machine takes."""
    monkeypatch.setattr(recovery_policy, "ANSWER_S", DEADLINE_S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(place: Path, body: str, name: str = "own_policy") -> str:
    """A module with the function `judge(sighting, thresholds, earlier)`; what the setting says."""
    imports = "import time\nfrom models.job.health import *\nfrom policies.job.health import diagnose\n"
    function = f"def judge(sighting, thresholds, earlier):\n    {body}\n"
    (place / f"{name}.py").write_text(imports + function)
    return f"{name}:judge"


def test_without_a_policy_the_built_in_diagnosis_judges() -> None:
    verdicts, error = RecoveryPolicies().judge("", [WELL, DEAD])
    assert (verdicts, error) == ([diagnose(*WELL), diagnose(*DEAD)], "")


def test_a_policy_judges_in_its_place(place: Path) -> None:
    name = write(place, "return Diagnosis(kind=HealthKind.STUCK, rule='mine', reason='because')")
    verdicts, error = RecoveryPolicies().judge(name, [WELL, DEAD])
    assert [(verdict.kind, verdict.rule) for verdict in verdicts] == [(HealthKind.STUCK, "mine")] * 2
    assert error == ""


def test_a_policy_may_be_an_entry_point_of_an_installed_package(place: Path) -> None:
    write(place, "return Diagnosis(kind=HealthKind.STUCK, rule='packaged')")
    info = place / "own_policy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-policy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gastown.recovery]\nstrict = own_policy:judge\n")
    verdicts, error = RecoveryPolicies().judge("strict", [WELL])
    assert (verdicts[0].rule, error) == ("packaged", "")


def test_the_example_of_the_docs_does_what_they_say(place: Path) -> None:
    text = EXAMPLE.read_text()
    code = text.split("```python", 1)[1].split("```", 1)[0]
    (place / "impatient.py").write_text(code)
    assert "impatient:judge" in text
    verdicts, error = RecoveryPolicies().judge("impatient:judge", [WELL, QUIET, DEAD])
    assert error == ""
    assert verdicts[0] == diagnose(*WELL)
    assert (verdicts[1].kind, verdicts[1].rule) == (HealthKind.STUCK, "silent_pane")
    assert verdicts[2] == diagnose(*DEAD)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("raise ValueError('no idea')", "ValueError: no idea"),
        ("return HealthKind.HEALTHY", "answered HealthKind, not Diagnosis"),
        ("return Diagnosis(kind='healthy', rule='hopeful')", "said healthy although the session is dead"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_where_a_policy_fails_the_built_in_holds_and_the_report_says_so(place: Path, body: str, what: str) -> None:
    verdicts, error = RecoveryPolicies().judge(write(place, body), [DEAD])
    assert verdicts == [diagnose(*DEAD)]
    assert what in error
    assert "the built-in diagnosis holds" in error


def test_a_policy_that_fails_at_one_session_still_judges_the_others(place: Path) -> None:
    body = "return Diagnosis(kind='stuck', rule='mine') if sighting.pane_dead else 1 / 0"
    verdicts, error = RecoveryPolicies().judge(write(place, body), [WELL, DEAD])
    assert verdicts[0] == diagnose(*WELL)
    assert verdicts[1].rule == "mine"
    assert "ZeroDivisionError" in error


@pytest.mark.parametrize(
    "name", ["nothing_of_this_name", "no_such_module:judge", "json:no_such_function", "json:", ":"]
)
def test_a_policy_that_is_not_there_is_said_to_be(name: str) -> None:
    verdicts, error = RecoveryPolicies().judge(name, [WELL])
    assert verdicts == [diagnose(*WELL)]
    assert repr(name) in error


def test_a_policy_that_was_installed_later_is_found_after_a_while(place: Path) -> None:
    now = 0.0
    policies = RecoveryPolicies(clock=lambda: now)
    assert policies.judge("late:judge", [WELL])[1]
    write(place, "return Diagnosis(kind='healthy', rule='late')", "late")
    assert policies.judge("late:judge", [WELL])[1], "not at every look"
    now = AGAIN_S + 1
    verdicts, error = policies.judge("late:judge", [WELL])
    assert (verdicts[0].rule, error) == ("late", "")


def test_a_policy_that_hangs_holds_up_one_look_and_costs_one_thread(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_policy, "ANSWER_S", 1.0)
    now = 0.0
    policies = RecoveryPolicies(clock=lambda: now)
    name = write(place, "time.sleep(1000)")
    began = time.monotonic()
    verdicts, error = policies.judge(name, [WELL])
    assert time.monotonic() - began > 0.9
    assert (verdicts, "no answer within 1 s" in error) == ([diagnose(*WELL)], True)
    now = AGAIN_S + 1
    assert "still without an answer" in policies.judge(name, [WELL])[1], "it is not asked again, nor waited for"


def test_an_error_is_logged_once(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    policies = RecoveryPolicies()
    name = write(place, "return None")
    for _ in range(5):
        policies.judge(name, [WELL])
    assert len(caplog.records) == 1
