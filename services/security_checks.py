"""How closed a town is to others: what `gt doctor --security` looks at. Each check is a line of `SECURITY_CHECKS`."""

from __future__ import annotations

import contextlib
import http.client
import os
import stat
import sys
from collections.abc import Callable
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

import psutil

from models.doctor import Finding, FindingState
from models.network_list import FULL, in_words
from models.settings import Settings
from models.town import Listen, StoreEngine
from services import dolt, sandbox
from services.ports import LOOPBACK
from services.private_files import open_to_others
from services.supervisor.guard import tenant
from services.supervisor.programs import SERVER_SETTINGS, TEMPORAL, WORKER, lock_path
from services.temporal.listening import has_other_people
from services.town import DOLT_USER, Town

RESTART: Final = "gt down && gt up"
_NOT_UP: Final = "does not run"
_ANSWER_S: Final = 3.0
_SHOWN: Final = 3
_HTTP_API: Final = "frontend.httpAllowedHosts"
_HERE: Final = frozenset({"localhost", LOOPBACK, "::1"})


def examine_security(town: Town) -> list[Finding]:
    """Every check's finding, in their order; nothing is changed."""
    return [check(town) for check in SECURITY_CHECKS]


def check_files(town: Town) -> Finding:
    """Modes: nobody else has a right to the town's directory or to its own files."""
    opened = list(islice(open_to_others(town.paths), _SHOWN + 1))
    if not opened:
        return _ok("files", "the town's directory and files are its owner's alone")
    more = ", …" if len(opened) > _SHOWN else ""
    named = ", ".join(str(path) for path in opened[:_SHOWN])
    return _mend("files", f"others have rights to {named}{more}", "gt up")


def check_secrets(town: Town) -> Finding:
    """Files with passwords and URLs of channels: 0600, and of this user."""
    for path in (town.paths.secrets, town.paths.channels):
        with contextlib.suppress(FileNotFoundError):
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                return _mend("secrets", f"{path} is no plain file", "put the file itself there")
            if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o177:
                return _mend(
                    "secrets", f"{path} is not its owner's alone", f"chown {os.getuid()} {path}; chmod 600 {path}"
                )
    return _ok("secrets", "passwords and channels are in files of their owner alone")


def check_temporal(town: Town) -> Finding:
    """Who reaches Temporal, which does what it is told without asking who tells."""
    section, listening = town.file.temporal, town.temporal_listening()
    if section.external:
        return _warn(
            "temporal_listen", "is external: TLS and authentication are its own affair", "see docs/temporal.md"
        )
    if listening.on_socket:
        return _ok("temporal_listen", "listens on a Unix socket for its owner alone")
    if section.listen is Listen.SOCKET:
        return _mend("temporal_listen", "listens on loopback, and temporal.listen is socket", RESTART)
    if listening.lacks:
        return _warn("temporal_listen", listening.lacks, "allow unprivileged user namespaces")
    if has_other_people():
        why = "listens on loopback, where other people of this machine reach it"
        return _warn("temporal_listen", why, f'listen = "socket" under [temporal] in town.toml; {RESTART}')
    return _ok("temporal_listen", "listens on loopback, and nobody else has an account here")


def check_web_ui(town: Town) -> Finding:
    """Whether a web page whose name points to this machine gets in."""
    section = town.file.temporal
    if section.external or town.temporal_listening().on_socket or section.ui_port is None:
        return _ok("web_ui", "nothing of the town's listens on loopback for it")
    asking = http.client.HTTPConnection(LOOPBACK, section.ui_port, timeout=_ANSWER_S)
    try:
        with contextlib.closing(asking):
            asking.request("GET", "/", headers={"Host": "gastown.example"})
            status = asking.getresponse().status
    except (OSError, http.client.HTTPException):
        return _warn("web_ui", _NOT_UP, "gt up")
    if status == http.HTTPStatus.FORBIDDEN:
        return _ok("web_ui", "answers to this machine's own names alone")
    return _mend("web_ui", "answers to any Host, so that a web page may use it", RESTART)


