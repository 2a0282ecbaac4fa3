"""One rig's Refinery with a remote, a record and a post box around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from models import names
from models.job.messages import VerdictKind
from models.ledger.records import MergeRequest
from models.mayor.escalations import Escalation
from models.refinery.messages import PauseRequest, QueueCleared, QueueItem, QueueItemRef, QueueStatus, Withdraw
from models.settings import MergeQueueSettings, Settings
from policies.dispatch.room import CHANGES_BYTES
from tests.workflows.conftest import WorkerBuilder
from tests.workflows.probes import Job, JobProbe, MayorsPost, Record, eventually
from tests.workflows.refinery.merge_world import MergeWorld, rig
from workflows.refinery.merge import MergeWorkflow
from workflows.refinery.state import RefineryState
from workflows.refinery.workflow import RefineryWorkflow

Refinery = WorkflowHandle[RefineryWorkflow, None]


@dataclass
class Yard:
    """One rig's Refinery with everything around it."""

    env: WorkflowEnvironment
    world: MergeWorld
    record: Record
    post: MayorsPost
    refinery: Refinery

    async def submit(self, *requests: MergeRequest) -> None:
        for request in requests:
            await self.refinery.signal(RefineryWorkflow.submit, request)

    async def queue(self) -> QueueStatus:
        return await self.refinery.query(RefineryWorkflow.queue)

    async def waiting(self) -> list[str]:
        return [item.bead for item in (await self.queue()).items]

    async def settled(self) -> None:
        """Everything submitted was decided."""

        async def empty() -> bool:
            return not (await self.queue()).items

        await eventually(empty, what="an empty queue")

    async def pause(self) -> None:
        await self.refinery.execute_update(RefineryWorkflow.pause, PauseRequest(reason="look at it", by="ada"))

    async def skip(self, item: str) -> QueueItem:
        row: QueueItem = await self.refinery.execute_update("skip", QueueItemRef(id=item), result_type=QueueItem)
        return row

    async def clear(self) -> QueueCleared:
        cleared: QueueCleared = await self.refinery.execute_update("clear", result_type=QueueCleared)
        return cleared

    async def withdraw(self, bead: str) -> None:
        order = Withdraw(merge_request=names.merge_request_id(bead, 1), bead=bead, attempt=1)
        await self.refinery.signal(RefineryWorkflow.withdraw, order)

    async def resume(self) -> None:
        await self.refinery.execute_update(RefineryWorkflow.resume)


Open = Callable[..., contextlib.AbstractAsyncContextManager[Yard]]


def yard_in(env: WorkflowEnvironment, workers: WorkerBuilder) -> Open:
    """`async with yard(world, …) as town:` — culprits are blamed unconfirmed unless the settings say otherwise."""

    @contextlib.asynccontextmanager
    async def start(
        world: MergeWorld | None = None,
        *,
        gated: bool = True,
        readable: bool = True,
        retried: bool = True,
        patience: int = 1000,
        capacity: int = CHANGES_BYTES,
        **settings: int | str,
    ) -> AsyncIterator[Yard]:
        world = world or MergeWorld()
        record = Record(
            rig=rig() if gated else rig(gates=()),
            settings=Settings(merge_queue=MergeQueueSettings.model_validate({"confirm_runs": "0", **settings})),
            readable=readable,
            retried=retried,
        )
        post = MayorsPost()
        async with workers(
            workflows=[RefineryWorkflow, MergeWorkflow, JobProbe],
            activities=[
                *world.activities,
                record.queue_facts,
                record.rename_branch,
                post.tell_mayor,
                post.clear_escalation,
            ],
        ):
            refinery = await env.client.start_workflow(
                RefineryWorkflow.run,
                RefineryState(rig="shop", patience=patience, capacity=capacity),
                id=names.refinery_id("shop"),
                task_queue=names.TOWN_QUEUE,
            )
            yield Yard(env, world, record, post, refinery)

    return start


async def letters(town: Yard, count: int) -> list[Escalation]:
    """What the Mayor was told, once it is so much."""

    async def enough() -> list[Escalation]:
        return list(town.post.letters) if len(town.post.letters) >= count else []

    answer: list[Escalation] = await eventually(enough, what=f"{count} letters")
    return answer


async def verdicts(job: Job, count: int = 1) -> list[tuple[str, VerdictKind]]:
    """The first `count` verdicts that the job hears."""

    async def enough() -> list[tuple[str, VerdictKind]]:
        heard = (await job.query(JobProbe.heard)).verdicts
        return [(verdict.merge_request, verdict.kind) for verdict in heard] if len(heard) >= count else []

    answer: list[tuple[str, VerdictKind]] = await eventually(enough, what=f"{count} verdicts")
    return answer


async def refused(update: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await update
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause
