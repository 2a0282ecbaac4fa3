"""What a town lives through while its histories are recorded: every path that a workflow can take, by short settings.

Real servers, worker, sessions and repositories; a second host that is lost. Each chapter ends with what it is about
in the record, so that the same is in the histories each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from models import names
from models.job.messages import Decision, DecisionKind, HostLost
from models.mayor.escalations import EscalationCleared, EscalationResolve
from models.refinery.messages import Withdraw
from services.temporal import long_lived
from services.temporal.client import connect
from tests.e2e.held_agents import SETTINGS, held, landed_once, supervised_town
from tests.e2e.living_town import shell_agent, wait_until
from tests.e2e.quick_town import QuickTown
from tests.e2e.test_two_hosts import FIRST, SECOND, SecondHost, hosts_of
from workflows.dispatch.state import DispatchState
from workflows.mayor.state import MayorState
from workflows.refinery.state import RefineryState
from workflows.supervision.deacon_state import DeaconState
from workflows.supervision.witness_state import WitnessState

RIG: Final = "shop"
LONG_LIVED: Final[dict[str, Any]] = {
    names.MAYOR_ID: MayorState(patience=6),
    names.DEACON_ID: DeaconState(patience=30),
    names.dispatch_id(RIG): DispatchState(rig=RIG, patience=25),
    names.refinery_id(RIG): RefineryState(rig=RIG, patience=8),
    names.witness_id(RIG): WitnessState(rig=RIG, patience=15),
}
"""as they are begun here: after so many messages a run hands over, which takes a thousand elsewhere"""
JOB_MESSAGES: Final = 1000
"""after which a job hands over; it has no other way"""
PATIENCE_S: Final = 180.0
STANDS_STILL_S: Final = 12.0
"""a task has 5; a worker that is silent for 15 is ended by the supervisor"""


@contextlib.contextmanager
def town() -> Iterator[QuickTown]:
    """A town that is up, with the rig `shop`, whose watchers hand over soon."""
    with supervised_town(SETTINGS | {"checkpoint.interval": 10}, host=SECOND) as living:
        ask(living, _begin_again)
        yield living


def tell(town: QuickTown) -> None:
    """The whole story."""
    for chapter in (
        merged, killed, helped, reworked, conflicting, cancelled, skipped, exhausted, handed_over, reset,
        timed_out, taken_over, rebuilt, stopped, braked, host_lost, cleaned_up, deacon_gone, small_ones,
    ):  # fmt: skip
        began = time.monotonic()
        chapter(town)
        print(f"{chapter.__name__}: {time.monotonic() - began:.0f} s", flush=True)


# --- jobs -----------------------------------------------------------------------------------------


def merged(town: QuickTown) -> None:
    bead = town.bead("add a")
    town.sling(bead, shell_agent(file="a.py"))
    landed_once(town, bead)


def killed(town: QuickTown) -> None:
    """Its agent dies, and another goes on."""
    job = held(town, "killed")
    job.sling()
    os.kill(job.waits(), signal.SIGKILL)
    job.waits()
    job.go()
    landed_once(town, job.bead)


def helped(town: QuickTown) -> None:
    """Its agent asks a question; a person answers, and then has the job begun again."""
    job = held(town, "asks")
    job.sling(before="gt escalate 'which way?' || true")
    job.waits()
    resolve(town, job.bead, DecisionKind.IGNORE)
    town.run("gt", "job", "reassign", job.bead)
    job.waits()
    job.go()
    landed_once(town, job.bead)


def reworked(town: QuickTown) -> None:
    """What it hands in first fails its gates."""
    bead = town.bead("breaks the gate")
    bad = f"[ $GT_ATTEMPT = 1 ] && echo 'x = (' > {bead}.py || echo 'x = 1' > {bead}.py"
    town.sling(bead, shell_agent(file=f"{bead}.py", before=bad))
    landed_once(town, bead)


def conflicting(town: QuickTown) -> None:
    """Two change one line: the second goes back, and rebases."""
    commit = "git -c user.name=a -c user.email=a@example.com commit -qam"
    rebase = "git fetch -q origin; git reset -q --hard origin/$GT_TARGET"
    beads = [town.bead(f"words {number}") for number in (1, 2)]
    paused(town, True)
    for bead in beads:
        town.sling(bead, f"[ $GT_ATTEMPT = 1 ] || {{ {rebase}; }}; echo {bead} > README.md; {commit} {bead}; gt done")
    for bead in beads:
        happens(town, bead, "submitted")
    paused(town, False)
    landed_once(town, *beads)


def cancelled(town: QuickTown) -> None:
    """One at work, and one that waits to be merged."""
    job, queued = held(town, "given up at work"), town.bead("given up in the queue")
    paused(town, True)
    town.sling(queued, shell_agent(file=f"{queued}.py"))
    job.sling()
    job.waits()
    happens(town, queued, "submitted")
    for bead in (job.bead, queued):
        town.run("gt", "job", "cancel", bead)
        ended(town, bead)
    paused(town, False)


def skipped(town: QuickTown) -> None:
    """Held back while it waits, merged by a person's word; another one returned to its job."""
    first, second = town.bead("held back"), town.bead("returned")
    paused(town, True)
    for bead in (first, second):
        town.sling(bead, shell_agent(file=f"{bead}.py"))
        happens(town, bead, "submitted")
    item = request_of(town, first)
    town.run("gt", "refinery", "skip", item, "--rig", RIG)
    paused(town, False)
    landed_once(town, second)
    town.run("gt", "refinery", "process", item, "--rig", RIG)
    landed_once(town, first)
    paused(town, True)
    third = town.bead("cleared")
    town.sling(third, shell_agent(file=f"{third}.py"))
    happens(town, third, "submitted")
    town.run("gt", "refinery", "clear", "--rig", RIG)
    ended(town, third)
    paused(town, False)


