"""A worker of one workflow: for a test that replaces the package on disk below it."""

from __future__ import annotations

import asyncio
import sys

from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.interceptor import ActivityConduct
from services.worker.polling import new_worker
from workflows.shared.sandbox import workflow_runner
from workflows.upkeep.deadman import DeadmanWorkflow


@activity.defn
async def ping_deadman() -> bool:
    return True


async def serve(address: str, queue: str) -> None:
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    worker = new_worker(
        client, queue, [ping_deadman], 5,
        interceptor=ActivityConduct(), threads=False, workflows=[DeadmanWorkflow], runner=workflow_runner(),
    )  # fmt: skip
    await worker.run()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
