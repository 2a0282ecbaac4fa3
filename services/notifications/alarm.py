"""The alarm that needs neither Temporal nor the ledger: an event listener of the town's supervisord.

    python -m services.notifications.alarm --town DIR

It looks at each of the town's services and at its disk every few seconds, and tells people through the same rules
and channels as everybody, out of the town's files alone. Each look has a thread and a deadline of its own, and
messages are sent beside the looks, so nothing that hangs hides anything else. What it has told is in a file, so that
its own end loses no edge and doubles none; the Deacon reads there what it need not tell people any more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from models.base import Frozen
from models.errors import GtError
from models.mayor.alerts import AlarmSigns, Alerting, AlertType, Message, Notice, Outage
from models.town import TownPaths
from policies.mayor.notification_rules import ChannelQueue, Condition, channels_for, delivered, due, edges, put
from policies.supervision.alarm import ServiceLook, disk_conditions, service_conditions
from services import dolt
from services.notifications import sender, terminals
from services.notifications.files import AlertFiles
from services.notifications.text import headline
from services.place import Place, say_gone
from services.supervisor.client import State, Supervisor, SupervisorUnreachable, UnixConnection
from services.supervisor.guard import tenant
from services.supervisor.processes import Birth, read_record, write_record
from services.supervisor.programs import (
    DOLT,
    TEMPORAL,
    WORKER,
    lock_path,
    program_names,
    supervisor_socket,
    temporal_socket,
)
from services.town import Town, find_town
from services.worker import readiness

LOOK_S = 2.0
ANSWER_S = 4.0
"""A look that takes longer says that nobody answers; it goes on, and the next begins when it has ended."""
_REQUEST_S = 3.0
SILENT_S = 30.0
"""An alarm that has not looked for so long watches nothing."""
ENDED_KEPT = 20
UNLOGGED_KEPT = 100
GONE_S = 10.0
"""A directory that is not there for so long was deleted or moved, and not unmounted for a moment."""
LONGEST_PAUSE_S = 60.0
"""between two tries of a channel that refuses"""
_SUPERVISOR, _DISK = "supervisor", "disk"


class AlarmState(Frozen):
    """What the alarm has told, and what channels have not been sent yet."""

    told: dict[str, Condition] = Field(default_factory=dict)
    queues: dict[str, ChannelQueue] = Field(default_factory=dict)
    tells: tuple[AlertType, ...] = ()
    ended: tuple[Outage, ...] = ()
    """the latest that are over"""
    unlogged: tuple[Notice, ...] = ()
    """told, but the log could not be written"""
    supervisor: Birth | None = None
    """the one that started this alarm"""
    well: tuple[str, ...] = ()
    """services that have been found at work under this supervisor: they are no longer starting"""


def state_path(paths: TownPaths) -> Path:
    return paths.alerts / "alarm.json"


def alarms(town: Town) -> list[Condition]:
    """What the alarm has told people to hold."""
    state = read_record(state_path(town.paths), AlarmState)
    return list(state.told.values()) if state else []


def signs(paths: TownPaths) -> AlarmSigns | None:
    """What the alarm watches and has found; None: none is at work here."""
    path = state_path(paths)
    try:
        silent_s = time.time() - path.stat().st_mtime
    except OSError:
        return None
    state = read_record(path, AlarmState)
    if state is None or silent_s > SILENT_S:
        return None
    lasting = tuple(_outage(condition) for condition in state.told.values())
    return AlarmSigns(tells=state.tells, outages=(*state.ended, *lasting))


def _outage(condition: Condition, until: datetime | None = None) -> Outage:
    return Outage(type=condition.type, since=condition.since, until=until, title=condition.title)


class Alarm:
    """One town's alarm. `run` it, in one event loop."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._host = town.file.host
        self._place, self._supervised_by = Place(town.root), os.getppid()
        self._files = AlertFiles(town.paths)
        self._supervisor = Supervisor(supervisor_socket(town))
        ledger = (AlertType.DOLT_DOWN,) if DOLT in program_names(town) else ()
        known = read_record(state_path(town.paths), AlarmState) or AlarmState()
        supervisor = known.supervisor
        if supervisor is None or supervisor.pid != self._supervised_by or not supervisor.lives():
            known = known.model_copy(update={"supervisor": Birth.of(self._supervised_by), "well": ()})
        self._state = known.model_copy(update={"tells": (AlertType.DISK_FULL, *ledger)})
        asks: dict[str, Callable[[], Any]] = {
            TEMPORAL: lambda: temporal_ailment(town),
            DOLT: lambda: dolt.ailment(town) or "",
            WORKER: lambda: readiness.worker_ailment(town) or "",
        }
        self._services = program_names(town)
        self._asks: dict[str, Callable[[], Any]] = {name: asks[name] for name in self._services}
        self._asks |= {_SUPERVISOR: self._ask_supervisor, _DISK: lambda: used_percent(shutil.disk_usage(town.root))}
        self._threads = ThreadPoolExecutor(len(self._asks), thread_name_prefix="look")
        self._asking: dict[str, asyncio.Future[Any]] = {}
        """looks that are under way"""
        self._states: dict[str, State] | None = {}
        """of the services, as the supervisor last said; None: it is being shut down"""
        self._well_at: dict[str, float] = {}
        """when each service was last found at work, or was not expected to be; monotonic"""
        self._was_well = set(self._state.well)
        self._showing: set[asyncio.Task[None]] = set()
        self._sending: dict[str, asyncio.Task[None]] = {}
        """by channel"""
        self._refused: dict[str, tuple[float, float]] = {}
        """by channel: when it is tried again, and the pause before that"""

    async def run(self, wake: threading.Event) -> None:
        """Look, and at once when `wake` is set, until the town is gone: then end its supervisor with all it runs."""
        while True:
            gone_s = self._gone_s()
            if gone_s >= GONE_S:
                say_gone(self._town.root, "its supervisor with all its services")
                os.kill(self._supervised_by, signal.SIGTERM)
                return
            if not gone_s:  # nothing may make a part of it anew
                await self.look()
            await asyncio.to_thread(wake.wait, LOOK_S)
            wake.clear()

    async def look(self) -> None:
        """Find how things stand, and begin to tell people what is new; while all is being stopped nothing is news."""
        answers = await self._answers()
        self._states = answers.get(_SUPERVISOR, self._states)
        alerting = self._files.alerting()
        if self._states is not None:
            await self._tell(self._holding(answers, alerting), alerting)
        self._send_due(alerting)
        if self._was_well != set(self._state.well):
            self._keep(self._state.model_copy(update={"well": tuple(sorted(self._was_well))}))
        self._beat()

    def _gone_s(self) -> float:
        try:
            return self._place.gone_s()
        except OSError:
            return 0.0

    # --- what is seen ---------------------------------------------------------------------------

    async def _answers(self) -> dict[str, Any]:
        """What each look has found by its deadline; one that fails or takes longer is left out."""
        loop = asyncio.get_running_loop()
        for name, ask in self._asks.items():
            if name not in self._asking:
                self._asking[name] = loop.run_in_executor(self._threads, ask)
        done, _ = await asyncio.wait(self._asking.values(), timeout=ANSWER_S)
        ended = {name: asking for name, asking in self._asking.items() if asking in done}
        self._asking = {name: asking for name, asking in self._asking.items() if name not in ended}
        for name, asking in ended.items():
            error = asking.exception()
            if error is not None and not isinstance(error, SupervisorUnreachable):
                print(f"the look at {name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return {name: asking.result() for name, asking in ended.items() if asking.exception() is None}

    def _ask_supervisor(self) -> dict[str, State] | None:
        """None: it is being shut down."""
        if self._supervisor.condition() is State.STOPPING:
            return None
        return {row.name: row.state for row in self._supervisor.programs()}

    def _holding(self, answers: dict[str, Any], alerting: Alerting) -> dict[str, Condition]:
        told, now = self._state.told, datetime.now(UTC)
        looks = [self._look_at(name, answers.get(name, "it does not answer")) for name in self._services]
        holding = service_conditions((look for look in looks if look is not None), told, self._host, now)
        if _DISK in answers:
            return holding | disk_conditions(answers[_DISK], alerting.disk, told, self._host, now)
        return holding | {key: known for key, known in told.items() if known.type is AlertType.DISK_FULL}

    def _look_at(self, name: str, ailment: str) -> ServiceLook | None:
        """None for a worker that a person has stopped: that is theirs to know. Without a server nobody can work."""
        clock = time.monotonic()
        stopped = (self._states or {}).get(name) in {State.STOPPED, State.STOPPING}
        if not ailment or (name == WORKER and stopped):
            self._well_at[name] = clock
            self._was_well.add(name)
        if name == WORKER and stopped:
            return None
        holder = tenant(lock_path(self._town, name))
        unsteady = holder is not None and holder.unsteady(time.time())
        return ServiceLook(
            name=name,
            type=AlertType.DOLT_DOWN if name == DOLT else AlertType.HOST_LOST,
            short_lives=holder.failures if holder is not None and unsteady else 0,
            ailment=ailment,
            ailing_s=clock - self._well_at.setdefault(name, clock),
            may_start=name == WORKER or not (stopped or name in self._was_well),
            command="gt up" if stopped else f"less logs/{name}.log",
        )

    # --- what is told ---------------------------------------------------------------------------

    async def _tell(self, holding: dict[str, Condition], alerting: Alerting) -> None:
        """Log what is new, keep that it was told, and put it before each channel. What cannot be logged is, later."""
        now = datetime.now(UTC)
        told = self._state.told
        notices = tuple(edges(told, holding, alerting.rules, now))
        unlogged = (*self._state.unlogged, *notices)
        if not unlogged:
            return
        try:
            new = await asyncio.to_thread(self._files.log, unlogged)
            unlogged = ()
        except (OSError, GtError) as error:
            new = notices
            unlogged = unlogged[-UNLOGGED_KEPT:]
            if notices:
                print(f"the log cannot be written: {error}", file=sys.stderr, flush=True)
        queues = dict(self._state.queues)
        for notice in notices:
            for channel in channels_for(notice.type, alerting.rules, alerting.channels):
                queues[channel] = put(queues.get(channel, ChannelQueue()), notice)
        over = [_outage(condition, now) for key, condition in told.items() if key not in holding]
        ended = (*self._state.ended, *over)[-ENDED_KEPT:]
        state = self._state.model_copy(update={"told": holding, "queues": queues, "ended": ended, "unlogged": unlogged})
        if state != self._state:
            self._keep(state)
        news = [headline(notice) for notice in notices if notice in new]
        if news:
            showing = asyncio.create_task(terminals.show(self._town.tmux_socket, news))
            self._showing.add(showing)
            showing.add_done_callback(self._showing.discard)

    # --- what is sent ---------------------------------------------------------------------------

    def _send_due(self, alerting: Alerting) -> None:
        """Begin to send each channel what may go now; one that takes its time keeps back nothing else."""
        now = datetime.now(UTC)
        queues = {
            channel: due(channel, queue, alerting.alerts, now, alerting.utc_offset_s)
            for channel, queue in self._state.queues.items()
            if not queue.empty or channel in alerting.channels
        }
        if queues != self._state.queues:
            self._keep(self._state.model_copy(update={"queues": queues}))
        clock = time.monotonic()
        for channel, queue in queues.items():
            refused_until = self._refused.get(channel, (0.0, 0.0))[0]
            if queue.on_its_way is not None and channel not in self._sending and refused_until <= clock:
                self._sending[channel] = asyncio.create_task(self._send(queue.on_its_way))

    async def _send(self, message: Message) -> None:
        channel = message.channel
        try:
            await sender.send(self._town.root, message)
        except GtError as error:
            if error.retryable:
                pause = min(max(1.0, 2.0 * self._refused.get(channel, (0.0, 0.0))[1]), LONGEST_PAUSE_S)
                self._refused[channel] = (time.monotonic() + pause, pause)
                return
            # The channel has lost its URL: the log has the alert.
        except OSError as error:
            print(f"no sender can be started: {error}", file=sys.stderr, flush=True)
            return
        finally:
            del self._sending[channel]
        self._refused.pop(channel, None)
        queue = delivered(self._state.queues.get(channel, ChannelQueue()), message)
        self._keep(self._state.model_copy(update={"queues": {**self._state.queues, channel: queue}}))

    def _keep(self, state: AlarmState) -> None:
        self._state = state
        if self._gone_s():
            return
        try:
            self._town.paths.alerts.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_record(state_path(self._town.paths), state)
        except OSError as error:
            # A full disk must not keep an alert back; as long as this process lives it knows what it has told.
            print(f"what was told cannot be kept: {error}", file=sys.stderr, flush=True)

    def _beat(self) -> None:
        """Show that somebody looks."""
        try:
            os.utime(state_path(self._town.paths))
        except FileNotFoundError:
            self._keep(self._state)


def used_percent(usage: tuple[int, int, int]) -> float:
    """As df counts it: what only root may use is neither used nor free.

    Args:
        usage: total, used and free bytes, as shutil.disk_usage gives them.
    """
    _, used, free = usage
    return 100.0 * used / max(used + free, 1)


def temporal_ailment(town: Town) -> str:
    """What keeps the town's Temporal from its work, "" for nothing.

    It is asked for the namespace, which it reads from its database each time, through the HTTP API of its Web UI:
    the SDK's client would be far too heavy here.
    """
    section, listening = town.file.temporal, town.temporal_listening()
    # Neither goes through a proxy, whatever the environment names.
    if listening.on_socket:
        asking: http.client.HTTPConnection = UnixConnection(str(temporal_socket(town)), _REQUEST_S)
    else:
        asking = http.client.HTTPConnection(listening.ui_host, section.ui_port, timeout=_REQUEST_S)
    try:
        with contextlib.closing(asking):
            asking.request("GET", f"/api/v1/namespaces/{quote(section.namespace, safe='')}")
            answer = asking.getresponse()
            answer.read(1)
            if answer.status != http.HTTPStatus.OK:
                return f"it does not answer ({answer.status} {answer.reason})"
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer ({error})"
    return "" if _has_database(town) else f"its database {town.paths.temporal_db} was deleted or replaced under it"


def _has_database(town: Town) -> bool:
    """Whether the server works on the file that its next start will read, and not on one that was deleted.

    It goes on for as long as it runs, and what it has taken is lost with it.
    """
    path = town.paths.temporal_db
    server = tenant(lock_path(town, TEMPORAL))
    deleted = f"{path.resolve()} (deleted)"  # as Linux names it
    if server is not None:
        with contextlib.suppress(OSError):
            for opened in os.scandir(f"/proc/{server.pid}/fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    if os.readlink(opened.path) == deleted:
                        return False
    return path.exists()


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
    """Look for ever; a failure is told on standard error, and the process ends to be started again."""
    try:
        asyncio.run(Alarm(town).run(wake))
    except BaseException as error:
        print(f"the alarm failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
