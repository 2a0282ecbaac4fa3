"""Jobs and merges whose code fails, as policy: set going again once each, and told when that does not help."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.supervision.messages import Wedged
from policies.supervision.failing_workflows import KEPT, KEY, WedgedMemory


def job(bead: str, run: str = "r1") -> Wedged:
    return Wedged(workflow_id=f"polecat/shop/{bead}", run_id=run)


MERGE = Wedged(workflow_id="merge/shop/7", run_id="r1")


def failing(memory: WedgedMemory, *told: str) -> list[str]:
    return [check.subject for check in memory.checks(dict.fromkeys(told, "e")) if not check.ok]


def test_what_is_found_is_owed_until_it_is_done_even_if_it_is_not_found_any_more() -> None:
    memory = WedgedMemory().found((job("sh-1"), MERGE))
    assert memory.owed == (job("sh-1"), MERGE)
    assert memory.found((job("sh-1"),)).found(()).found(None).owed == memory.owed
    assert memory.done(job("sh-1"), ended=True).owed == (MERGE,)


def test_the_first_time_nobody_is_told() -> None:
    memory = WedgedMemory().found((job("sh-1"),))
    assert failing(memory) == []
    assert failing(memory.done(job("sh-1"), ended=True)) == []


def test_one_that_fails_again_is_left_alone_and_told() -> None:
    memory = WedgedMemory().found((job("sh-1"),)).done(job("sh-1"), ended=True).found((job("sh-1", "r2"),))
    assert (memory.owed, failing(memory)) == ((), ["polecat/shop/sh-1"])
    (check,) = memory.checks({})
    assert check.key == "wedged/polecat/shop/sh-1"
    assert "gt polecat recover --rig shop" in check.hint


def test_it_is_over_when_it_does_not_fail_any_more_and_no_look_ends_nothing() -> None:
    memory = WedgedMemory(tried=(MERGE,)).found((MERGE.model_copy(update={"run_id": "r2"}),))
    told = KEY + MERGE.workflow_id
    assert failing(memory.found(None), told) == [MERGE.workflow_id]
    (check,) = memory.found(()).checks({told: "e"})
    assert check.ok
    assert "gt refinery queue --rig shop" in check.hint


def test_a_run_that_was_ended_and_is_still_listed_is_not_one_that_fails_again() -> None:
    memory = WedgedMemory().found((MERGE,)).done(MERGE, ended=True).found((MERGE,))
    assert (memory.owed, failing(memory)) == ((), [])


def test_one_that_went_on_by_itself_is_owed_anew_when_it_fails_again() -> None:
    memory = WedgedMemory().found((MERGE,)).done(MERGE, ended=False)
    assert memory.owed == ()
    assert memory.found((MERGE,)).owed == (MERGE,)


def test_they_are_told_in_the_order_in_which_they_were_found_in_every_process() -> None:
    """A replay in another process must come to the same letters."""
    beads = [f"sh-{number}" for number in range(12)]
    memory = WedgedMemory(again=tuple(job(bead).workflow_id for bead in beads))
    told = dict.fromkeys((KEY + job(bead).workflow_id for bead in ("sh-3", "sh-77", "sh-55")), "e")
    assert [check.subject for check in memory.checks(told)] == [
        job(bead).workflow_id for bead in (*beads, "sh-77", "sh-55")
    ]


@given(st.lists(st.lists(st.sampled_from(["sh-1", "sh-2", "sh-3"]), unique=True), max_size=12))
def test_nobody_is_set_going_twice_and_everybody_once(looks: list[list[str]]) -> None:
    memory, done = WedgedMemory(), list[str]()
    for look in looks:
        memory = memory.found(tuple(job(bead) for bead in look))
        for owed in memory.owed:
            done.append(owed.bead)
            memory = memory.done(owed, ended=True)
    assert sorted(done) == sorted({bead for look in looks for bead in look})


def test_what_it_remembers_is_bounded() -> None:
    memory = WedgedMemory()
    for number in range(KEPT + 5):
        memory = memory.found((job(f"sh-{number}"),)).done(job(f"sh-{number}"), ended=True)
    assert len(memory.tried) == KEPT
    assert memory.tried[-1] == job(f"sh-{KEPT + 4}")
