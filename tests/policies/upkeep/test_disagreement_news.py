"""Disagreements are told when they begin and when they are over, and nothing is over that was not looked at."""

from __future__ import annotations

from models.upkeep.verification import Problem, ProblemKind, ToldProblem, TownLook
from policies.upkeep.disagreements import MORE, MOST_TOLD, News, news, still_there

GIT, TEMPORAL = ProblemKind.CLOSED_NOT_LANDED, ProblemKind.HOOKED_WITHOUT_JOB


def problem(subject: str, kind: ProblemKind = GIT, rig: str = "shop") -> Problem:
    return Problem(kind=kind, subject=subject, rig=rig, message="m", command="c")


def told(*problems: Problem) -> dict[str, ToldProblem]:
    return {one.key: ToldProblem(escalation=f"e-{one.subject}", kind=one.kind, rig=one.rig) for one in problems}


def test_what_is_new_begins_and_what_is_known_is_not_told_again() -> None:
    one, two = problem("sh-1"), problem("sh-2")
    assert news(TownLook(problems=(one, two)), told(one)) == News(begun=(two,))


def test_what_is_gone_is_over() -> None:
    one = problem("sh-1")
    assert news(TownLook(), told(one)) == News(over=told(one))


def test_what_could_not_be_looked_at_is_not_over() -> None:
    of_git, of_temporal = problem("sh-1"), problem("sh-2", TEMPORAL, rig="")
    known = told(of_git, of_temporal)
    assert news(TownLook(unread_rigs=("shop",)), known).over == told(of_temporal)
    assert news(TownLook(unread_rigs=("till",)), known).over == known
    assert news(TownLook(temporal_unread=True), known).over == told(of_git)
    assert news(TownLook(ledger_unread=True), known).over == {}


def test_a_flood_is_told_one_by_one_up_to_a_number_and_as_one_beyond_it_until_it_is_over() -> None:
    flood = tuple(problem(f"sh-{number}") for number in range(MOST_TOLD + 5))
    begun = news(TownLook(problems=flood, more=7), {})
    assert (begun.begun, begun.more) == (flood[:MOST_TOLD], 12)
    known = told(*begun.begun) | {MORE: ToldProblem(escalation="e-more")}
    assert news(TownLook(problems=flood, more=7), known) == News()
    # As some are mended the next are told one by one.
    rest = news(TownLook(problems=flood[10:]), known)
    assert (len(rest.begun), rest.more) == (5, 0)
    assert set(rest.over) == {*told(*flood[:10]), MORE}
    assert MORE not in news(TownLook(problems=flood[10:], unread_rigs=("till",)), known).over
    assert news(TownLook(), known).over == known


def test_a_difference_that_work_under_way_has_made_is_gone_at_the_second_look() -> None:
    one, two, three = problem("sh-1"), problem("sh-2"), problem("sh-3")
    seen = still_there(TownLook(problems=(one, two)), TownLook(problems=(two, three), more=3))
    assert (seen.problems, seen.more) == ((two,), 0)
