"""The judge of a chaos run must see every promise that is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.judge import BeadFacts, Call, Facts, Injury, Life, judge
from tests.chaos.schedule import FIRST_S, Kind, schedule

BEAD = BeadFacts("sh-1", landed=1, status="closed", close_reason="merged", events=((1, "agent_died"),))
FIRST = Life(since=10.0, until=20.0, left=("sh-1.1.0",), started_at=10.5)
SECOND = Life(since=20.5, until=30.0, found=frozenset({"sh-1.1.0"}), left=("sh-1.2.0",), started_at=21.0)
KILL = Injury(Kind.AGENT, since=19.0, until=19.1, attempt=("sh-1", 1))
GOOD = Facts(
    beads=(BEAD,),
    lives={("sh-1", 1): FIRST, ("sh-1", 2): SECOND},
    injuries=(KILL,),
    kept=frozenset({"sh-1.1.0", "sh-1.2.0"}),
)


BRAKE_CALL = Call("polecat_unresponsive", open=False, message="shop: restarts are paused: 3 of 3 died")


def killed_early(beads: int = 3, apart_s: float = 30, lived_s: float = 10) -> Facts:
    """As many beads of one rig, each with a restarted agent that we killed."""
    lives, injuries = {}, []
    for number in range(1, beads + 1):
        since = number * apart_s
        lives[f"sh-{number}", 2] = Life(since=since, until=since + lived_s)
        injuries.append(Injury(Kind.PANE, since + lived_s - 1, since + lived_s, attempt=(f"sh-{number}", 2)))
    return Facts(beads=(), lives=lives, injuries=tuple(injuries))


def test_the_brakes_call_is_right_where_we_killed_that_many_of_a_rig_early() -> None:
    assert judge(replace(killed_early(), calls=(BRAKE_CALL,))).ok


def test_a_bead_that_was_killed_once_and_merged_once_is_in_order() -> None:
    verdict = judge(GOOD)
    assert verdict.ok
    assert verdict.figures["restarts"] == 1
    assert verdict.figures["false_restarts"] == 0


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(GOOD, beads=(replace(BEAD, landed=2),)), "landed 2 times"),
        (replace(GOOD, beads=(replace(BEAD, landed=0),)), "landed 0 times"),
        (replace(GOOD, beads=(replace(BEAD, status="blocked", close_reason=""),)), "is blocked"),
        (replace(GOOD, injuries=()), "nothing had hit"),
        (replace(GOOD, injuries=(replace(KILL, attempt=("sh-2", 1)),)), "nothing had hit"),
        (replace(GOOD, injuries=(replace(KILL, kind=Kind.WORKER),)), "nothing had hit"),
        (replace(GOOD, injuries=(replace(KILL, kind=Kind.PAUSE),)), "nothing had hit"),
        (replace(GOOD, injuries=(Injury(Kind.TMUX_SERVER, 5.0, 6.0),)), "nothing had hit"),
        (replace(GOOD, kept=frozenset({"sh-1.2.0"})), "mark sh-1.1.0 is on no ref"),
        (
            replace(GOOD, lives={("sh-1", 1): FIRST, ("sh-1", 2): replace(SECOND, found=frozenset())}),
            "mark sh-1.1.0 was not in the worktree of attempt 2",
        ),
        (replace(GOOD, leftovers=("session shop--toast",)), "left behind: session shop--toast"),
        (replace(GOOD, calls=(Call("help", open=True),)), "a person was called: help"),
        (replace(GOOD, calls=(Call("polecat_stuck", open=False),)), "an agent was blamed: polecat_stuck"),
        (replace(GOOD, calls=(BRAKE_CALL,)), "an agent was blamed: polecat_unresponsive"),
        (replace(killed_early(beads=2), calls=(BRAKE_CALL,)), "an agent was blamed: polecat_unresponsive"),
        (replace(killed_early(apart_s=400), calls=(BRAKE_CALL,)), "an agent was blamed: polecat_unresponsive"),
        (replace(killed_early(lived_s=70), calls=(BRAKE_CALL,)), "an agent was blamed: polecat_unresponsive"),
    ],
)
def test_a_broken_promise_is_named(facts: Facts, words: str) -> None:
    verdict = judge(facts)
    assert any(words in violation for violation in verdict.violations)
    assert not verdict.ok


def test_a_dead_tmux_server_explains_the_restart_of_whoever_had_a_session_then() -> None:
    assert judge(replace(GOOD, injuries=(Injury(Kind.TMUX_SERVER, 19.0, 19.2),))).ok


def test_an_agent_that_was_hung_may_be_restarted_and_a_fault_that_ended_by_itself_is_only_counted() -> None:
    verdict = judge(replace(GOOD, injuries=(replace(KILL, kind=Kind.HANG),), calls=(Call("dolt_down", open=False),)))
    assert verdict.ok
    assert verdict.figures["escalations"] == {"dolt_down": 1}


def test_a_rework_is_no_restart() -> None:
    verdict = judge(replace(GOOD, beads=(replace(BEAD, events=((1, "merge_failed"),)),), injuries=()))
    assert verdict.ok
    assert (verdict.figures["restarts"], verdict.figures["reworks"]) == (0, 1)


def test_the_same_seed_gives_the_same_faults_and_a_short_run_has_every_kind() -> None:
    assert schedule(7, 900) == schedule(7, 900)
    assert schedule(7, 900) != schedule(8, 900)
    assert {fault.kind for fault in schedule(7, 120)} == set(Kind)
    assert Kind.DOLT not in {fault.kind for fault in schedule(7, 900, without=frozenset({Kind.DOLT}))}
    assert all(FIRST_S <= fault.at_s < 900 for fault in schedule(7, 900))
