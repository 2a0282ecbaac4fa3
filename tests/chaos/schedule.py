"""Which faults a run injects, and when: a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

FIRST_S = 6.0
"""after the first beads were slung"""
GAP_S = (3.0, 8.0)


class Kind(StrEnum):
    """A fault. Those of an agent hit one attempt, `TMUX_SERVER` all that live; the others may hit none."""

    AGENT = "agent"
    """kill -9 of the agent's process"""
    PANE = "pane"
    """kill -9 of the first process of its pane"""
    SESSION = "session"
    """tmux kill-session"""
    PAUSE = "pause"
    """SIGSTOP of an agent, SIGCONT long before its heartbeat is too old"""
    HANG = "hang"
    """SIGSTOP for good of an agent that has beaten: it must be found out by its silence"""
    TMUX_SERVER = "tmux_server"
    WORKER = "worker"
    FREEZE = "freeze"
    """SIGSTOP of the worker, SIGCONT after every timeout is over"""
    TEMPORAL = "temporal"
    DOLT = "dolt"
    SUPERVISOR = "supervisor"
    """kill -9 of supervisord, and of all its services with it, then `gt up`"""


_DECK = (
    *(Kind.AGENT, Kind.AGENT, Kind.AGENT, Kind.PANE, Kind.PANE, Kind.SESSION, Kind.SESSION, Kind.PAUSE, Kind.HANG),
    *(Kind.TMUX_SERVER, Kind.WORKER, Kind.WORKER, Kind.FREEZE, Kind.TEMPORAL, Kind.DOLT, Kind.SUPERVISOR),
)
"""Dealt whole before it is shuffled anew, so that a short run has some of everything."""


@dataclass(frozen=True)
class Fault:
    """One fault to inject."""

    at_s: float
    """after the start of the run"""
    kind: Kind
    draw: float
    """in [0, 1): which of the candidates is hit"""


def schedule(seed: int, seconds: float, *, without: frozenset[Kind] = frozenset()) -> tuple[Fault, ...]:
    """Faults for `seconds`, the same for the same arguments.

    Args:
        without: kinds that this town cannot have.
    """
    chance = random.Random(seed)
    deck: list[Kind] = []
    faults: list[Fault] = []
    at_s = FIRST_S
    while at_s < seconds:
        if not deck:
            deck = [kind for kind in _DECK if kind not in without]
            chance.shuffle(deck)
        faults.append(Fault(at_s=round(at_s, 2), kind=deck.pop(), draw=chance.random()))
        at_s += chance.uniform(*GAP_S)
    return tuple(faults)
