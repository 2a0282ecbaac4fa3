"""Loopback ports: picking free ones for a new town, and telling who has taken one."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 20_000, 29_999
"""Below every common ephemeral range, so that no outgoing connection sits on a town's port while it is down."""


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether a server listens on `port` of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def pick_free(count: int) -> list[int]:
    """`count` distinct ports that are free now, at random so that towns rarely meet."""
    found: list[int] = []
    candidates = list(range(_FIRST, _LAST + 1))
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    return found
