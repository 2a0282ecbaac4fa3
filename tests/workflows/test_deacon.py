"""DeaconWorkflow: pings and their answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from models import names
from models.supervision import DeaconPong, WitnessPing
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import eventually, runs_of
from workflows.deacon import DeaconWorkflow
from workflows.deacon_state import DeaconState

Deacon = WorkflowHandle[DeaconWorkflow, None]


@workflow.defn
class WitnessProbe:
    """Runs under a Witness's id and only listens."""

    def __init__(self) -> None:
        self._pongs: list[int] = []

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def deacon_pong(self, pong: DeaconPong) -> None:
        self._pongs.append(pong.number)

    @workflow.query
    def pongs(self) -> list[int]:
        return self._pongs


Witness = WorkflowHandle[WitnessProbe, None]
Open = Callable[..., contextlib.AbstractAsyncContextManager[tuple[Deacon, Witness]]]


@pytest.fixture
def town(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    @contextlib.asynccontextmanager
    async def start(patience: int = 1000) -> AsyncIterator[tuple[Deacon, Witness]]:
        async with workers(workflows=[DeaconWorkflow, WitnessProbe]):
            witness = await env.client.start_workflow(
                WitnessProbe.run, id=names.witness_id("shop"), task_queue=names.TOWN_QUEUE
            )
            deacon = await env.client.start_workflow(
                DeaconWorkflow.run, DeaconState(patience=patience), id=names.DEACON_ID, task_queue=names.TOWN_QUEUE
            )
            yield deacon, witness

    return start


def ping(number: int, rig: str = "shop") -> WitnessPing:
    return WitnessPing(rig=rig, witness=names.witness_id(rig), number=number)


async def answers(witness: Witness, count: int) -> list[int]:
    async def enough() -> list[int]:
        pongs = await witness.query(WitnessProbe.pongs)
        return pongs if len(pongs) >= count else []

    answer: list[int] = await eventually(enough, what=f"{count} answers")
    return answer


async def test_every_ping_is_answered_with_its_number(town: Open) -> None:
    async with town() as (deacon, witness):
        for number in (1, 2, 3):
            await deacon.signal(DeaconWorkflow.witness_ping, ping(number))
        assert await answers(witness, 3) == [1, 2, 3]


async def test_a_ping_of_a_witness_that_is_gone_does_no_harm(town: Open) -> None:
    async with town() as (deacon, witness):
        await deacon.signal(DeaconWorkflow.witness_ping, ping(1, rig="mill"))
        await deacon.signal(DeaconWorkflow.witness_ping, ping(7))
        assert await answers(witness, 1) == [7]


async def test_pings_are_known_after_two_continue_as_new(town: Open) -> None:
    async with town(patience=3) as (deacon, witness):
        runs = {await runs_of(deacon)}
        await deacon.signal(DeaconWorkflow.witness_ping, ping(1, rig="mill"))
        number = 0
        while len(runs) < 3:
            number += 1
            await deacon.signal(DeaconWorkflow.witness_ping, ping(number))
            await answers(witness, number)
            runs.add(await runs_of(deacon))
        watched = (await deacon.query(DeaconWorkflow.status)).watched
        assert [row.workflow_id for row in watched] == ["witness/mill", "witness/shop"]
        assert watched[0].pinged_at is not None
