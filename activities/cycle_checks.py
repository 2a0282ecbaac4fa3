"""What a watcher's cycle asks of record and Temporal, all of it in one activity: a cycle's history stays short."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.host_checks import QueueChecks
from models import names
from models.job.messages import RigFacts, RigName
from models.refinery.messages import ForeignCommit, ForeignFound
from models.supervision.messages import (
    CheckedIn,
    CheckIn,
    DeaconPong,
    LookAround,
    LookedAround,
    Probe,
    TownFacts,
    Wedged,
    WitnessPing,
)
from services.temporal import failing_workflows, long_lived

Facts = TypeVar("Facts")

_log = logging.getLogger(__name__)

ASKED_AT_ONCE = 20
CHECK_IN_S = 2.0
"""How long a check-in waits for the Deacon, and beside that for the record: it holds the Witness's workflow task."""
READ_S = 10.0
LOOKERS = 4
"""remotes that are asked at the same time"""
TELL_S = 10.0
READERS = 8
"""threads of their own, so that a record that hangs keeps nobody else waiting"""


class RoundActivities:
    """A Witness's check-in and the Deacon's look around.

    Args:
        load_rig: reads a rig's facts; blocks.
        town_facts: reads the town's; blocks.
        look_at_target: what came to a rig's target past the queue; blocks. None: nobody looks.
    """

    def __init__(
        self,
        client: Client,
        load_rig: Callable[[RigName], RigFacts],
        town_facts: Callable[[], TownFacts],
        look_at_target: Callable[[RigFacts], tuple[ForeignCommit, ...]] | None = None,
    ) -> None:
        self._client = client
        self._load_rig = load_rig
        self._town_facts = town_facts
        self._queues = QueueChecks(client)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="rounds")
        self._look_at_target = look_at_target
        self._looking: set[str] = set()
        """rigs whose targets are being looked at, which a check-in does not wait for"""
        self._lookers = threading.Semaphore(LOOKERS)
        self._told: dict[str, frozenset[str]] = {}
        """by rig: foreign commits that its Refinery was told of"""

    @activity.defn
    async def check_in(self, request: CheckIn) -> CheckedIn:
        """Ping the Deacon, and read the rig's facts where they are wanted. Neither failure is raised.

        Beside it the rig's target is looked at, once a patrol, whether there is work or not.
        """
        self._begin_look(request.ping.rig)
        pong, (facts, unread) = await asyncio.gather(self._ping(request.ping), self._rig(request))
        return CheckedIn(pong=pong, facts=facts, unread=unread)

    @activity.defn
    async def look_around(self, request: LookAround) -> LookedAround:
        """Read the record, ping the long-lived workflows, look at the merge queues. No failure is raised."""
        (facts, unread), probes, queues, stuck = await asyncio.gather(
            self._read(self._town_facts, READ_S),
            self._probe(request.ids),
            self._queues.look(request.rigs),
            self._wedged(),
        )
        return LookedAround(facts=facts, unread=unread, probes=probes, queues=queues, wedged=stuck)

    # --- what came to a target past the queue -------------------------------------------------------

    def _begin_look(self, rig: str) -> None:
        if self._look_at_target is None or rig in self._looking:
            return
        self._looking.add(rig)
        # A daemon: a remote that does not answer must not hold up a worker that shall end; it may be killed anywhere.
        arguments = (rig, self._look_at_target, asyncio.get_running_loop())
        threading.Thread(target=self._tell_of_foreign, args=arguments, name=f"target of {rig}", daemon=True).start()

    def is_looking(self, rig: str) -> bool:
        return rig in self._looking

    def _tell_of_foreign(
        self, rig: str, look: Callable[[RigFacts], tuple[ForeignCommit, ...]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Tell the rig's Refinery of what is new. A failure is tried again by the next patrol."""
        try:
            with self._lookers:
                found = look(self._load_rig(RigName(rig=rig)))
            shas = frozenset(commit.sha for commit in found)
            if shas - self._told.get(rig, frozenset()):
                refinery = self._client.get_workflow_handle(names.refinery_id(rig))
                telling = refinery.signal("foreign_found", ForeignFound(commits=found))
                asyncio.run_coroutine_threadsafe(telling, loop).result(TELL_S)
            self._told[rig] = shas
        except Exception as error:  # whatever it is, the next patrol looks again
            _log.warning("the target of %s could not be looked at: %s", rig, error)
        finally:
            self._looking.discard(rig)

    # --- the Deacon's answer ----------------------------------------------------------------------

    async def _ping(self, ping: WitnessPing) -> DeaconPong | None:
        """WITNESS_PING, and the number that the Deacon then says it has heard; None: no answer."""
        deacon = self._client.get_workflow_handle(names.DEACON_ID)
        try:
            async with asyncio.timeout(CHECK_IN_S):
                await deacon.signal("witness_ping", ping)
                pong: DeaconPong = await deacon.query("pong", RigName(rig=ping.rig), result_type=DeaconPong)
                return pong
        except (TimeoutError, RPCError, WorkflowQueryFailedError, *long_lived.UNREADABLE) as error:
            activity.logger.info("the Deacon does not answer ping %d of %s: %s", ping.number, ping.rig, error)
            return None

    # --- the record -------------------------------------------------------------------------------

    async def _rig(self, request: CheckIn) -> tuple[RigFacts | None, str]:
        if not request.read:
            return None, ""
        return await self._read(lambda: self._load_rig(RigName(rig=request.ping.rig)), CHECK_IN_S)

    async def _read(self, read: Callable[[], Facts], limit_s: float) -> tuple[Facts | None, str]:
        """Returns: what was read, else why it could not be."""
        context = contextvars.copy_context()
        reading = asyncio.get_running_loop().run_in_executor(self._readers, context.run, read)
        try:
            return await asyncio.wait_for(reading, limit_s), ""
        except TimeoutError:
            return None, f"the record does not answer within {limit_s:g} s"
        except Exception as error:  # whatever it is: the record cannot be read, and the rest of the round counts
            return None, str(error) or type(error).__name__

    # --- workflows that stand still ---------------------------------------------------------------

    async def _wedged(self) -> tuple[Wedged, ...] | None:
        """None: Temporal could not say."""
        try:
            return await asyncio.wait_for(failing_workflows.find(self._client), READ_S)
        except (TimeoutError, RPCError) as error:
            activity.logger.warning("which jobs fail cannot be told: %s", error)
            return None

    # --- long-lived workflows -----------------------------------------------------------------------

    async def _probe(self, workflow_ids: tuple[str, ...]) -> tuple[Probe, ...] | None:
        """Each within seconds, in the order asked; None: Temporal itself does not answer."""
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ping(workflow_id: str) -> Probe:
            async with turns:
                return await long_lived.probe(self._client, workflow_id)

        try:
            return tuple(await asyncio.gather(*(ping(workflow_id) for workflow_id in workflow_ids)))
        except (TimeoutError, RPCError) as error:
            activity.logger.warning("nobody could be asked: %s", error)
            return None
