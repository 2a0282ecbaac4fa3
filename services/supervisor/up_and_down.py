"""`gt up` and `gt down`: a town's services under a supervisord of its own, detached.

One supervisord per town: it is started under a lock that lives as long as it does, and its programs
die with it (services.supervisor.guard), so whatever was killed, the next `gt up` leaves one of each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from models.base import Frozen
from models.errors import ErrorCode, GtError
from services import ports, tmux_server
from services.atomic_files import write_whole
from services.git_config import write_town_config
from services.locks import locked_within, open_lock
from services.loopback import no_proxy
from services.own_python import OWN_PYTHON
from services.private_files import close_to_others
from services.supervisor import guard
from services.supervisor.client import Reported, State, Supervisor, SupervisorUnreachable
from services.supervisor.health import ailment
from services.supervisor.processes import Birth, write_record
from services.supervisor.programs import (
    DOOR,
    Program,
    lock_path,
    log_path,
    pid_path,
    program_names,
    programs,
    supervisor_config,
    supervisor_socket,
)
from services.temporal.listening import choose, listening_of
from services.town import Town

SUPERVISOR = "supervisord"
_POLL_S = 0.1
_LOG_LINES = 8
_STOP_S = 90.0
"""All programs' stop_wait_s together, and some."""
_HUNG_S = 2.0
"""A supervisord that holds its lock but does not answer gets this long to end by itself."""
_HOPELESS_FAILURES = 5
"""Short lives in a row after which `gt up` waits no longer (the service is still started again)."""
_SESSION_VARIABLES = (
    *("GT_RIG", "GT_POLECAT", "GT_BEAD", "GT_ATTEMPT", "GT_BRANCH", "GT_TARGET", "GT_TASK_FILE", "GT_FAILURE_LOG"),
    *("TMUX", "TMUX_PANE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"),
)
"""What an agent's session or a git hook has set must not reach the services."""


class ServiceState(Frozen):
    """One service as `gt status` shows it."""

    name: str
    state: State
    pid: int | None
    restarts: int
    """since `gt up`"""


class UpReport(Frozen):
    started: bool
    """False: everything ran already"""
    services: tuple[ServiceState, ...]
    web_url: str | None
    took_s: float


class DownReport(Frozen):
    stopped: bool
    """False: nothing ran"""
    sessions_ended: bool


def up(town: Town, wait: bool = True, timeout_s: float = 60.0) -> UpReport:
    """Start the town's services, detached and supervised; what runs already is left alone.

    Args:
        town: the town.
        wait: return when every service is healthy; otherwise as soon as supervisord runs.
        timeout_s: how long to wait for that.

    Raises:
        GtError: PORT_TAKEN or PROGRAM_MISSING before anything is started; SERVICE_FAILED when a service keeps
            ending; TIMED_OUT when one is not healthy in time. The last two carry the end of its log, and
            supervision goes on.
    """
    begun = time.monotonic()
    deadline = begun + timeout_s
    with _one_at_a_time(town, deadline):
        supervisor = Supervisor(supervisor_socket(town))
        condition = supervisor.condition()
        started = condition is not State.RUNNING
        if started:
            _require_programs()
        write_town_config(town.paths)
        close_to_others(town.paths)
        if started:
            _start_supervisor(town, supervisor, deadline, _STOP_S if condition is State.STOPPING else _HUNG_S)
        else:
            started = _start_stopped(supervisor)
        if wait:
            for name in program_names(town):
                _wait_healthy(town, name, deadline)
            _wait_for_web_ui(town, deadline)
    took_s = round(time.monotonic() - begun, 3)
    return UpReport(started=started, services=tuple(service_states(town)), web_url=town.web_url(), took_s=took_s)


