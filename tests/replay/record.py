"""Record one history per workflow: `python -m tests.replay.record [FILE…]`, of all or of the named ones alone.

Run it when a workflow is changed on purpose in a way that cannot replay what ran before; until a
release is out the old histories are replaced, afterwards they stay and new ones join them.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from models import names
from models.alerts import Alerting
from models.attempts import WatchReport, WatchRig
from models.cleanup import CleanupKind, CleanupOrder
from models.errands import Errand, Nudge
from models.escalations import Escalation, EscalationAck, EscalationCleared, EscalationResolve
from models.jobs import DecisionKind, ObservationKind, RigFacts, RigName
from models.merging import PauseRequest
from models.queue import QueueFacts, QueueFactsRequest
from models.records import JobState
from models.supervision import (
    CheckedIn,
    CheckIn,
    DeaconLook,
    HostSigns,
    LookAround,
    LookedAround,
    Probe,
    ProbeResult,
    QueueSigns,
    RestartWorkflow,
    RigWatch,
    TownFacts,
    WitnessPing,
)
from models.upkeep import UpkeepReport, UpkeepRequest
from models.verification import Problem, ProblemKind, TownLook
from tests.unit.test_cleanup_plan import job
from tests.workflows.cleanup_world import CleanupWorld
from tests.workflows.conftest import HOST, time_skipping, workers_of
from tests.workflows.job_world import NOW, JobWorld, Town, rig
from tests.workflows.mayor_world import MayorWorld
from tests.workflows.merge_world import FAILED, PASSED, MergeWorld
from tests.workflows.probes import eventually
from workflows.boot import BootWorkflow
from workflows.cleanup import CleanupWorkflow
from workflows.deadman import DeadmanWorkflow
from workflows.errand import ErrandWorkflow
from workflows.refinery import RefineryWorkflow
from workflows.refinery_state import RefineryState
from workflows.registry import WORKFLOWS
from workflows.upkeep import UpkeepWorkflow
from workflows.verify import VerifyWorkflow
from workflows.witness import WitnessWorkflow
from workflows.witness_state import WitnessState

HISTORIES = Path(__file__).with_name("histories")


class ReplayWorld(JobWorld):
    """A job's world and a merge's in one, with a quiet watch and a Mayor that can be told."""

    @activity.defn
    async def load_rig(self, _asked: RigName) -> RigFacts:
        return RigFacts(rig=self.rig, settings=self.settings, hosts=(HOST,))

    @activity.defn
    async def queue_facts(self, _asked: QueueFactsRequest) -> QueueFacts:
        return QueueFacts(rig=self.rig, settings=self.settings, hosts=(HOST,))

    @activity.defn
    async def watch_rig(self, _request: WatchRig) -> WatchReport:
        return WatchReport()

    looks: ClassVar = iter([ProbeResult.SILENT, ProbeResult.ABSENT])
    """what Boot sees of the Deacon; afterwards it answers"""
    looked = 0
    """how often the Deacon has"""

    @activity.defn
    async def look_at_deacon(self) -> DeaconLook:
        result = next(self.looks, ProbeResult.ANSWERS)
        return DeaconLook(pollers=("h1@town#1",), probe=Probe(workflow_id=names.DEACON_ID, result=result))

    @activity.defn
    async def look_around(self, asked: LookAround) -> LookedAround:
        """The Refinery is gone for two looks."""
        self.looked += 1
        gone = {names.refinery_id("shop")} if self.looked in {2, 3} else set()
        return LookedAround(
            facts=TownFacts(settings=self.settings, rigs={"shop": RigWatch(settings=self.settings)}, hosts=(HOST,)),
            probes=tuple(
                Probe(workflow_id=each, result=ProbeResult.ABSENT if each in gone else ProbeResult.ANSWERS)
                for each in asked.ids
            ),
            queues=tuple(QueueSigns(rig=rig) for rig in asked.rigs),
        )

    @activity.defn
    async def check_in(self, request: CheckIn) -> CheckedIn:
        """Nobody answers, so that the Deacon's silence is in the history as well."""
        return CheckedIn(facts=await self.load_rig(RigName(rig=request.ping.rig)) if request.read else None)

    @activity.defn
    async def look_at_host(self) -> HostSigns:
        """A disk that is filling up."""
        now = activity.info().scheduled_time
        return HostSigns(host=HOST, disk_percent=90, at=now, steady_s=now.timestamp(), steady_since="boot")

    @activity.defn
    async def ping_deadman(self) -> bool:
        return True

    @activity.defn
    async def keep_ledger_small(self, _request: UpkeepRequest) -> UpkeepReport:
        return UpkeepReport(collected_at=NOW, kept_bytes=1_000_000, why="never collected")

    @activity.defn
    async def verify_town(self) -> TownLook:
        problem = Problem(
            kind=ProblemKind.LANDED_UNKNOWN, rig="shop", subject="sh-9", message="older", command="bd log"
        )
        return TownLook(problems=(problem,))

    @activity.defn
    async def restart(self, _order: RestartWorkflow) -> None:
        return None


