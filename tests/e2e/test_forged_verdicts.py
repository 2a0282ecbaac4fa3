"""A verdict is a claim: the remote alone says what is merged."""

from __future__ import annotations

import asyncio

from models import names
from models.job.messages import Verdict, VerdictKind
from models.mayor.escalations import EscalationStatus
from services.temporal.client import connect
from tests.e2e.living_town import git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

MADE_UP = "0123456789" * 4


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
    town.sling(bead, shell_agent(file="a.py"))
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
