"""Jobs that cannot go on by themselves, in a real town: their code fails, or somebody lies to them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from models import names
from models.job.messages import Verdict, VerdictKind
from models.mayor.escalations import EscalationStatus
from models.names import WorkflowType
from services.temporal.client import connect
from tests.e2e.held_agents import Held, held, landed_once
from tests.e2e.living_town import git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

MADE_UP = "0123456789" * 4


@pytest.fixture
def town(shop: QuickTown) -> QuickTown:
    return shop


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


# --- a verdict is a claim: the remote alone says what is merged ------------------------------------


def forge(town: QuickTown, bead: str, sha: str) -> None:
    """Signal the job as the Refinery does: what any script can do that reaches Temporal."""

    async def send() -> None:
        job = (await connect(town.town)).get_workflow_handle(names.polecat_id("shop", bead))
        request = names.merge_request_id(bead, 1)
        merged = Verdict(merge_request=request, bead=bead, attempt=1, kind=VerdictKind.MERGED, merged_sha=sha)
        await job.signal("verdict", merged)

    asyncio.run(send())


def told(town: QuickTown, bead: str) -> list[EscalationStatus]:
    """Open escalations about the bead."""
    return [one for one in town.escalations(bead) if not one.resolved]


def test_a_forged_verdict_closes_no_bead_and_is_told_once_with_what_the_remote_has(town: QuickTown) -> None:
    bead = town.bead("forge me")
    town.run("gt", "refinery", "pause", "--rig", "shop")
    town.sling(bead, shell_agent(file="forged.py"))
    wait_until("the work to be handed in", lambda: town.status_of(bead) == "submitted")
    tip = git(town.remote, "rev-parse", "main").strip()
    for sha in (MADE_UP, tip, "9" * 40):
        forge(town, bead, sha)
    (one,) = wait_until("a person to be told", lambda: told(town, bead))
    assert (one.level, one.kind) == ("L3", "disagreement")
    assert MADE_UP[:12] in one.message, "what the verdict said"
    assert tip[:12] in one.message, "what the remote has"

    wait_until("each verdict to be checked", lambda: town.events(bead).count("verdict_refused") == 3)
    assert town.status_of(bead) == "submitted"
    assert len(told(town, bead)) == 1

    town.run("gt", "refinery", "resume", "--rig", "shop")
    town.wait_closed(bead)
    shown = town.json("bd", "show", bead)
    assert [shown["merged_sha"]] == town.landed(bead)
    wait_until("the escalation to be over", lambda: not told(town, bead))
