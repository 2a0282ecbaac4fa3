"""The commands of the user's document about polecats, as they stand there, on a living town.

One town serves the whole module; each test has beads and files of its own and leaves no session behind.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.ledger.records import JobState
from tests.e2e.held_agents import landed_once, living_beads, supervised_town
from tests.e2e.living_town import git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.fault_document import documented

SHOP = {"gastown": "shop"}
SETTINGS = {"health.check_interval": 2, "session.done_grace": 1, "checkpoint.interval": 10}


@pytest.fixture(scope="module")
def shop() -> Iterator[QuickTown]:
    """One running town on the embedded ledger: the commands do not differ between ledgers."""
    with supervised_town(SETTINGS) as living:
        yield living


class Waiting:
    """A bead whose agent leaves something uncommitted and waits for a word before it finishes."""

    def __init__(self, town: QuickTown, title: str, before: str = "true") -> None:
        self.bead = town.bead(title)
        self.name = f"{self.bead}.txt"
        self.go = town.shared / f"{self.bead}.go"
        self._town = town
        half = f"echo half > {self.name}; {before}"
        agent = f"{half}; while [ ! -e {self.go} ]; do sleep 0.1; done"
        self.polecat = started(town, self.bead, shell_agent(file=f"{self.bead}.py", before=agent))
        wait_until("something uncommitted", self.at(self.polecat).exists)

    def at(self, polecat: str) -> Path:
        """Its uncommitted file in a polecat's worktree."""
        return self._town.root / "rigs" / "shop" / "polecats" / polecat / self.name

    def lands(self) -> None:
        self.go.touch()
        landed_once(self._town, self.bead)


def polecat_of(town: QuickTown, bead: str, attempt: int = 1) -> str:
    """The polecat that works on an attempt of the bead, once its session lives."""

    def working() -> str | None:
        with town.record() as ledger:
            job = ledger.job(bead)
        # Slung is not recorded yet: the job writes that down itself.
        if job is None or job.state is not JobState.WORKING or job.attempt != attempt:
            return None
        return job.polecat

    return str(wait_until(f"attempt {attempt} of {bead} to be worked on", working))


def started(town: QuickTown, bead: str, agent: str) -> str:
    town.sling(bead, agent)
    return polecat_of(town, bead)


