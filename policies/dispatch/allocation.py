"""Which waiting job gets a living session next, under which name and on which host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

from models.base import Frozen

NAMES = (
    "toast", "nux", "furiosa", "slit", "rictus", "capable", "dag", "cheedo", "angharad", "valkyrie",
    "morsov", "ace", "max", "glory", "corpus", "dementus", "jack", "octoboss", "scrotus", "chumbucket",
    "crow", "gutgash", "stank", "pinkeye", "griffa", "jabal", "dinki", "keeper", "maadi", "giddy",
    "gale", "melita", "coma", "rock", "rider", "organic", "prime", "bullet", "doof", "buzzard",
    "plaid", "interceptor", "gigahorse", "warboy", "warpup", "vuvalini", "wretched", "smeg", "vulture", "goose",
    "bubba", "toecutter", "johnny", "mudguts", "cundalini", "starbuck", "clunk", "bearclaw", "humungus", "wez",
    "pappagallo", "curmudgeon", "zetta", "gyro", "feral", "aunty", "master", "blaster", "ironbar", "savannah",
)  # fmt: skip
"""Names for polecats; past the last one they go on as toast-2, nux-2, …"""


class WaitingJob(Frozen):
    """A job that asks for a slot."""

    bead: str
    priority: int
    rework: bool
    arrival: int
    """smaller came earlier"""
    ready: bool = True
    """False while a dependency is open, or not known to be closed"""
    polecat: str | None = None
    host: str | None = None
    """set together with `polecat` when the job keeps its worktree"""
    avoid_polecat: str | None = None
    avoid_host: str | None = None


class HeldPolecat(Frozen):
    """A job's polecat; the name stays with the job until it ends, the slot only while a session lives."""

    bead: str
    polecat: str
    host: str
    living: bool


class Allocation(Frozen):
    bead: str
    polecat: str
    host: str


def allocate(
    waiting: tuple[WaitingJob, ...],
    held: tuple[HeldPolecat, ...],
    capacity: int,
    hosts: tuple[str, ...],
) -> tuple[Allocation, ...]:
    """Fill the free slots: rework before new work, then priority 0 first, then by arrival.

    Args:
        waiting: every job that asks; those not ready are passed over.
        held: every polecat that belongs to an unfinished job, of waiting jobs too.
        capacity: how many sessions may live at once in the rig.
        hosts: where new polecats may be placed, in order of preference among equals.
    """
    free = capacity - sum(1 for polecat in held if polecat.living)
    load = Counter({host: 0 for host in hosts})
    load.update(polecat.host for polecat in held if polecat.living)
    taken = {polecat.polecat for polecat in held}
    granted: list[Allocation] = []
    for job in sorted((job for job in waiting if job.ready), key=_urgency):
        if len(granted) >= free:
            break
        if job.polecat is not None and job.host is not None:
            polecat, host = job.polecat, job.host
        elif hosts:
            host = _least_loaded(hosts, load, job.avoid_host)
            polecat = next(name for name in _names() if name not in taken | {job.avoid_polecat})
        else:
            continue
        load[host] += 1
        taken.add(polecat)
        granted.append(Allocation(bead=job.bead, polecat=polecat, host=host))
    return tuple(granted)


def _urgency(job: WaitingJob) -> tuple[bool, int, int]:
    return (not job.rework, job.priority, job.arrival)


def _least_loaded(hosts: tuple[str, ...], load: Counter[str], avoid: str | None) -> str:
    return min(hosts, key=lambda host: (host == avoid, load[host], hosts.index(host)))


def _names() -> Iterator[str]:
    yield from NAMES
    for generation in count(2):
        for name in NAMES:
            yield f"{name}-{generation}"
