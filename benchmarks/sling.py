"""Sling many beads over one connection, as a script with the SDK would."""

from __future__ import annotations

import asyncio

from temporalio.service import RPCError, RPCStatusCode

from models import names
from models.jobs import SlingRequest, SlingResult
from services.temporal import connect
from services.town import Town

TRIES = 60


def sling_all(town: Town, work: list[tuple[str, str]], rig: str = "shop") -> None:
    """Sling each (bead, agent command) of a rig, eight at a time."""
    asyncio.run(_sling_all(town, work, rig))


async def _sling_all(town: Town, work: list[tuple[str, str]], rig: str) -> None:
    client = await connect(town)
    handle = client.get_workflow_handle(names.dispatch_id(rig))
    gate = asyncio.Semaphore(8)

    async def sling(bead: str, agent: str) -> None:
        async with gate:
            request = SlingRequest(bead=bead, rig=rig, agent=agent)
            for left in reversed(range(TRIES)):
                try:
                    await handle.execute_update("sling", request, result_type=SlingResult)
                    return
                except RPCError as error:
                    # Until a killed worker's tasks are taken over, the server refuses at once.
                    if error.status is not RPCStatusCode.FAILED_PRECONDITION or not left:
                        raise
                    await asyncio.sleep(1)

    await asyncio.gather(*(sling(bead, agent) for bead, agent in work))
