"""A merge over several hosts: silent ones are left out, one without the chain builds it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from models import names
from models.errors import ErrorCode
from models.job.messages import VerdictKind
from models.refinery.gates import GateReport, RunGates
from models.refinery.messages import BuildChain, Chain, LandChain, LandResult, MergeOutcome
from models.supervision.messages import HostSigns
from tests.workflows.conftest import workers_of
from tests.workflows.refinery.merge_world import HOST, START, MergeWorld, batch, beads, change
from workflows.refinery.merge import MergeWorkflow

pytestmark = pytest.mark.own_clocks

OTHER = "h2"


class Hosts(MergeWorld):
    """Two hosts; each has only the commits that it built itself."""

    def __init__(self) -> None:
        super().__init__()
        self.worked: list[tuple[str, str]] = []
        """(host, what)"""
        self.bases: list[str] = []
        self.there: dict[str, set[str]] = {}

    def note(self, what: str) -> str:
        host = activity.info().task_queue.partition(".")[2]
        self.worked.append((host, what))
        return host

    @activity.defn
    async def build_chain(self, request: BuildChain) -> Chain:
        host = self.note("build")
        self.bases.append(request.base_sha)
        chain = await super().build_chain(request)
        self.there.setdefault(host, set()).update(link.sha for link in chain.links)
        return chain

    @activity.defn
    async def run_gates(self, request: RunGates) -> GateReport:
        self.require(self.note("gate"), request.sha)
        return await super().run_gates(request)

    @activity.defn
    async def land_chain(self, request: LandChain) -> LandResult:
        self.require(self.note("land"), request.links[-1].sha)
        return await super().land_chain(request)

    def require(self, host: str, sha: str) -> None:
        if sha not in self.there.get(host, set()):
            raise ApplicationError("no such commit", type=ErrorCode.NOT_FOUND.value, non_retryable=True)

    @property
    def hosts(self) -> set[str]:
        return {host for host, _ in self.worked}


async def merge(
    env: WorkflowEnvironment, world: Hosts, serving: tuple[str, ...], hosts: tuple[str, ...], **settings: Any
) -> MergeOutcome:
    """Hosts that nobody serves are waited for, in real time; others never so long."""
    work = batch(*map(change, beads(20)), **settings).model_copy(
        update={"host": hosts[0], "more_hosts": hosts[1:], "host_timeout_s": 600 if set(hosts) <= set(serving) else 5}
    )
    async with workers_of(env)(workflows=[MergeWorkflow], activities=world.activities, hosts=serving):
        return await env.client.execute_workflow(
            MergeWorkflow.run, work, id=names.merge_id("shop", work.number), task_queue=names.TOWN_QUEUE
        )


async def test_runners_on_two_hosts_gate_the_same_chain_and_the_one_that_lacks_it_builds_it(
    real_env: WorkflowEnvironment,
) -> None:
    world = Hosts()
    outcome = await merge(real_env, world, (HOST, OTHER), (HOST, OTHER), max_concurrent=2)
    assert {verdict.kind for verdict in outcome.verdicts} == {VerdictKind.MERGED}
    assert world.landed == tuple(beads(20))
    assert world.hosts == {HOST, OTHER}
    assert world.bases[1:] == ["base"], "the other host builds on the same base"
    assert {host for host, what in world.worked if what == "land"} == {HOST}


async def test_a_preferred_host_that_nobody_works_on_is_left_out(real_env: WorkflowEnvironment) -> None:
    world = Hosts()
    outcome = await merge(real_env, world, (OTHER,), (HOST, OTHER))
    assert {verdict.kind for verdict in outcome.verdicts} == {VerdictKind.MERGED}
    assert world.hosts == {OTHER}


async def test_a_second_host_that_nobody_works_on_costs_a_moment_and_nothing_else(
    real_env: WorkflowEnvironment,
) -> None:
    world = Hosts()
    outcome = await merge(real_env, world, (HOST,), (HOST, OTHER), max_concurrent=2)
    assert {verdict.kind for verdict in outcome.verdicts} == {VerdictKind.MERGED}
    assert world.hosts == {HOST}


async def test_a_host_whose_cores_are_all_busy_is_passed_over_and_not_left_out(real_env: WorkflowEnvironment) -> None:
    world = Hosts()

    @activity.defn
    async def look_at_host() -> HostSigns:
        return HostSigns(host=HOST, disk_percent=1, disk_free_bytes=1, at=START, steady_s=1, steady_since="boot")

    host = (names.host_queue(HOST), names.watch_queue(HOST))
    async with contextlib.AsyncExitStack() as stack:
        for queue in host:
            activities = [*world.activities, look_at_host]
            await stack.enter_async_context(Worker(real_env.client, task_queue=queue, activities=activities))
        outcome = await merge(real_env, world, (OTHER,), (HOST, OTHER))
    assert {verdict.kind for verdict in outcome.verdicts} == {VerdictKind.MERGED}
    assert {host for host, what in world.worked if what == "gate"} == {OTHER}
    assert {host for host, what in world.worked if what == "land"} == {HOST}
