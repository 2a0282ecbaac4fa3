"""The commands of the user's document about polecats, as they stand there, on a living town."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.living_town import LivingTown, git, shell_agent, wait_until
from tests.fault_document import documented

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def shop() -> Iterator[LivingTown]:
    """One running town on the embedded ledger: the commands do not differ between ledgers."""
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = LivingTown(Path(folder), store="embedded")
        try:
            living.init()
            living.run("gt", "up")
            living.add_rig()
            yield living
        finally:
            living.close()


def polecat_of(town: LivingTown, bead: str) -> str:
    """The polecat that works on the bead, once its session lives."""

    def working() -> str:
        rows = town.json("gt", "polecat", "list", "--rig", "shop")
        return next((str(row["name"]) for row in rows if row["bead"] == bead and row["state"] == "working"), "")

    return str(wait_until(f"{bead} to be worked on", working, 60))


def started(town: LivingTown, bead: str, agent: str) -> str:
    town.sling(bead, agent)
    return polecat_of(town, bead)


def parked(town: LivingTown) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = town.json("gt", "polecat", "parked")
    return found


def half_done(town: LivingTown, file: str = "a.py") -> tuple[str, Path]:
    """An agent that leaves something uncommitted, and waits for a file before it finishes."""
    go = town.folder / f"{file}.go"
    return shell_agent(file=file, before=f"echo half > half.txt; while [ ! -e {go} ]; do sleep 0.1; done"), go


def test_a_polecat_is_cleaned_by_force_and_its_job_goes_on_with_another(shop: LivingTown) -> None:
    bead = shop.bead("cleaned by force")
    agent, go = half_done(shop)
    name = started(shop, bead, agent)
    worktree = shop.root / "rigs" / "shop" / "polecats" / name
    wait_until("something uncommitted", (worktree / "half.txt").exists, 30)

    refused = shop.run("gt", "polecat", "cleanup", name, "--rig", "shop", expect=5)
    assert "--force" in refused.stderr
    planned = shop.json("gt", "polecat", "cleanup", name, "--rig", "shop", "--force", "--dry-run")
    assert [item["action"] for item in planned["items"]] == ["reassign", "clean"]
    assert (worktree / "half.txt").exists()

    words = {"toast-1": name, "gastown": "shop"}
    done = shop.json(*documented("gt polecat cleanup toast-1 --rig gastown --force", words))
    assert [item["kept_reason"] for item in done["items"]] == ["", ""]
    assert not (worktree / "half.txt").exists()
    (work,) = parked(shop)
    assert (work["bead"], work["attempt"], work["on_remote"], work["merged"]) == (bead, 1, True, False)
    assert git(shop.remote, "show", f"{work['ref']}:half.txt") == "half\n"
    assert list((shop.root / "evidence" / bead / "1").iterdir())

    other = polecat_of(shop, bead)
    assert other != name
    assert (shop.root / "rigs" / "shop" / "polecats" / other / "half.txt").exists(), "what was parked is restored"
    go.touch()
    shop.wait_closed(bead)
    assert len(shop.landed(bead)) == 1
    assert [work["merged"] for work in parked(shop)] == [True]
    assert shop.run("gt", "polecat", "parked", "expire", expect=2).stderr.startswith("error: ")
    assert len(shop.json("gt", "polecat", "parked", "expire", "--yes")["expired"]) == 1
    assert parked(shop) == []


@pytest.mark.document("3: Zombie")
def test_zombies_are_cleaned_and_what_is_worked_on_is_not(shop: LivingTown) -> None:
    bead, other = shop.bead("worked on"), shop.bead("its job is terminated")
    agent, go = half_done(shop)
    name = started(shop, bead, agent)
    zombie = started(shop, other, "echo lost > lost.txt; exec sleep 600")
    wait_until("its file", (shop.root / "rigs" / "shop" / "polecats" / zombie / "lost.txt").exists, 30)
    assert shop.json("gt", "polecat", "cleanup", "--rig", "shop", "--zombies")["items"] == []

    terminate(shop, f"polecat/shop/{other}")
    done = shop.json(*documented("gt polecat cleanup --rig gastown --zombies", {"gastown": "shop"}))
    (item,) = done["items"]
    assert (item["polecat"], item["bead"], item["worktree_freed"]) == (zombie, other, True)
    assert git(shop.remote, "show", f"{item['parked_ref']}:lost.txt") == "lost\n"
    assert shop.sessions() == [f"shop--{name}"]
    assert shop.json("gt", "polecat", "cleanup", "--rig", "shop", "--stuck")["items"] == []
    go.touch()
    shop.wait_closed(bead)


def test_a_stuck_polecat_is_cleaned_and_its_job_goes_on_with_another(shop: LivingTown) -> None:
    shop.run("gt", "config", "health.stuck_timeout", "10")
    shop.run("gt", "config", "health.check_interval", "2")
    bead, go = shop.bead("stuck"), shop.folder / "go"
    name = started(shop, bead, shell_agent(file="a.py", before=f"echo half > half.txt; [ -e {go} ] || sleep 600"))

    def cleaned() -> list[dict[str, Any]]:
        line = documented("gt polecat cleanup --rig gastown --stuck", {"gastown": "shop"})
        items: list[dict[str, Any]] = shop.json(*line)["items"]
        return items

    assert cleaned() == [], "it has only just begun"
    go.touch()
    (item,) = wait_until("it to be called stuck", cleaned, 120)
    assert (item["polecat"], item["bead"], item["action"], item["kept_reason"]) == (name, bead, "reassign", "")
    shop.wait_closed(bead)
    assert len(shop.landed(bead)) == 1
    assert shop.json("gt", "job", "show", bead)["attempt"] == 2


def test_a_stopped_polecats_work_comes_back_with_one_command(shop: LivingTown) -> None:
    bead = shop.bead("stopped")
    agent, go = half_done(shop)
    name = started(shop, bead, agent)
    wait_until("its file", (shop.root / "rigs" / "shop" / "polecats" / name / "half.txt").exists, 30)
    assert shop.json("gt", "polecat", "stop", name, "--dry-run")["was"] == "working"
    shop.run("gt", "polecat", "stop", name)
    wait_until("the bead to be deferred", lambda: shop.status_of(bead) == "deferred", 60)
    assert shop.sessions() == []
    assert [work["bead"] for work in parked(shop)] == [bead]

    back = shop.json("gt", "polecat", "unpark", bead)
    assert git(shop.remote, "show", f"{back['branch']}:half.txt") == "half\n"
    go.touch()
    shop.sling(bead, shell_agent(file="a.py", before="test -e half.txt || exit 9"))
    shop.wait_closed(bead)
    assert "half.txt" in git(shop.remote, "ls-tree", "--name-only", shop.landed(bead)[0])


def test_a_restarted_polecat_begins_another_attempt_where_it_was(shop: LivingTown) -> None:
    bead = shop.bead("restarted")
    agent, go = half_done(shop)
    name = started(shop, bead, agent)
    shop.run("gt", "polecat", "restart", name)
    wait_until("attempt 2", lambda: shop.json("gt", "job", "show", bead)["attempt"] == 2, 60)
    assert polecat_of(shop, bead) == name
    go.touch()
    shop.wait_closed(bead)
    assert shop.run("gt", "polecat", "restart", name, expect=5).stderr.startswith("error: ")


def test_an_agent_that_waits_for_a_word_gets_it(shop: LivingTown) -> None:
    bead = shop.bead("waits for a word")
    name = started(shop, bead, shell_agent(file="a.py", before="read word; echo $word > word.txt"))
    shop.run("gt", "polecat", "nudge", name, "go on")
    shop.wait_closed(bead)
    assert git(shop.remote, "show", f"{shop.landed(bead)[0]}:word.txt") == "go on\n"


def test_work_in_progress_is_on_the_remote_after_an_interval_and_gone_after_the_merge(shop: LivingTown) -> None:
    shop.run("gt", "config", "checkpoint.interval", "10")
    shop.run("gt", "config", "health.check_interval", "2")
    bead = shop.bead("saved")
    agent, go = half_done(shop)
    started(shop, bead, agent)
    wip = f"refs/gastown/wip/{bead}/1"

    def saved() -> str:
        return git(shop.remote, "for-each-ref", "--format=%(refname)", wip)

    wait_until("the work to be saved", saved, 90)
    assert git(shop.remote, "show", f"{wip}:half.txt") == "half\n"
    go.touch()
    shop.wait_closed(bead)
    wait_until("the save to be gone", lambda: not saved(), 60)


def terminate(town: LivingTown, workflow_id: str) -> None:
    """What a person may do in Temporal's Web UI: the job is gone without a word."""
    import asyncio

    from services.temporal import connect
    from services.town import load_town

    async def end() -> None:
        client = await connect(load_town(town.root))
        await client.get_workflow_handle(workflow_id).terminate("a test")

    asyncio.run(end())
