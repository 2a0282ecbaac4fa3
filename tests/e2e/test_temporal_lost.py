"""Temporal's database is gone: `gt polecat recover --all` rebuilds every unfinished job from Dolt and git."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.living_town import git, running_town, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.fault_document import documented


@pytest.fixture
def town() -> Iterator[QuickTown]:
    """On a Dolt server: what both engines promise, tests/ledger/ runs on both."""
    with running_town(QuickTown, "server") as living:
        yield living


def held_agent(town: QuickTown, file: str) -> tuple[str, Path, Path]:
    """Leaves something uncommitted, counts how often it was started, and goes on when it is told to."""
    starts, go = town.shared / f"{file}.starts", town.shared / f"{file}.go"
    before = f"echo half > half.txt; echo $GT_ATTEMPT >> {starts}; while [ ! -e {go} ]; do sleep 0.1; done"
    return shell_agent(file=file, before=before), starts, go


def recorded(town: QuickTown) -> dict[str, str]:
    """The state of each bead's job."""
    with town.record() as ledger:
        return {row.bead: row.state.value for row in ledger.jobs()}


def wait_for_state(town: QuickTown, bead: str, state: str) -> None:
    wait_until(f"{bead} to be {state} in the record", lambda: recorded(town).get(bead) == state)


@pytest.mark.document("1: 所有状态存储在 Dolt 中", "2: 需要灾难恢复", "8: 恢复 Polecats")
def test_with_temporals_database_lost_recover_all_rebuilds_every_unfinished_job(town: QuickTown) -> None:
    merged, living, dying = town.bead("merged before"), town.bead("its agent lives"), town.bead("its agent dies")
    queued, blocked = town.bead("waits for its merge"), town.bead("waits for a person")
    waiting = town.bead("waits for another", "--dep", living)
    town.sling(merged, shell_agent(file="merged.py"))
    town.wait_closed(merged)

    live, live_starts, live_go = held_agent(town, "living.py")
    die, die_starts, die_go = held_agent(town, "dying.py")
    town.run("gt", "refinery", "pause", "--rig", "shop")
    town.sling(living, live)
    town.sling(dying, die)
    town.sling(waiting, shell_agent(file="waiting.py"))
    town.sling(queued, shell_agent(file="queued.py"))
    town.sling(blocked, "gt done --status blocked -m 'which way?'; exec sleep 600")
    for bead, state in ((living, "working"), (dying, "working"), (queued, "submitted"), (blocked, "blocked")):
        wait_for_state(town, bead, state)
    wait_until("both agents to work", lambda: live_starts.exists() and die_starts.exists())
    wait_for_state(town, waiting, "waiting")

    polecats = town.json("gt", "polecat", "list")
    name = next(row["name"] for row in polecats if row["bead"] == dying)
    town.run("gt", "down")
    subprocess.run(["tmux", "-L", town.tmux_socket(), "kill-session", "-t", f"=shop--{name}"], env=town.env, check=True)
    for file in (town.root / "data").glob("temporal.db*"):
        file.unlink()
    town.up()

    planned = town.json("gt", "polecat", "recover", "--all", "--dry-run")
    assert {job["bead"] for job in planned["jobs"]} == {living, dying, queued, blocked, waiting}
    assert planned["dry_run"]
    done = town.json(*documented("gt polecat recover --all"))
    assert (done["rebuilt"], done["failed"]) == (5, 0), done
    assert town.run("gt", "polecat", "recover", "--all", "-o", "json").returncode == 0

    town.wait_closed(queued)
    wait_for_state(town, blocked, "blocked")
    wait_until("the dead agent to be followed by another", lambda: len(die_starts.read_text().split()) == 2)
    live_go.touch()
    die_go.touch()
    for bead in (living, dying, waiting):
        town.wait_closed(bead)
    for bead in (merged, living, dying, queued, waiting):
        assert len(town.landed(bead)) == 1, f"{bead} landed {town.landed(bead)}"

    assert live_starts.read_text().split() == ["1"], "a living agent is adopted"
    assert die_starts.read_text().split() == ["1", "2"], "an attempt's number is never used again"
    assert town.json("gt", "job", "show", queued)["attempt"] == 1, "no agent was started for what waited for its merge"
    assert town.json("gt", "polecat", "recover", "--all")["rebuilt"] == 0
    town.run("gt", "job", "cancel", blocked)
    wait_for_state(town, blocked, "abandoned")
    assert town.json("gt", "polecat", "recover", "--all")["jobs"] == []
    for bead in (living, dying):
        tree = git(town.remote, "ls-tree", "-r", "--name-only", town.landed(bead)[0])
        assert "half.txt" in tree, "what was uncommitted when all was lost has landed with the rest"
