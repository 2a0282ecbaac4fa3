"""The alarm for when nothing in Temporal can tell: an event listener of the town's supervisord.

    python -m services.alarm --town DIR

It looks at Temporal and the worker at each event of theirs and every few seconds, and tells people through the same
rules and channels as everybody, out of the town's files alone: it needs neither ledger nor Temporal. What it has
told is in a file, so that its own end loses no edge and doubles none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from models.alerts import Alerting, Message, Notice
from models.base import Frozen
from models.errors import GtError
from policies.alarm import ServiceLook, holding
from policies.alerts import ChannelQueue, Condition, channels_for, delivered, due, edges, put
from services import alert_sender, readiness, terminals
from services.alert_files import AlertFiles
from services.alert_text import headline
from services.guard import tenant
from services.ports import LOOPBACK
from services.processes import read_record, write_record
from services.programs import TEMPORAL, WORKER, lock_path, program_names, supervisor_socket
from services.supervisor import State, Supervisor, SupervisorUnreachable
from services.town import Town, find_town

LOOK_S = 2.0
ANSWER_S = 3.0
LONGEST_PAUSE_S = 60.0
"""between two tries of a channel that refuses"""
_WATCHED = (TEMPORAL, WORKER)


class AlarmState(Frozen):
    """What the alarm has told, and what channels have not been sent yet."""

    told: dict[str, Condition] = Field(default_factory=dict)
    queues: dict[str, ChannelQueue] = Field(default_factory=dict)


def state_path(town: Town) -> Path:
    return town.paths.alerts / "alarm.json"


def alarms(town: Town) -> list[Condition]:
    """What the alarm has told people to hold."""
    state = read_record(state_path(town), AlarmState)
    return list(state.told.values()) if state else []


class Alarm:
    """One town's alarm; `look` again and again."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._files = AlertFiles(town.paths)
        self._supervisor = Supervisor(supervisor_socket(town))
        self._state = read_record(state_path(town), AlarmState) or AlarmState()
        self._well_at: dict[str, float] = {}
        """when each service was last found doing its work, or was not expected to; monotonic"""
        self._refused: dict[str, tuple[float, float]] = {}
        """by channel: when it is tried again, and the pause before that"""

    async def look(self) -> None:
        """Find how things stand, and tell people what is new; a supervisor that does not answer says nothing."""
        looks = await asyncio.to_thread(self._looks)
        if looks is None:
            return
        now = datetime.now(UTC)
        alerting = self._files.alerting()
        holds = holding(looks, self._state.told, self._town.file.host, now)
        notices = tuple(edges(self._state.told, holds, alerting.rules, now))
        if notices:
            new = self._logged(notices)
            queues = dict(self._state.queues)
            for notice in notices:
                for channel in channels_for(notice.type, alerting.rules, alerting.channels):
                    queues[channel] = put(queues.get(channel, ChannelQueue()), notice)
            self._keep(AlarmState(told=holds, queues=queues))
            await terminals.show(self._town.tmux_socket, [headline(notice) for notice in new])
        await self._send_due(alerting)

    def _logged(self, notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
        try:
            return self._files.log(notices)
        except OSError as error:
            print(f"the log cannot be written: {error}", file=sys.stderr, flush=True)
            return notices

    # --- what is seen ---------------------------------------------------------------------------

    def _looks(self) -> list[ServiceLook] | None:
        try:
            states = {row.name: row.state for row in self._supervisor.programs()}
        except SupervisorUnreachable:
            return None
        expected = [name for name in _WATCHED if name in program_names(self._town)]
        return [self._look_at(name) for name in expected if self._is_wanted(name, states.get(name))]

    def _is_wanted(self, name: str, state: State | None) -> bool:
        """False for one that a person has stopped, or that `gt down` is stopping."""
        wanted = state not in {None, State.STOPPED, State.STOPPING}
        if not wanted:
            self._well_at[name] = time.monotonic()
        return wanted

    def _look_at(self, name: str) -> ServiceLook:
        ailment = _worker_ailment(self._town) if name == WORKER else _temporal_ailment(self._town)
        clock = time.monotonic()
        if not ailment:
            self._well_at[name] = clock
        holder = tenant(lock_path(self._town, name))
        unsteady = holder is not None and holder.unsteady(time.time())
        return ServiceLook(
            name=name,
            short_lives=holder.failures if holder is not None and unsteady else 0,
            ailment=ailment,
            ailing_s=clock - self._well_at.setdefault(name, clock),
        )

    # --- what is sent ---------------------------------------------------------------------------

    async def _send_due(self, alerting: Alerting) -> None:
        now = datetime.now(UTC)
        queues = {
            channel: due(channel, queue, alerting.alerts, now, alerting.utc_offset_s)
            for channel, queue in self._state.queues.items()
            if not queue.empty or channel in alerting.channels
        }
        if queues != self._state.queues:
            self._keep(self._state.model_copy(update={"queues": queues}))
        clock = time.monotonic()
        going = [queue.on_its_way for queue in queues.values() if queue.on_its_way is not None]
        patient = [one for one in going if self._refused.get(one.channel, (0.0, 0.0))[0] <= clock]
        await asyncio.gather(*(self._send(one) for one in patient))

    async def _send(self, message: Message) -> None:
        channel = message.channel
        try:
            await alert_sender.send(self._town.root, message)
        except GtError as error:
            if error.retryable:
                pause = min(max(1.0, 2.0 * self._refused.get(channel, (0.0, 0.0))[1]), LONGEST_PAUSE_S)
                self._refused[channel] = (time.monotonic() + pause, pause)
                return
            # The channel has lost its URL: the log has the alert.
        self._refused.pop(channel, None)
        queue = delivered(self._state.queues[channel], message)
        self._keep(self._state.model_copy(update={"queues": {**self._state.queues, channel: queue}}))

    def _keep(self, state: AlarmState) -> None:
        self._state = state
        try:
            self._town.paths.alerts.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_record(state_path(self._town), state)
        except OSError as error:
            # A full disk must not keep an alert back; as long as this process lives it knows what it has told.
            print(f"what was told cannot be kept: {error}", file=sys.stderr, flush=True)


def _worker_ailment(town: Town) -> str:
    return readiness.worker_ailment(town) or ""


def _temporal_ailment(town: Town) -> str:
    """Whether the server's process answers anything at all; its own client would be far too heavy here."""
    port = town.file.temporal.metrics_port
    try:
        # Without a proxy, whatever the environment names: nothing of this leaves the machine.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{LOOPBACK}:{port}/metrics", timeout=ANSWER_S) as answer:
            answer.read(1)
    except (OSError, ValueError) as error:
        return f"it does not answer ({error})"
    return ""


# --- the event listener -------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="An event listener of a town's supervisord.")
    parser.add_argument("--town", type=Path)
    wake = threading.Event()
    watching = threading.Thread(target=_watch, args=(find_town(parser.parse_args().town), wake), daemon=True)
    watching.start()
    _acknowledge_events(sys.stdin.buffer, wake)


def _acknowledge_events(events: Iterable[bytes], wake: threading.Event) -> None:
    """supervisord's event protocol: each event is acknowledged at once, and is only a reason to look."""
    stream = sys.stdin.buffer
    _say("READY\n")
    for header in events:
        fields = dict(field.split(":", 1) for field in header.decode("ascii").split())
        stream.read(int(fields["len"]))
        wake.set()
        _say("RESULT 2\nOK")
        _say("READY\n")


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()


def _watch(town: Town, wake: threading.Event) -> None:
    """Look for ever; a look that fails is told on standard error, and the process ends to be started again."""
    try:
        asyncio.run(_look_for_ever(Alarm(town), wake))
    except BaseException as error:
        print(f"the alarm failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


async def _look_for_ever(alarm: Alarm, wake: threading.Event) -> None:
    while True:
        await alarm.look()
        await asyncio.to_thread(wake.wait, LOOK_S)
        wake.clear()


if __name__ == "__main__":
    main()