def parked(town: QuickTown, bead: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = town.json("gt", "polecat", "parked")
    return [work for work in found if work["bead"] == bead and work["parked"]]


def test_a_polecat_is_cleaned_by_force_and_its_job_goes_on_with_another(shop: QuickTown) -> None:
    work = Waiting(shop, "cleaned by force")
    name = work.polecat

    refused = shop.run("gt", "polecat", "cleanup", name, "--rig", "shop", expect=5)
    assert "--force" in refused.stderr
    planned = shop.json("gt", "polecat", "cleanup", name, "--rig", "shop", "--force", "--dry-run")
    assert [item["action"] for item in planned["items"]] == ["reassign", "clean"]
    assert work.at(name).exists()

    done = shop.json(*documented("gt polecat cleanup toast-1 --rig gastown --force", {"toast-1": name, **SHOP}))
    assert [item["kept_reason"] for item in done["items"]] == ["", ""]
    assert not work.at(name).exists()
    (put_aside,) = parked(shop, work.bead)
    assert (put_aside["attempt"], put_aside["on_remote"], put_aside["merged"]) == (1, True, False)
    assert git(shop.remote, "show", f"{put_aside['ref']}:{work.name}") == "half\n"
    assert list((shop.root / "evidence" / work.bead / "1").iterdir())

    other = polecat_of(shop, work.bead, attempt=2)
    assert other != name
    assert work.at(other).exists(), "what was parked is restored"
    work.lands()
    assert [one["merged"] for one in parked(shop, work.bead)] == [True]
    assert shop.run("gt", "polecat", "parked", "expire", expect=2).stderr.startswith("error: ")
    expired = shop.json("gt", "polecat", "parked", "expire", "--yes")["expired"]
    assert put_aside["ref"] in [one["ref"] for one in expired]
    assert parked(shop, work.bead) == []


@pytest.mark.document("3: Zombie")
def test_zombies_are_cleaned_and_what_is_worked_on_is_not(shop: QuickTown) -> None:
    work, zombie = Waiting(shop, "worked on"), Waiting(shop, "its job is terminated")
    assert shop.json("gt", "polecat", "cleanup", "--rig", "shop", "--zombies")["items"] == []
    # Else it might clean up before the command does.
    shop.run("gt", "witness", "stop", "--rig", "shop")
    terminate(shop, f"polecat/shop/{zombie.bead}")
    done = shop.json(*documented("gt polecat cleanup --rig gastown --zombies", SHOP))
    (item,) = done["items"]
    assert (item["polecat"], item["bead"], item["worktree_freed"]) == (zombie.polecat, zombie.bead, True)
    assert git(shop.remote, "show", f"{item['parked_ref']}:{zombie.name}") == "half\n"
    assert living_beads(shop) == {work.bead}
    assert shop.json("gt", "polecat", "cleanup", "--rig", "shop", "--stuck")["items"] == []
    shop.run("gt", "witness", "start", "--rig", "shop")
    work.lands()


def test_a_stuck_polecat_is_cleaned_and_its_job_goes_on_with_another(shop: QuickTown) -> None:
    work = Waiting(shop, "stuck")

    def cleaned() -> list[dict[str, Any]]:
        line = documented("gt polecat cleanup --rig gastown --stuck", SHOP)
        items: list[dict[str, Any]] = shop.json(*line)["items"]
        return items

    assert cleaned() == [], "it may take half an hour"
    shop.configure({"health.stuck_timeout": 10})
    try:
        (item,) = wait_until("it to be called stuck", cleaned)
    finally:
        shop.configure({"health.stuck_timeout": 1800})
    assert (item["polecat"], item["bead"], item["action"]) == (work.polecat, work.bead, "reassign")
    assert item["kept_reason"] == ""
    work.lands()
    assert shop.job(work.bead).attempt == 2


def test_a_stopped_polecats_work_comes_back_with_one_command(shop: QuickTown, tmp_path: Path) -> None:
    work = Waiting(shop, "stopped", before="echo TOKEN=x > .env")
    assert shop.json("gt", "polecat", "stop", work.polecat, "--dry-run")["was"] == "working"
    shop.run("gt", "polecat", "stop", work.polecat)
    wait_until("the bead to be deferred", lambda: shop.status_of(work.bead) == "deferred")
    assert work.bead not in living_beads(shop)
    (put_aside,) = parked(shop, work.bead)
    subprocess.run(["sh", "-c", put_aside["fetch"]], cwd=tmp_path, check=True)
    assert [path.read_text() for path in tmp_path.glob("*/.env")] == ["TOKEN=x\n"]

    back = shop.json("gt", "polecat", "unpark", work.bead)
    assert git(shop.remote, "show", f"{back['branch']}:{work.name}") == "half\n"
    shop.sling(work.bead, shell_agent(file=f"{work.bead}.py", before=f"test -e {work.name} || exit 9"))
    landed_once(shop, work.bead)
    assert work.name in git(shop.remote, "ls-tree", "--name-only", shop.landed(work.bead)[0])


def test_a_restarted_polecat_begins_another_attempt_where_it_was(shop: QuickTown) -> None:
    work = Waiting(shop, "restarted")
    shop.run("gt", "polecat", "restart", work.polecat)
    assert polecat_of(shop, work.bead, attempt=2) == work.polecat
    work.lands()
    assert shop.run("gt", "polecat", "restart", work.polecat, expect=5).stderr.startswith("error: ")


def test_an_agent_that_waits_for_a_word_gets_it(shop: QuickTown) -> None:
    bead = shop.bead("waits for a word")
    name = started(shop, bead, shell_agent(file=f"{bead}.py", before="read word; echo $word > word.txt"))
    shop.run("gt", "polecat", "nudge", name, "go on")
    landed_once(shop, bead)
    assert git(shop.remote, "show", f"{shop.landed(bead)[0]}:word.txt") == "go on\n"


def test_work_in_progress_is_on_the_remote_after_an_interval_and_gone_after_the_merge(shop: QuickTown) -> None:
    work = Waiting(shop, "saved")
    wip = f"refs/gastown/wip/{work.bead}/1"

    def saved() -> str:
        return git(shop.remote, "for-each-ref", "--format=%(refname)", wip)

    wait_until("the work to be saved", saved)
    assert git(shop.remote, "show", f"{wip}:{work.name}") == "half\n"
    work.lands()
    wait_until("the save to be gone", lambda: not saved())


def terminate(town: QuickTown, workflow_id: str) -> None:
    """What a person may do in Temporal's Web UI: the job is gone without a word."""
    import asyncio

    from services.temporal.client import connect
    from services.town import load_town

    async def end() -> None:
        client = await connect(load_town(town.root))
        await client.get_workflow_handle(workflow_id).terminate("a test")

    asyncio.run(end())