def down(town: Town, sessions: bool = False) -> DownReport:
    """Stop what `up` started, the worker first; polecat sessions only when asked.

    Raises:
        GtError: TIMED_OUT when something does not end.
    """
    with _one_at_a_time(town, time.monotonic() + _STOP_S):
        stopped = _stop_supervisor(town)
        for name in program_names(town):
            leftover = guard.tenant(lock_path(town, name))
            if leftover is not None and leftover.lives():
                leftover.end(guard.LEFTOVER_GRACE_S)
                stopped = True
    return DownReport(stopped=stopped, sessions_ended=_end_sessions(town) if sessions else False)


def _require_programs() -> None:
    """What the worker runs for every job; found out before anything is started.

    Raises:
        GtError: PROGRAM_MISSING.
    """
    for program in ("git", "tmux"):
        if shutil.which(program) is None:
            raise GtError(ErrorCode.PROGRAM_MISSING, f"{program} is not installed", f"apt-get install {program}")


def service_states(town: Town) -> list[ServiceState]:
    """Every service of the town.

    Without a supervisord (a container, a worker started by hand) what holds its lock counts as running.
    """
    try:
        reported = {row.name: row for row in Supervisor(supervisor_socket(town)).programs()}
    except SupervisorUnreachable:
        reported = {}
    return [_state_of(town, name, reported.get(name)) for name in program_names(town)]


def _state_of(town: Town, name: str, reported: Reported | None) -> ServiceState:
    holder = guard.tenant(lock_path(town, name))
    if reported is None:
        if holder is not None and holder.lives():
            return ServiceState(name=name, state=State.RUNNING, pid=holder.pid, restarts=0)
        return ServiceState(name=name, state=State.STOPPED, pid=None, restarts=0)
    failing = reported.state is State.RUNNING and holder is not None and holder.unsteady(time.time())
    return ServiceState(
        name=name,
        state=State.FAILING if failing else reported.state,
        pid=reported.pid,
        restarts=max(0, holder.starts - 1) if holder else 0,
    )


@contextmanager
def _one_at_a_time(town: Town, deadline: float) -> Iterator[None]:
    """A second `gt up` or `gt down` waits for the first."""
    with open_lock(town.paths.run / "up.lock") as lock:
        if not locked_within(lock, max(0.0, deadline - time.monotonic())):
            raise GtError(ErrorCode.TIMED_OUT, f"another gt up or gt down is at work on {town.root}")
        yield