def exhausted(town: QuickTown) -> None:
    """Its agent fails until a person gives it up."""
    bead = town.bead("fails always")
    town.sling(bead, "exit 3")
    resolve(town, bead, DecisionKind.ABANDON)
    ended(town, bead)


def rebuilt(town: QuickTown) -> None:
    """Its workflow is gone; the record knows it, and its agent lives."""
    job = held(town, "rebuilt")
    job.sling()
    job.waits()

    async def terminate(client: Client) -> None:
        await client.get_workflow_handle(names.polecat_id(RIG, job.bead)).terminate("as a lost server would")

    ask(town, terminate)
    town.run("gt", "polecat", "recover", "--rig", RIG)
    job.go()
    landed_once(town, job.bead)


# --- what befalls any workflow --------------------------------------------------------------------


def handed_over(town: QuickTown) -> None:
    """A job has had as many messages as a run takes."""
    job = held(town, "long")
    job.sling()
    job.waits()
    where = names.polecat_id(RIG, job.bead)

    async def flood(client: Client) -> None:
        handle = client.get_workflow_handle(where)
        first = (await handle.describe()).run_id
        for start in range(0, JOB_MESSAGES, 50):
            told = HostLost(host="elsewhere")
            await asyncio.gather(*(handle.signal("host_lost", told) for _ in range(start, start + 50)))
        await eventually("the next run", lambda: _runs_other_than(client, where, first))
        events = [event async for event in client.get_workflow_handle(where, run_id=first).fetch_history_events()]
        print(f"the first run of {where} ended with {EventType.Name(events[-1].event_type)}", flush=True)

    ask(town, flood)
    job.go()
    landed_once(town, job.bead)


def reset(town: QuickTown) -> None:
    """Every workflow that lives goes back to its last task."""
    job = held(town, "reset")
    job.sling()
    job.waits()

    async def to_last_task(client: Client) -> None:
        for where in (*LONG_LIVED, names.polecat_id(RIG, job.bead)):
            await _reset(client, where)

    ask(town, to_last_task)
    job.go()
    landed_once(town, job.bead)


