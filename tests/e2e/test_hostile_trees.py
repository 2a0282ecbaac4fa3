"""Agents that hand in trees which git cannot work with, among others that work: the others land meanwhile.

Each of the hostile ones is refused with what is wrong, and its polecat can be freed.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from models.ledger.records import JobState
from tests.e2e import hostile_agent
from tests.e2e.held_agents import supervised_town
from tests.e2e.living_town import shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

SETTINGS = {
    "health.check_interval": 2,
    "session.done_grace": 1,
    "merge_queue.retry_delay": 1,
    "merge_queue.retry_count": 1,
}
GOOD = 3
WORDS = {
    "long-name": "a name has 300 bytes",
    "deep": "folders are more than 1000 deep",
    "long-path": "a path has",
    "dot-git": "hasDotgit",
    "dot-dot": "hasDotdot",
    "slash": "fullPathname",
    "twice": "duplicateEntries",
    "no-blob": "1212121212",
    "no-tree": "1212121212",
    "blob-for-tree": "not a tree",
    # Less one for each file that had landed before the agent began.
    "bomb": "the work has 9999999999",
    "small-bomb": "the work has 9999",
}


@pytest.fixture(scope="module")
def town() -> Iterator[QuickTown]:
    with supervised_town(SETTINGS) as town:
        town.run("gt", "rig", "set", "shop", "--max-polecats", str(len(WORDS) + GOOD))
        yield town


def refusal(town: QuickTown, bead: str) -> str:
    with town.record() as ledger:
        return next((event.detail for event in ledger.job_events(bead) if event.event == "work_refused"), "")


def test_the_others_land_and_each_is_told_what_is_wrong_with_it(town: QuickTown) -> None:
    assert set(WORDS) == set(hostile_agent.KINDS)
    program = shlex.join([sys.executable, hostile_agent.__file__])
    hostile = {kind: town.bead(f"hostile {kind}") for kind in WORDS}
    for kind, bead in hostile.items():
        town.sling(bead, f"{program} {kind}")
    good = [town.bead(f"good {number}") for number in range(GOOD)]
    for bead in good:
        town.sling(bead, shell_agent(file=f"{bead}.py"))
    # What each tree may cost in CPU is measured by tests/activities/gates/test_made_trees.py.
    wait_until("the good ones to land", lambda: all(town.landed(bead) for bead in good))
    for kind, bead in hostile.items():
        words = wait_until(f"{kind} to be refused", partial(refusal, town, bead))
        assert WORDS[kind] in words, kind
    assert not [bead for bead in hostile.values() if town.landed(bead)]

    for bead in hostile.values():
        town.run("gt", "job", "cancel", bead)

    def all_free() -> bool:
        return all(town.job(bead).state is JobState.ABANDONED for bead in hostile.values())

    wait_until("the polecats to be free", all_free)
    listed = town.run("gt", "polecat", "parked", "list", "--rig", "shop").stdout
    assert not [bead for bead in hostile.values() if bead not in listed], listed
    after = town.bead("after")
    town.sling(after, shell_agent(file="after.py"))
    town.wait_closed(after)
