"""Whether a machine has cgroup scopes for sandboxes, and the words that ask systemd for one."""

from __future__ import annotations

import pytest

from models.settings import SandboxSettings
from policies.security.scopes import Machine, scope_words, why_none

ALL = frozenset({"cpuset", "cpu", "io", "memory", "pids"})


@pytest.mark.parametrize(
    ("machine", "reason", "mend"),
    [
        (Machine(ALL, systemd=True, root=True, lingers=False), "", ""),
        (Machine(ALL, systemd=True, root=False, lingers=True), "", ""),
        (Machine(ALL, systemd=True, root=False, lingers=False), "last login", "loginctl enable-linger"),
        (Machine(ALL, systemd=False, root=True, lingers=True), "systemd does not run", "cpu_percent 0"),
        (
            Machine(frozenset(), systemd=True, root=True, lingers=True),
            "no controller memory, pids, cpu",
            "cpu_percent 0",
        ),
        (Machine(ALL - {"cpu"}, systemd=True, root=True, lingers=True), "no controller cpu", "cpu_percent 0"),
        (Machine(None, systemd=True, root=True, lingers=True), "no cgroup v2", "total_memory_bytes 0"),
    ],
)
def test_why_there_is_none(machine: Machine, reason: str, mend: str) -> None:
    found = why_none(machine)
    assert (found is None) is (reason == "")
    if found is not None:
        assert reason in found.reason
        assert mend in found.hint


def test_one_is_asked_for_where_a_limit_takes_it_alone() -> None:
    assert scope_words(SandboxSettings(), 0) == []
    limited = SandboxSettings(total_memory_bytes=5, cpu_percent=150, processes=7)
    words = "systemd-run --scope --quiet --collect -p MemoryMax=5 -p TasksMax=7 -p CPUQuota=150% --"
    assert scope_words(limited, 0) == words.split()
    mine = words.replace("systemd-run", "env XDG_RUNTIME_DIR=/run/user/1000 systemd-run --user")
    assert scope_words(limited, 1000) == mine.split()
    assert "CPUQuota" not in " ".join(scope_words(SandboxSettings(total_memory_bytes=5), 0))