def timed_out(town: QuickTown) -> None:
    """The worker stands still with a task in its hands: everybody's, one after the other."""
    job = held(town, "timed out")
    job.sling()
    job.waits()
    where = names.polecat_id(RIG, job.bead)
    messages: dict[str, tuple[str, Any]] = {
        names.MAYOR_ID: ("cleared", EscalationCleared(id="nothing")),
        names.DEACON_ID: ("decision", Decision(kind=DecisionKind.RETRY, escalation="nothing")),
        names.dispatch_id(RIG): ("wake", None),
        names.refinery_id(RIG): ("withdraw", Withdraw(merge_request="none", bead=job.bead, attempt=99)),
        names.witness_id(RIG): ("settings_changed", None),
        where: ("host_lost", HostLost(host="elsewhere")),
    }

    async def stand_still(client: Client) -> None:
        for each, (name, message) in messages.items():
            await _time_out(client, town, each, name, message)

    ask(town, stand_still)
    job.go()
    landed_once(town, job.bead)


def taken_over(town: QuickTown) -> None:
    """The worker is killed in mid-job."""
    job = held(town, "taken over")
    job.sling()
    job.waits()
    died = town.kill_service("worker")
    wait_until("the next worker", lambda: town.service("worker").pid not in (None, died), PATIENCE_S)
    job.go()
    landed_once(town, job.bead)


def stopped(town: QuickTown) -> None:
    """Stopped, started and restarted by a person."""
    for who in ("witness", "refinery", "deacon"):
        where = () if who == "deacon" else ("--rig", RIG)
        for order in ("stop", "start", "restart"):
            town.run("gt", who, order, *where, expect=None)
    town.run("gt", "mayor", "restart")


# --- hosts, watchers, the town --------------------------------------------------------------------


def braked(town: QuickTown) -> None:
    """Agents die as soon as they are started, until one lives."""
    well = town.shared / "well"
    beads = [town.bead(f"dies at once {number}") for number in range(3)]
    for bead in beads:
        town.sling(bead, shell_agent(file=f"{bead}.py", before=f"[ -e {well} ] || exit 3"))
    wait_until("the brake", lambda: [told for told in town.escalations() if "paused" in told.message], PATIENCE_S)
    well.touch()
    landed_once(town, *beads)


def host_lost(town: QuickTown) -> None:
    """A host is gone with a job on it, and comes back."""
    with contextlib.closing(SecondHost(town, FIRST)) as host:
        host.start()
        wait_until("the town to know it", lambda: FIRST in hosts_of(town), PATIENCE_S)
        job = held(town, "survives its host")
        job.sling()
        job.waits()
        assert town.job(job.bead).host == FIRST
        host.kill()
        wait_until("the job to be elsewhere", lambda: town.job(job.bead).host == SECOND, PATIENCE_S)
        job.waits()
        host.start()
        job.go()
        landed_once(town, job.bead)

        def over() -> bool:
            return all(told.resolved for told in town.escalations() if told.kind == "host_lost")

        wait_until("the loss to be over", over, PATIENCE_S)


def cleaned_up(town: QuickTown) -> None:
    """A person types to a polecat, and then takes it from its work by force."""
    job = held(town, "cleaned up")
    job.sling()
    job.waits()
    polecat = town.job(job.bead).polecat
    assert polecat is not None
    town.run("gt", "polecat", "nudge", polecat, "go on", "--rig", RIG)
    town.run("gt", "polecat", "cleanup", polecat, "--rig", RIG, "--force", timeout_s=PATIENCE_S)
    job.waits()
    job.go()
    landed_once(town, job.bead)


def deacon_gone(town: QuickTown) -> None:
    """Boot finds it well, and once gone."""
    town.run("gt", "boot", "run", timeout_s=PATIENCE_S)

    async def terminate(client: Client) -> None:
        await client.get_workflow_handle(names.DEACON_ID).terminate("as a person might")

    ask(town, terminate)
    town.run("gt", "boot", "run", timeout_s=PATIENCE_S)


