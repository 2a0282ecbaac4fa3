"""Gates wait for a core on the server: however many wait, other work on their host goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import worker
from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from activities.sessions.inbox import PostActivities
from models.base import Frozen
from models.ledger.records import GateSpec, Rig
from models.mayor.mail import Message
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain
from models.supervision.host_requests import DeliverLetter, ErrandResult
from services.town import Town
from services.worker.polling import patient
from tests.activities.workshop import Workshop, git
from tests.pace import DEADLINE_S
from tests.sandboxes import BARE
from tests.services.conftest import eventually, scratch_town
from tests.temporal_server import client_of
from workflows.shared import activity_options

QUEUE = "probe"
GATES = 24
"""more than the host's other work has slots"""
CORES = os.cpu_count() or 1
HELD = 'echo > "$RUNS/$$"; ls "$RUNS" | wc -l >> "$MOST"; while ! test -e "$LET_GO"; do sleep 0.05; done; rm "$RUNS/$$"'
"""a gate that runs until it is let go, and notes how many run with it"""


class Gating(Frozen):
    host: str
    order: RunGates


class Post(Frozen):
    host: str
    letter: DeliverLetter


@workflow.defn
class GateProbe:
    """Runs gates as a merge does."""

    @workflow.run
    async def run(self, gating: Gating) -> GateReport:
        return await workflow.execute_activity_method(
            GateActivities.run_gates, gating.order, **activity_options.gates(gating.host, timedelta(hours=1))
        )


@workflow.defn
class StepProbe:
    """A step of a job that needs no gate."""

    @workflow.run
    async def run(self, post: Post) -> ErrandResult:
        return await workflow.execute_activity_method(
            PostActivities.deliver_letter, post.letter, **activity_options.host_work(post.host)
        )


class Host:
    """A host-only worker of a town, and gates that run until they are let go."""

    def __init__(self, client: Client, town: Town, folder: Path, sha: str) -> None:
        self.client = client
        self.name = town.file.host
        self.runs, self.most, self.let_go = folder / "runs", folder / "most", folder / "let-go"
        self.runs.mkdir()
        self._sha = sha
        variables = {"RUNS": self.runs, "MOST": self.most, "LET_GO": self.let_go}
        said = " ".join(f"{name}={path};" for name, path in variables.items())
        self._gate = GateSpec(name="test", command=f"{said} {HELD}", timeout_s=1800)

    async def start_gates(self, number: int) -> WorkflowHandle[GateProbe, GateReport]:
        label = f"merge/shop/{number}/tip-1"
        order = RunGates(rig="shop", sha=self._sha, gates=(self._gate,), label=label, sandbox=BARE)
        gating = Gating(host=self.name, order=order)
        return await self.client.start_workflow(GateProbe.run, gating, id=f"gates-{number}", task_queue=QUEUE)

    async def step(self) -> ErrandResult:
        letter = Message(id="m1", sender="ada", recipient="shop/toast", subject="hello", sent_at=datetime.now(UTC))
        post = Post(
            host=self.name,
            letter=DeliverLetter(rig="shop", polecat="toast", bead="sh-1", attempt=1, letter=letter),
        )
        return await self.client.execute_workflow(StepProbe.run, post, id="step", task_queue=QUEUE)

    async def all_cores_gate(self) -> None:
        async def full() -> bool:
            # Each has noted, too, how many it saw.
            noted = self.most.read_text().split() if self.most.exists() else []
            return len(list(self.runs.iterdir())) == len(noted) == CORES

        await eventually("a gate on each core", full)


@pytest.fixture
def idle_town() -> Iterator[Town]:
    with scratch_town("embedded") as made:
        yield made


@pytest.fixture
async def host(port: int, idle_town: Town, tmp_path: Path) -> AsyncIterator[Host]:
    """Its landing clone holds the commit that is gated."""
    client, paths = await client_of(port), idle_town.paths
    workers = worker.build_workers(client, idle_town, host_only=True)
    sha = await asyncio.to_thread(candidate, tmp_path, LandingActivities(paths))
    probes = patient(
        Worker(client, task_queue=QUEUE, workflows=[GateProbe, StepProbe], workflow_runner=UnsandboxedWorkflowRunner())
    )
    async with contextlib.AsyncExitStack() as stack:
        for each in (probes, *workers):
            await stack.enter_async_context(each)
        made = Host(client, idle_town, tmp_path, sha)
        yield made
        made.let_go.touch()


def candidate(folder: Path, landing: LandingActivities) -> str:
    remote = folder / "remote.git"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(folder, "clone", "--quiet", str(remote), str(folder / "seed"))
    (folder / "seed" / "README.md").write_text("shop\n")
    git(folder / "seed", "checkout", "--quiet", "-b", "main")
    git(folder / "seed", "add", "README.md")
    git(folder / "seed", "commit", "--quiet", "-m", "Seed")
    git(folder / "seed", "push", "--quiet", "origin", "main")
    rig = Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime.now(UTC))
    change = Workshop(remote, folder / "workshop").change("sh-1", {"new.txt": "new\n"})
    return landing.build_chain(BuildChain(rig=rig, target="main", changes=(change,))).links[0].sha


async def test_a_step_that_needs_no_gate_goes_on_while_gates_wait_for_a_core(host: Host) -> None:
    gating = [await host.start_gates(number) for number in range(GATES)]
    await host.all_cores_gate()
    await asyncio.wait_for(host.step(), DEADLINE_S)
    host.let_go.touch()
    reports = await asyncio.gather(*(each.result() for each in gating))
    assert {report.outcome for report in reports} == {GateOutcome.PASSED}
    assert max(int(line) for line in host.most.read_text().split()) == CORES


async def test_gates_that_wait_for_a_core_are_given_up_at_once_and_never_run(host: Host) -> None:
    gating = [await host.start_gates(number) for number in range(CORES + 1)]
    await host.all_cores_gate()
    (waiting,) = [each for each in gating if not await has_begun(each)]
    await waiting.cancel()
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(waiting.result(), DEADLINE_S)
    host.let_go.touch()
    await asyncio.gather(*(each.result() for each in gating if each is not waiting))
    assert len(host.most.read_text().split()) == CORES


async def has_begun(gating: WorkflowHandle[GateProbe, GateReport]) -> bool:
    described = await gating.describe()
    return any(each.HasField("last_started_time") for each in described.raw_description.pending_activities)
