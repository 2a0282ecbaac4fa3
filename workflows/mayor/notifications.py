"""Telling people what holds: edges into the log, and messages to each channel at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from temporalio import workflow

from activities.notifications import NoticeActivities
from models.mayor.alerts import Alerting, Message, Notices
from policies.mayor.notification_rules import ChannelQueue, delivered, due, edges, next_due
from workflows.mayor.state import MayorState
from workflows.shared import activity_options

BATCH = 50
"""notices that are written down at once"""


class Herald:
    """Keeps people's knowledge, `state.told`, in step with what holds.

    Everything that a next run needs is in the state: an edge counts as told once it is in the log, and what a
    channel has not been sent is in its queue, the message on its way included. Both are safe to repeat.

    Args:
        closing: True once nothing new shall be begun.
    """

    def __init__(self, state: MayorState, closing: Callable[[], bool]) -> None:
        self._state = state
        self._closing = closing
        self._looking = True
        self._sending: dict[str, asyncio.Task[None]] = {}

    def start(self) -> asyncio.Task[None]:
        """Begin; call once, from the workflow's run method, and hold what is returned."""
        return asyncio.create_task(self._announce())

    @property
    def idle(self) -> bool:
        """No message is being sent."""
        return not self._sending

    def look(self) -> None:
        """What holds may have changed, or a channel's time may have come."""
        self._looking = True
        self._send_due()

    def next_due(self, now: datetime) -> datetime | None:
        """When a channel may be sent what waits for it."""
        alerting = self._state.alerting
        moments = [
            next_due(queue, alerting.alerts, now, alerting.utc_offset_s) for queue in self._state.queues.values()
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    async def refresh(self) -> None:
        """Take in changed rules, channels and pace for what waits already."""
        if any(not queue.empty for queue in self._state.queues.values()):
            self._state.alerting = await self._read()
            self.look()

    async def _read(self) -> Alerting:
        return await workflow.execute_activity_method(
            NoticeActivities.read_alerting, summary="alert rules and channels", **activity_options.control()
        )

    # --- edges ----------------------------------------------------------------------------------

    async def _announce(self) -> None:
        while not self._closing():
            await workflow.wait_condition(lambda: self._looking or self._closing())
            self._looking = False
            if self._edges() and not self._closing():
                await self._announce_some()
                self._looking = True  # there may be more

    def _edges(self) -> bool:
        return bool(edges(self._state.told, self._state.holding(), (), workflow.now()))

    async def _announce_some(self) -> None:
        """Up to BATCH edges: first written down, then known and put before the channels."""
        alerting = await self._read()
        holding = self._state.holding()
        notices = tuple(edges(self._state.told, holding, alerting.rules, workflow.now())[:BATCH])
        if notices:
            await workflow.execute_activity_method(
                NoticeActivities.write_down,
                Notices(notices=notices),
                summary=", ".join(f"{notice.edge.value} {notice.type.value}" for notice in notices)[:200],
                **activity_options.control(),
            )
        self._state.announce(notices, holding, alerting)
        self._send_due()

    # --- channels -------------------------------------------------------------------------------

    def _send_due(self) -> None:
        alerting = self._state.alerting
        if self._closing():
            return
        for channel, queue in list(self._state.queues.items()):
            if channel in self._sending:
                continue
            queue = due(channel, queue, alerting.alerts, workflow.now(), alerting.utc_offset_s)
            self._state.queues[channel] = queue
            if queue.on_its_way is not None:
                self._sending[channel] = asyncio.create_task(self._send(queue.on_its_way))

    async def _send(self, message: Message) -> None:
        """Send a message, waiting out any outage of its channel; what comes meanwhile is bundled behind it."""
        try:
            await workflow.execute_activity_method(
                NoticeActivities.send_message,
                message,
                summary=f"{len(message.notices) + message.more} to {message.channel}",
                **activity_options.sending(),
            )
        finally:
            self._sending.pop(message.channel, None)
        queue = delivered(self._state.queues.get(message.channel, ChannelQueue()), message)
        self._state.queues[message.channel] = queue
        if queue.empty and message.channel not in self._state.alerting.channels:
            del self._state.queues[message.channel]
        self.look()
