"""Telling people: the log, terminals, channels, the dead man's switch. Neither ledger nor Temporal is needed."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from temporalio import activity

from activities.crash_points import crash_point
from models.errors import ErrorCode, GtError
from models.mayor.alerts import Alerting, Message, Notice, Notices
from models.town import TownPaths
from policies.mayor.notification_rules import channels_for, priority_of
from services.notifications import sender, terminals
from services.notifications.files import AlertFiles
from services.notifications.text import headline

PING_S = 10.0


class NoticeActivities:
    """What reaches people, from this town's own files.

    Args:
        root: the town's directory.
        tmux_socket: whose attached clients see alerts.
    """

    def __init__(self, root: Path, tmux_socket: str) -> None:
        self._root = root
        self._socket = tmux_socket
        self._files = AlertFiles(TownPaths(root))

    @activity.defn
    async def read_alerting(self) -> Alerting:
        """The rules and settings as last read from the record, and the channels that have a URL."""
        return await asyncio.to_thread(self._files.alerting)

    @activity.defn
    async def write_down(self, notices: Notices) -> None:
        """Put notices into the log, once, and before whoever looks at the town now."""
        await self._write_down(notices.notices)

    async def _write_down(self, notices: Sequence[Notice]) -> None:
        try:
            new = await asyncio.to_thread(self._files.log, tuple(notices))
        except OSError as error:
            # A full disk is itself a reason for alerts: they must not wait for the log.
            activity.logger.error("the log of alerts cannot be written: %s", error)
            new = tuple(notices)
        crash_point("notice.logged")
        await terminals.show(self._socket, [headline(notice) for notice in new])

    @activity.defn
    async def send_message(self, message: Message) -> None:
        """Send a message through its channel; one that has arrived before is not sent again.

        A channel without a URL takes everything: log, terminal and inbox have it already.

        Raises:
            GtError: CHANNEL_FAILED; retrying helps.
        """
        try:
            await sender.send(self._root, message)
        except GtError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            activity.logger.warning("%s: %s", message.id, error.message)

    @activity.defn
    async def announce(self, notice: Notice) -> None:
        """Log one notice and send it at once through every channel that rules name for it.

        For who cannot leave it to the Mayor. A channel that hangs keeps no other waiting. Repeating it reaches
        those channels only that failed before.

        Raises:
            GtError: CHANNEL_FAILED when a channel did not take it; retrying helps.
        """
        alerting = await self.read_alerting()
        priority = priority_of(notice.type, notice.priority, alerting.rules)
        told = notice.model_copy(update={"priority": priority})
        await self._write_down([told])
        digest = hashlib.sha256(notice.id.encode()).hexdigest()[:16]
        channels = channels_for(notice.type, alerting.rules, alerting.channels)
        sending = [self._failure(Message(id=f"{name}-{digest}", channel=name, notices=(told,))) for name in channels]
        failures = [error for error in await asyncio.gather(*sending) if error is not None]
        if failures:
            raise failures[0]

    async def _failure(self, message: Message) -> GtError | None:
        """Send a message. Returns: why its channel did not take it."""
        try:
            await self.send_message(message)
        except GtError as error:
            return error
        return None

    @activity.defn
    async def ping_deadman(self) -> bool:
        """Ping `deadman.url`; False when none is set.

        Raises:
            GtError: CHANNEL_FAILED when nobody answers well; retrying helps.
        """
        url = (await asyncio.to_thread(self._files.mirror)).deadman.url
        if url:
            await asyncio.to_thread(_get, url)
        return bool(url)


def _get(url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=PING_S):  # noqa: S310 - the setting takes http and https alone
            return
    except (OSError, ValueError, urllib.error.HTTPError) as error:
        raise GtError(ErrorCode.CHANNEL_FAILED, f"deadman.url: {error}", "gt config deadman.url") from None
