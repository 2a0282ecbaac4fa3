"""What the Deacon looks at beside workflows: each host's disk and clock, each rig's merge queue."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.sessions.session import Sessions
from activities.sessions.tmux import Tmux
from models import names
from models.errors import GtError
from models.refinery.messages import QueueItemState, QueueStatus
from models.supervision.messages import HostSigns, QueueSigns
from models.town import TownPaths
from services.notifications import alarm
from services.temporal.long_lived import UNREADABLE

ASK_S = 3.0
ASKED_AT_ONCE = 10
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HostCheckActivities:
    """On each host's watch queue: that it is taken at all shows that the host lives."""

    def __init__(self, host: str, paths: TownPaths, tmux: Tmux) -> None:
        self._host = host
        self._paths = paths
        self._sessions = Sessions(paths, tmux)

    @activity.defn
    async def look_at_host(self) -> HostSigns:
        """The state of this host.

        Raises:
            OSError: the town's file system cannot be asked.
        """
        usage = await asyncio.to_thread(shutil.disk_usage, self._paths.root)
        since, steady_s = _steady_clock()
        return HostSigns(
            host=self._host,
            disk_percent=alarm.used_percent(usage),
            disk_free_bytes=usage.free,
            at=datetime.now(UTC),
            steady_s=steady_s,
            steady_since=since,
            rigs=await asyncio.to_thread(self._rigs),
            alarm=await asyncio.to_thread(alarm.signs, self._paths),
        )

    def _rigs(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(self._sessions.rigs()))
        except GtError as error:
            # What cannot be asked now is asked again in a minute; the disk does not wait for it.
            activity.logger.warning("sessions cannot be listed: %s", error.message)
            return ()


def _steady_clock() -> tuple[str, float]:
    """A clock that nobody sets, and what its values may be compared within."""
    if hasattr(time, "CLOCK_BOOTTIME") and _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
    return f"process {os.getpid()}", time.monotonic()


class QueueChecks:
    """Whether merge queues get further."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def look(self, rigs: Sequence[str]) -> tuple[QueueSigns, ...]:
        """The queues of these rigs; who does not answer is left out, since that is the ping's to find."""
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def look(rig: str) -> QueueSigns | None:
            async with turns:
                return await self._look(rig)

        found = await asyncio.gather(*(look(rig) for rig in rigs))
        return tuple(signs for signs in found if signs is not None)

    async def _look(self, rig: str) -> QueueSigns | None:
        handle = self._client.get_workflow_handle(names.refinery_id(rig))
        try:
            queue = await asyncio.wait_for(handle.query("queue", result_type=QueueStatus), ASK_S)
            described = await asyncio.wait_for(handle.describe(), ASK_S)
            merges = [child.workflow_id for child in described.raw_description.pending_children]
            lengths = [await self._history_length(merge) for merge in merges]
        except (TimeoutError, RPCError, WorkflowQueryFailedError, *UNREADABLE) as error:
            activity.logger.info("the queue of %s cannot be looked at: %s", rig, error)
            return None
        states = [item.state for item in queue.items]
        return QueueSigns(
            rig=rig,
            # What is being retried is known to the Refinery, which calls a person itself.
            waiting=states.count(QueueItemState.WAITING),
            merging=states.count(QueueItemState.MERGING),
            paused=queue.paused,
            mark=_mark(_heads(queue), merges, lengths),
        )

    async def _history_length(self, workflow_id: str) -> int:
        """A merge under way gets further with every event."""
        try:
            described = await asyncio.wait_for(self._client.get_workflow_handle(workflow_id).describe(), ASK_S)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return 0
            raise
        return described.history_length


def _heads(queue: QueueStatus) -> list[tuple[str, str, int]]:
    """What is being merged and what comes next: a change that joins the end of the queue gets nothing further."""
    rows = [(item.id, item.state.value, item.attempts) for item in queue.items]
    merging = [row for row in rows if row[1] == QueueItemState.MERGING]
    return merging + [row for row in rows if row[1] == QueueItemState.WAITING][:1]


def _mark(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
