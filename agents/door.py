"""The socket where a sandbox hands in commands, for both of its sides. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 200_000
"""of a request"""
SOCKET = "agent.sock"


@contextlib.contextmanager
def door_socket(folder: Path | str) -> Iterator[str]:
    """The path of the socket in `folder`, by a short name: its own may be longer than a socket's address may be."""
    if sys.platform != "linux":
        yield os.path.join(folder, SOCKET)
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)
