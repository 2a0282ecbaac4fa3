"""Sling many beads over one connection, as a script with the SDK would."""

from __future__ import annotations

import asyncio

from models import names
from models.job.messages import SlingRequest, SlingResult
from services.temporal.client import connect
from services.temporal.updates import accepted
from services.town import Town

PATIENCE_S = 240


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
            async with asyncio.timeout(PATIENCE_S):
                await (await accepted(handle, "sling", [request], SlingResult)).result()

    await asyncio.gather(*(sling(bead, agent) for bead, agent in work))
