"""What the next agent is told of a git command that was left half way."""

from __future__ import annotations

import pytest

from policies.underway import LISTED, Underway

SHA, OLD = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("underway", "told"),
    [
        (Underway("rebase", SHA, OLD), [f"onto {SHA}", f"git reset --hard {OLD} and git rebase {SHA}", "git commit"]),
        (Underway("rebase", SHA), ["To end it", "git commit"]),
        (Underway("merge", SHA), [f"git merge {SHA}", "MERGE_HEAD"]),
        (Underway("cherry-pick", SHA), [f"of {SHA}", f"git commit -C {SHA}"]),
        (Underway("cherry-pick"), ["git commit"]),
        (Underway("revert", SHA, left=(f"revert {OLD} x",)), ["Not begun yet:", f"revert {OLD} x", "git cherry-pick"]),
        (Underway("bisect"), ["git bisect replay"]),
        (Underway("am"), ["git am those"]),
        (Underway("merge", SHA, unmerged=("a.py", "b.py")), ["With conflicts: a.py, b.py"]),
    ],
)
def test_each_command_has_a_way_on(underway: Underway, told: list[str]) -> None:
    advice = underway.advice()
    for words in told:
        assert words in advice
    assert all(line.strip() for line in advice.splitlines()), "an empty line would end the paragraph of a message"


def test_of_many_steps_and_files_the_first_are_named_and_the_others_counted() -> None:
    many = tuple(f"step-{number}" for number in range(LISTED + 5))
    advice = Underway("rebase", SHA, OLD, left=many, unmerged=many).advice()
    assert f"step-{LISTED - 1}" in advice
    assert f"step-{LISTED}" not in advice
    assert advice.count("and 5 more") == 2
