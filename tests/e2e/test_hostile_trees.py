"""Agents that hand in trees which git cannot work with, among others that work: the others land meanwhile.

Each of the hostile ones is refused with what is wrong, and its polecat can be freed.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from models.records import JobState
from tests.e2e import hostile_agent
from tests.e2e.held_agents import supervised_town
from tests.e2e.living_town import shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.pace import Pace

SETTINGS = {
    "health.check_interval": 2,
    "session.done_grace": 1,
    "merge_queue.retry_delay": 1,
    "merge_queue.retry_count": 1,
}
GOOD = 3
QUIET_S = 30.0
"""in which the good ones land on a machine that has nothing else to do"""
WAIT_S = 400.0
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
    "bomb": "999999999999 files",
    "small-bomb": "999999 files",
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
    began, pace = time.monotonic(), Pace()
    for bead in good:
        town.sling(bead, shell_agent(file=f"{bead}.py"))

    def all_landed() -> bool:
        pace.sample()
        return all(town.landed(bead) for bead in good)

    wait_until("the good ones to land", all_landed)
    landed_s = time.monotonic() - began
    for kind, bead in hostile.items():
        words = wait_until(f"{kind} to be refused", partial(refusal, town, bead))
        assert WORDS[kind] in words, kind
    refused_s = time.monotonic() - began
    print(f"landed after {landed_s:.1f} s, all refused after {refused_s:.1f} s; slowness {pace.slowness:.1f}")
    assert refused_s < QUIET_S * pace.slowness
    assert not [bead for bead in hostile.values() if town.landed(bead)]

    for bead in hostile.values():
        town.run("gt", "job", "cancel", bead)

    def all_free() -> bool:
        pace.sample()
        return all(town.job(bead).state is JobState.ABANDONED for bead in hostile.values())

    began = time.monotonic()
    wait_until("the polecats to be free", all_free)
    assert time.monotonic() - began < QUIET_S * pace.slowness
    listed = town.run("gt", "polecat", "parked", "list", "--rig", "shop").stdout
    assert not [bead for bead in hostile.values() if bead not in listed], listed
    after = town.bead("after")
    town.sling(after, shell_agent(file="after.py"))
    town.wait_closed(after)