def check_http_api(town: Town) -> Finding:
    """Whether Temporal's HTTP API was told to serve nobody."""
    if town.file.temporal.external:
        return _ok("http_api", "is the external Temporal's")
    server = tenant(lock_path(town, TEMPORAL))
    if server is None or not server.lives():
        return _warn("http_api", _NOT_UP, "gt up")
    try:
        told = f"{_HTTP_API}={SERVER_SETTINGS[_HTTP_API]}" in psutil.Process(server.pid).cmdline()
    except psutil.Error:
        return _warn("http_api", _NOT_UP, "gt up")
    return _ok("http_api", "serves nobody") if told else _mend("http_api", "answers to any Host", RESTART)


def check_worker(town: Town) -> Finding:
    """Whether agents and gates, which are processes of the same user, can read the worker's memory and environment."""
    worker = tenant(lock_path(town, WORKER))
    if worker is None or not worker.lives():
        return _warn("worker_memory", _NOT_UP, "gt up")
    if os.getuid() == 0:
        return _warn(
            "worker_memory", "the town runs as root, whose processes may read all others", "run it as a user of its own"
        )
    if sys.platform != "linux":
        return _warn("worker_memory", "only Linux keeps processes of one user apart")
    with contextlib.suppress(OSError):
        # The kernel gives what nobody may trace to root.
        if os.stat(f"/proc/{worker.pid}/environ").st_uid == 0:
            return _ok("worker_memory", "no other process reads its memory or environment")
    return _mend("worker_memory", "other processes of this user read its memory and environment", RESTART)


def check_sandbox(town: Town) -> Finding:
    """Whether agents and gates of this host see more than their own work, and why."""
    settings = sandbox.settings_in(town) or Settings()
    now, network = sandbox.standing(settings.sandbox), settings.agent.network
    found = f"{now.in_words().removeprefix('sandbox: ')} (sandbox.mode {now.mode})"
    found += f"; limits: {sandbox.limits_in_words(settings.sandbox, now.kind)}; network of agents: {in_words(network)}"
    problem = sandbox.scope_problem(settings.sandbox) if now.kind == "bwrap" else None
    if problem is not None:
        return _mend("sandbox", f"{found}; no agent and no gate starts: {problem.reason}", problem.hint)
    if now.kind != sandbox.NONE:
        return _ok("sandbox", found)
    mend = now.hint or "gt config sandbox.mode auto"
    if network != FULL and not now.refuses:
        return _mend("sandbox", f"{found}, so no agent starts", f"{mend}; or gt config agent.network full")
    return _mend("sandbox", found, mend) if now.refuses else _warn("sandbox", found, mend)


def check_ledger(town: Town) -> Finding:
    """What the ledger's user may do beside the ledger."""
    store = town.file.store
    if store.engine is StoreEngine.EMBEDDED:
        return _ok("ledger_user", "is a file: no server, no password")
    if store.engine is StoreEngine.EXTERNAL:
        parts = urlsplit(store.url or "")
        if parts.hostname in _HERE or "ssl" in parts.query:
            return _ok("ledger_user", f"is external, at {parts.hostname}")
        return _warn("ledger_user", f"goes to {parts.hostname} without TLS", "add ssl_ca=… to store.url in town.toml")
    try:
        user, files = dolt.rights(town)
    except OSError:
        return _warn("ledger_user", _NOT_UP, "gt up")
    if user == DOLT_USER and files:
        return _ok("ledger_user", f"its user {user} has its database and no files")
    return _mend("ledger_user", f"its user {user} may read and write files, or other databases", RESTART)


def _ok(name: str, found: str) -> Finding:
    return Finding(name=name, state=FindingState.OK, found=found)


def _warn(name: str, found: str, mend: str = "") -> Finding:
    return Finding(name=name, state=FindingState.WARN, found=found, mend=mend)


def _mend(name: str, found: str, mend: str) -> Finding:
    return Finding(name=name, state=FindingState.MEND, found=found, mend=mend)


SECURITY_CHECKS: Final[tuple[Callable[[Town], Finding], ...]] = (
    check_files,
    check_secrets,
    check_temporal,
    check_web_ui,
    check_http_api,
    check_worker,
    check_sandbox,
    check_ledger,
)
