"""Says in its job's place that an attempt's session is over: to who counts sessions, and to who watches them."""

from __future__ import annotations

import asyncio
import logging

from temporalio.client import Client
from temporalio.service import RPCError

from models import names
from models.job.attempts import TakeWork
from models.job.messages import SlotReleased, WorkEnded
from models.ledger.records import JobState

TELL_S = 5.0
_log = logging.getLogger(__name__)


class SessionOver:
    """Made in the event loop in which the client works, called from the threads of activities."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def tell(self, taken: TakeWork) -> bool:
        """Tell the rig's Dispatcher and its Witness that the session of accepted work is over; telling twice is one.

        Returns:
            False where one of them has not taken it: the job is to tell both.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._tell(taken), self._loop).result()
        except (RPCError, TimeoutError) as error:
            _log.warning("that the session of %s is over its job has to tell: %s", taken.bead, error)
            return False
        return True

    async def _tell(self, taken: TakeWork) -> None:
        dispatcher = self._client.get_workflow_handle(names.dispatch_id(taken.rig.name))
        witness = self._client.get_workflow_handle(names.witness_id(taken.rig.name))
        released = SlotReleased(bead=taken.bead, attempt=taken.attempt, state=JobState.SUBMITTED)
        async with asyncio.timeout(TELL_S):
            await asyncio.gather(
                dispatcher.signal("slot_released", released),
                witness.signal("work_ended", WorkEnded(bead=taken.bead, attempt=taken.attempt)),
            )
