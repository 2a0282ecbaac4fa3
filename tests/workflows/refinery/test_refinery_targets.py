"""One queue, several targets: each batch is for one of them, and the trouble of one is not another one's."""

from __future__ import annotations

import pytest

from models.job.messages import Decision, DecisionKind
from models.ledger.records import MergeRequest
from models.refinery.answers import ItemRef, QueueWhy
from models.refinery.gates import GateReport
from tests.workflows.probes import eventually
from tests.workflows.refinery.merge_world import KILLED, PASSED, MergeWorld, change
from tests.workflows.refinery.refinery_yard import Open
from workflows.refinery.workflow import RefineryWorkflow

pytestmark = pytest.mark.own_clocks


def to_next(bead: str) -> MergeRequest:
    return change(bead).model_copy(update={"target": "next"})


async def test_changes_for_two_targets_land_each_on_its_own_while_one_of_them_is_broken(yard: Open) -> None:
    def gates(held: tuple[str, ...], run: int) -> GateReport:
        return KILLED if "broken" in held and not mended else PASSED

    mended: list[bool] = []
    world = MergeWorld(gates, others={"next": "n"}, holds={"base": (), "n": ("broken",)})
    async with yard(world, retry_count=0) as town:
        await town.pause()
        await town.submit(to_next("sh-1"), change("sh-2"), to_next("sh-3"), change("sh-4"))
        await town.resume()

        async def held() -> bool:
            status = await town.queue()
            held = status.held_targets.keys() == {"next"} and {item.target for item in status.items} == {"next"}
            return held and len(town.post.letters) == 1

        await eventually(held, what="main to be merged to, and next to be held and reported")
        assert world.landings == [("sh-2", "sh-4")]
        status = await town.queue()
        assert (status.paused, [item.bead for item in status.items]) == (False, ["sh-1", "sh-3"])
        why: QueueWhy = await town.refinery.query(RefineryWorkflow.why, ItemRef(id="sh-1"))
        assert why.words[0].startswith("Nothing is merged to next: gates could not run")
        [asked] = town.post.letters
        assert (asked.kind, asked.subject) == ("gate_broken", "shop/next")
        await town.submit(change("sh-5"))

        async def on() -> bool:
            return world.landed == ("sh-2", "sh-4", "sh-5")

        await eventually(on, what="the rig's own branch to be merged to all the same")
        mended.append(True)
        await town.refinery.signal(
            RefineryWorkflow.decision, Decision(kind=DecisionKind.RETRY, reason="mended", escalation=asked.id)
        )
        await town.settled()
        assert world.holds[world.others["next"]] == ("broken", "sh-1", "sh-3")
        assert len(world.landings) == 2
