"""Processes of agents on this host: in its sandbox a process knows itself by an id of that sandbox alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

Name = tuple[str, int, int]
"""bead, attempt, and the id that the process has for itself"""


def agent_processes(bead: str = "") -> dict[Name, psutil.Process]:
    """Living processes of attempts, by how they call themselves; those of one bead, or of all."""
    return {name: process for process in psutil.process_iter() for name in _names(process) if bead in {"", name[0]}}


def agent_process(name: Name) -> psutil.Process:
    """The process that calls itself so. AssertionError where none lives."""
    found = agent_processes(name[0]).get(name)
    assert found is not None, f"no process of attempt {name[1]} of {name[0]} calls itself {name[2]}"
    return found


def _names(process: psutil.Process) -> Iterator[Name]:
    try:
        told = process.environ()
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (psutil.Error, OSError):
        return
    if "GT_BEAD" in told and "GT_ATTEMPT" in told:
        # By namespace, its own last: one number without a sandbox, two within.
        own = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
        yield told["GT_BEAD"], int(told["GT_ATTEMPT"]), int(own.split()[-1])