async def record() -> None:
    """Run one bead through every workflow and write down what happened."""
    world, merges = ReplayWorld(), MergeWorld()
    cleanups = CleanupWorld(jobs={"sh-1": job(host=HOST)})
    runs = iter([FAILED, FAILED, PASSED])
    merges.gates = lambda held, _run: next(runs, PASSED) if held else PASSED
    mayors = MayorWorld(alerting=Alerting(channels=("email",)), hosts=(HOST,))
    ours = [*world.activities, world.load_rig, world.queue_facts, world.watch_rig, *mayors.activities]
    ours += [
        world.look_at_deacon,
        world.check_in,
        world.look_around,
        world.look_at_host,
        world.restart,
        world.ping_deadman,
        world.keep_ledger_small,
        world.verify_town,
    ]
    theirs = [merges.build_chain, merges.run_gates, merges.land_chain, *cleanups.activities]
    async with time_skipping() as env, workers_of(env)(workflows=WORKFLOWS, activities=[*ours, *theirs]):
        await tell_the_story(env, world)
        await orders(env.client)
        HISTORIES.mkdir(exist_ok=True)
        for workflow_id in (
            names.dispatch_id("shop"), names.polecat_id("shop", "sh-1"), names.refinery_id("shop"),
            names.merge_id("shop", 1), names.witness_id("shop"), names.MAYOR_ID, names.DEACON_ID, names.BOOT_ID,
            names.cleanup_id("shop", "polecat.toast"), names.errand_id("nudge"),
            names.DEADMAN_ID, names.UPKEEP_ID, names.VERIFY_ID,
        ):  # fmt: skip
            await save(env.client, workflow_id)


async def tell_the_story(env: WorkflowEnvironment, world: JobWorld) -> None:
    """Help, a death, a gate failure, a rework, a merge."""
    shop = await Town.open(env, world, post_boxes=False)
    queue = names.TOWN_QUEUE
    refinery = await env.client.start_workflow(
        RefineryWorkflow.run, RefineryState(rig="shop"), id=names.refinery_id("shop"), task_queue=queue
    )
    await env.client.start_workflow(
        WitnessWorkflow.run, WitnessState(rig="shop"), id=names.witness_id("shop"), task_queue=queue
    )
    cry = Escalation(
        id="e1", kind="help", level="L2", source="a person", rig="shop", bead="sh-1", message="which?", opened_at=NOW
    )
    mayor = await env.client.start_workflow(
        names.WorkflowType.MAYOR.value, id=names.MAYOR_ID, task_queue=queue, start_signal="escalate",
        start_signal_args=[cry],
    )  # fmt: skip
    await trouble(mayor)
    deacon = await env.client.start_workflow(names.WorkflowType.DEACON.value, id=names.DEACON_ID, task_queue=queue)
    await deacon.signal("witness_ping", WitnessPing(rig="shop", witness=names.witness_id("shop"), number=1))
    await shop.sling("sh-1")
    await shop.reach("sh-1", JobState.WORKING, 1)
    await mayor.execute_update("resolve", EscalationResolve(id="e1", action=DecisionKind.IGNORE))
    await shop.observe("sh-1", ObservationKind.HELP, detail="which?", intent="help/1.json")
    await shop.observe("sh-1", ObservationKind.DIED, exit_code=1, detail="Killed")
    await shop.reach("sh-1", JobState.WORKING, 2)
    await shop.observe("sh-1", ObservationKind.DONE)
    await shop.reach("sh-1", JobState.WORKING, 3)
    await refinery.execute_update("pause", PauseRequest(by="ada"))
    await shop.observe("sh-1", ObservationKind.DONE)
    await shop.reach("sh-1", JobState.SUBMITTED, 3)
    await refinery.execute_update("resume")

    async def merged() -> bool:
        return "merged" in world.events("sh-1")

    await eventually(merged, what="the merge")
    await env.client.execute_workflow(
        BootWorkflow.run, id=names.BOOT_ID, task_queue=queue, execution_timeout=timedelta(minutes=15)
    )
    await env.client.execute_workflow(DeadmanWorkflow.run, id=names.DEADMAN_ID, task_queue=queue)
    await env.client.execute_workflow(UpkeepWorkflow.run, id=names.UPKEEP_ID, task_queue=queue)
    await env.client.execute_workflow(VerifyWorkflow.run, id=names.VERIFY_ID, task_queue=queue)
    await env.sleep(timedelta(minutes=5))


async def orders(client: Client) -> None:
    """A polecat is cleaned up by force, another gets a word."""
    order = CleanupOrder(rig=rig(), kind=CleanupKind.POLECAT, hosts=(HOST,), polecat="toast", force=True)
    await client.execute_workflow(
        CleanupWorkflow.run, order, id=names.cleanup_id("shop", "polecat.toast"), task_queue=names.TOWN_QUEUE
    )
    nudge = Errand(host=HOST, task=Nudge(rig="shop", polecat="nux", text="go on"))
    await client.execute_workflow(ErrandWorkflow.run, nudge, id=names.errand_id("nudge"), task_queue=names.TOWN_QUEUE)


async def trouble(mayor: WorkflowHandle[Any, Any]) -> None:
    """A service to restart, a job that is gone and one that waits, something seen, something over by itself."""
    dolt = Escalation(id="dolt", kind="dolt_down", level="L3", source="deacon", message="no answer", opened_at=NOW)
    await mayor.signal("escalate", dolt)
    for bead, level in (("sh-7", "L1"), ("sh-8", "L2"), ("sh-9", "L3")):
        fault = dolt.model_copy(update={"id": bead, "kind": "polecat_exhausted", "level": level, "bead": bead})
        await mayor.signal("escalate", fault.model_copy(update={"rig": "shop"}))

    async def heard() -> bool:
        return "sh-9" in {each["id"] for each in await mayor.query("escalations")}

    await eventually(heard, what="the last escalation")
    await mayor.execute_update("acknowledge", EscalationAck(id="sh-9"))
    await mayor.signal("cleared", EscalationCleared(id="dolt"))


async def save(client: Client, workflow_id: str) -> None:
    file = f"{workflow_id.replace('/', '.')}.json"
    if sys.argv[1:] and file not in sys.argv[1:]:
        return
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    (HISTORIES / file).write_text(history.to_json() + "\n")


if __name__ == "__main__":
    asyncio.run(record())
