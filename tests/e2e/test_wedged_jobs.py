"""Jobs whose code fails in a real town: the agents work on, and nothing that they do is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from models import names
from models.names import WorkflowType
from services.temporal.client import connect
from tests.e2e.held_agents import Held, held, landed_once, supervised_town
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown


@pytest.fixture(scope="module")
def town() -> Iterator[QuickTown]:
    with supervised_town() as living:
        yield living


async def wedge(town: QuickTown, *beads: str) -> None:
    """Give these jobs a run whose every task fails, as one that a new version of the code cannot read."""
    client = await connect(town.town)
    for bead in beads:
        job = names.polecat_id("shop", bead)
        await client.get_workflow_handle(job).terminate("the test")
        await client.start_workflow(
            WorkflowType.POLECAT,
            "not the state of a job",
            id=job,
            task_queue=names.TOWN_QUEUE,
            task_timeout=timedelta(seconds=3),
        )


def planned(town: QuickTown) -> dict[str, str]:
    """What `gt polecat recover --all` would do, by bead."""
    jobs = town.json("gt", "polecat", "recover", "--all", "--dry-run")["jobs"]
    return {job["bead"]: job["action"] for job in jobs}


def test_jobs_whose_code_fails_are_begun_again_from_the_record_by_a_person_or_the_deacon(town: QuickTown) -> None:
    by_person, by_deacon, handed_in = held(town, "by a person"), held(town, "by the Deacon"), held(town, "handed in")
    agents: list[Held] = [by_person, by_deacon, handed_in]
    beads = [job.bead for job in agents]
    town.run("gt", "refinery", "pause", "--rig", "shop")
    for job in agents:
        job.sling()
        job.waits()
    handed_in.go()
    wait_until("it to be handed in", lambda: "submitted" in town.events(handed_in.bead))
    town.run("gt", "deacon", "stop")
    asyncio.run(wedge(town, *beads))
    by_person.go()

    wait_until("all of them to be known to fail", lambda: planned(town) == dict.fromkeys(beads, "rebuilt"))
    name = str(town.job(by_person.bead).polecat)
    (done,) = town.json("gt", "polecat", "recover", name)["jobs"]
    assert (done["bead"], done["action"]) == (by_person.bead, "rebuilt")
    assert done["detail"].startswith("its code failed")
    town.run("gt", "refinery", "resume", "--rig", "shop")
    landed_once(town, by_person.bead)
    assert planned(town) == dict.fromkeys([by_deacon.bead, handed_in.bead], "rebuilt"), "the others stand still"

    town.run("gt", "deacon", "start")
    landed_once(town, handed_in.bead)
    wait_until("the Deacon to begin the other again", lambda: "rebuilt" in town.events(by_deacon.bead))
    by_deacon.go()
    landed_once(town, by_deacon.bead)
    for job in agents:
        assert (town.job(job.bead).attempt, town.job(job.bead).restarts) == (1, 0), "its agent was not started anew"
    assert town.escalations(*beads) == [], "nobody had to be called"
