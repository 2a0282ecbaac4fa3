"""A cgroup scope around one sandbox: what all of its processes may use together.

systemd makes it, for root by the machine's manager and for anybody else by the person's own. Only where a limit is
set that takes one: prlimit(1) has no limit on processes together, and none on CPU but its end.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from models.settings import SandboxSettings
from policies.security.sandbox import NotPossible

_NEEDED: Final = ("memory", "pids", "cpu")
UNSET: Final = "gt config sandbox.total_memory_bytes 0; gt config sandbox.cpu_percent 0"


class Machine(NamedTuple):
    """What decides whether there are scopes."""

    controllers: frozenset[str] | None
    """of cgroup v2; None: its hierarchy is not mounted where it belongs"""
    systemd: bool
    """systemd runs this machine, and systemd-run is installed"""
    root: bool
    lingers: bool
    """the person's manager outlives logins"""


def wanted(settings: SandboxSettings) -> bool:
    """Whether a limit is set that takes a scope."""
    return bool(settings.total_memory_bytes or settings.cpu_percent)


def why_none(machine: Machine) -> NotPossible | None:
    """Why this machine has no scopes for this user; None: it seems to."""
    if machine.controllers is None:
        return NotPossible("this machine has no cgroup v2 at /sys/fs/cgroup", UNSET)
    missing = [name for name in _NEEDED if name not in machine.controllers]
    if missing:
        return NotPossible(f"its cgroups have no controller {', '.join(missing)}", UNSET)
    if not machine.systemd:
        return NotPossible("systemd does not run this machine, which would make them", UNSET)
    if not machine.root and not machine.lingers:
        # A scope would end with the person's last login, and the agent in it.
        return NotPossible("the person's systemd ends with their last login", f"loginctl enable-linger; or {UNSET}")
    return None


def scope_words(settings: SandboxSettings, uid: int) -> list[str]:
    """Words in front of a sandbox's own; nothing where no limit takes a scope."""
    if not wanted(settings):
        return []
    properties = {
        "MemoryMax": settings.total_memory_bytes,
        "TasksMax": settings.processes,
        "CPUQuota": f"{settings.cpu_percent}%" if settings.cpu_percent else 0,
    }
    given = [word for name, value in properties.items() if value for word in ("-p", f"{name}={value}")]
    run = ["systemd-run", "--scope", "--quiet", "--collect", *given, "--"]
    # The worker may have been started where no login had told where the person's manager is.
    return run if uid == 0 else ["env", f"XDG_RUNTIME_DIR=/run/user/{uid}", *run[:1], "--user", *run[1:]]