def _start_supervisor(town: Town, supervisor: Supervisor, deadline: float, leftover_s: float) -> None:
    """Start a supervisord; it has the lock from before its start until its end.

    A predecessor that still has it gets `leftover_s` seconds to end by itself.
    """
    listening = listening_of(choose(town))
    for folder in (town.paths.data, town.paths.logs, town.paths.run):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = lock_path(town, SUPERVISOR)
    with guard.hold(lock, leftover_s) as held:
        write_whole(town.paths.temporal_listening, listening.model_dump_json() + "\n")
        wanted = programs(town)
        _wait_for_leftovers(town, wanted)
        _refuse_taken_ports(town, wanted)
        socket = supervisor_socket(town)
        socket.unlink(missing_ok=True)
        pid_path(town).unlink(missing_ok=True)
        write_whole(town.paths.supervisor_config, supervisor_config(town, socket))
        environment = {key: value for key, value in os.environ.items() if key not in _SESSION_VARIABLES}
        begun = subprocess.run(
            [*OWN_PYTHON, "-m", "supervisor.supervisord", "-c", str(town.paths.supervisor_config)],
            cwd=town.root,
            umask=0o077,
            env={**environment, **no_proxy(environment), "GT_TOWN": str(town.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            pass_fds=(held.fileno(),),
        )
        if begun.returncode != 0:
            raise GtError(ErrorCode.SERVICE_FAILED, f"supervisord: {(begun.stderr or begun.stdout).strip()[-500:]}")
        while supervisor.condition() is not State.RUNNING:
            if time.monotonic() > deadline:
                raise GtError(
                    ErrorCode.TIMED_OUT, f"supervisord does not answer: {_log_end(log_path(town, SUPERVISOR))}"
                )
            time.sleep(_POLL_S)
        born = Birth.of(int(pid_path(town).read_text(encoding="ascii")))
        if born is not None:
            write_record(guard.record_path(lock), guard.Tenancy(pid=born.pid, started=born.started))


def _start_stopped(supervisor: Supervisor) -> bool:
    """Start what a person has stopped; True if there was something."""
    stopped = [row.name for row in supervisor.programs() if row.state is State.STOPPED]
    for name in stopped:
        supervisor.start(name)
    return bool(stopped)


def _wait_for_leftovers(town: Town, wanted: tuple[Program, ...]) -> None:
    """Services of a supervisord that was killed are dying: end what is left, and count starts anew."""
    for program in wanted:
        lock = lock_path(town, program.name)
        leftover = guard.tenant(lock)
        if leftover is not None:
            leftover.end(guard.LEFTOVER_GRACE_S)
            guard.record_path(lock).unlink(missing_ok=True)


def _refuse_taken_ports(town: Town, wanted: tuple[Program, ...]) -> None:
    for program in wanted:
        for key, port in program.ports:
            if not ports.is_free(port):
                raise GtError(
                    ErrorCode.PORT_TAKEN,
                    f"port {port} ({key} in {town.paths.config}) is taken by {_listener(port)}",
                    f"end that program, or choose another port in {town.paths.config}",
                )


def _listener(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr
            if connection.status == psutil.CONN_LISTEN and here and here.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # another user's, or it has just ended: its name only helps
    return "another program"


def _wait_healthy(town: Town, name: str, deadline: float) -> None:
    while True:
        problem = ailment(town, name)
        if problem is None:
            return
        holder = guard.tenant(lock_path(town, name))
        code: ErrorCode | None = None
        if holder is not None and holder.failures >= _HOPELESS_FAILURES:
            code, problem = ErrorCode.SERVICE_FAILED, "keeps ending soon after its start"
        elif time.monotonic() > deadline:
            code = ErrorCode.TIMED_OUT
        if code is not None:
            log = log_path(town, name)
            raise GtError(code, f"{name} {problem}{_log_end(log)}", f"less {log}")
        time.sleep(_POLL_S)


def _wait_for_web_ui(town: Town, deadline: float) -> None:
    """Until its address answers; behind the socket there is none, and the server is not healthy without its door."""
    section, listening = town.file.temporal, town.temporal_listening()
    if section.external or section.ui_port is None or listening.on_socket:
        return
    while not ports.answers(section.ui_port):
        if time.monotonic() > deadline:
            log = log_path(town, DOOR)
            raise GtError(ErrorCode.TIMED_OUT, f"the Web UI does not answer{_log_end(log)}", f"less {log}")
        time.sleep(_POLL_S)


def _log_end(log: Path) -> str:
    """The last lines of a log, each on a line of its own; "" where there are none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 4000))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])


def _stop_supervisor(town: Town) -> bool:
    supervisor = Supervisor(supervisor_socket(town))
    holder = guard.tenant(lock_path(town, SUPERVISOR))
    asked = False
    try:
        supervisor.shutdown()
        asked = True
    except SupervisorUnreachable:
        if holder is None or not holder.lives():
            return False
    with open_lock(lock_path(town, SUPERVISOR)) as lock:
        # The lock is free when supervisord has ended, and it ends last.
        if (not asked or not locked_within(lock, _STOP_S)) and holder is not None:
            holder.end(guard.LEFTOVER_GRACE_S)
        if not locked_within(lock, 1.0):
            raise GtError(ErrorCode.TIMED_OUT, f"supervisord of {town.root} does not end")
    return True


def _end_sessions(town: Town) -> bool:
    if shutil.which("tmux") is None:
        return False
    tmux_server.find_again(town.paths.tmux_server)
    ended = subprocess.run(
        ["tmux", "-L", town.tmux_socket, "kill-server"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return ended.returncode == 0