def small_ones(town: QuickTown) -> None:
    """What Schedules start."""

    async def run(client: Client) -> None:
        for kind, where in (
            (names.WorkflowType.DEADMAN, names.DEADMAN_ID),
            (names.WorkflowType.UPKEEP, names.UPKEEP_ID),
            (names.WorkflowType.VERIFY, names.VERIFY_ID),
        ):
            await client.execute_workflow(kind.value, id=f"{where}-recorded", task_queue=names.TOWN_QUEUE)

    ask(town, run)


# --- asking and waiting ---------------------------------------------------------------------------


def ask(town: QuickTown, asked: Callable[[Client], Awaitable[Any]]) -> Any:
    """Do something with a client of the town."""

    async def connected() -> Any:
        return await asked(await connect(town.town))

    return asyncio.run(connected())


def happens(town: QuickTown, bead: str, event: str) -> None:
    wait_until(f"{event} of {bead}", lambda: event in town.events(bead), PATIENCE_S)


def ended(town: QuickTown, bead: str) -> None:
    wait_until(f"the end of {bead}", lambda: town.job(bead).state.final, PATIENCE_S)


def paused(town: QuickTown, on: bool) -> None:
    town.run("gt", "refinery", "pause" if on else "resume", "--rig", RIG)


def request_of(town: QuickTown, bead: str) -> str:
    items = town.json("gt", "refinery", "queue", "--rig", RIG)["items"]
    return str(next(item["id"] for item in items if item["bead"] == bead))


def resolve(town: QuickTown, bead: str, kind: DecisionKind) -> None:
    """Decide on what is open about a bead, as soon as it is."""

    def open_one() -> str | None:
        return next((told.id for told in town.escalations(bead) if not told.resolved), None)

    asked = wait_until(f"something to decide about {bead}", open_one, PATIENCE_S)

    async def decide(client: Client) -> None:
        mayor = client.get_workflow_handle(names.MAYOR_ID)
        await mayor.execute_update("resolve", EscalationResolve(id=asked, action=kind, by="a person"))

    ask(town, decide)


async def eventually(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        await asyncio.sleep(0.2)


async def _begin_again(client: Client) -> None:
    for where, state in LONG_LIVED.items():
        await long_lived.start(client, where, state, WorkflowIDConflictPolicy.TERMINATE_EXISTING)


async def _runs_other_than(client: Client, where: str, run: str) -> bool:
    return (await client.get_workflow_handle(where).describe()).run_id != run


async def _time_out(client: Client, town: QuickTown, where: str, signal_name: str, message: Any) -> None:
    """Have the worker stand still until a task of this workflow has timed out; again where another run took it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        run = (await client.get_workflow_handle(where).describe()).run_id
        handle = client.get_workflow_handle(where, run_id=run)
        pid = town.service("worker").pid
        if pid is None:
            await asyncio.sleep(0.5)
            continue
        os.kill(pid, signal.SIGSTOP)
        try:
            with contextlib.suppress(RPCError):
                await (handle.signal(signal_name) if message is None else handle.signal(signal_name, message))
            until = time.monotonic() + STANDS_STILL_S
            while time.monotonic() < until:
                types = [event.event_type async for event in handle.fetch_history_events()]
                if EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT in types:
                    return
                await asyncio.sleep(0.2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1)
    raise AssertionError(f"no task of {where} timed out")


async def _reset(client: Client, where: str) -> None:
    """To its last completed task; again where it has handed over meanwhile."""
    for _ in range(10):
        handle = client.get_workflow_handle(where)
        run = (await handle.describe()).run_id
        events = [event async for event in client.get_workflow_handle(where, run_id=run).fetch_history_events()]
        done = [each.event_id for each in events if each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
        if done:
            request = ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=where, run_id=run),
                reason="recorded",
                workflow_task_finish_event_id=done[-1],
                request_id=str(uuid.uuid4()),
            )
            with contextlib.suppress(RPCError):
                await client.workflow_service.reset_workflow_execution(request)
                return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{where} could not be reset")
