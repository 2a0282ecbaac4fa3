"""The town's tmux server outlives its socket: cleaners of /tmp delete that, and nobody finds the living sessions.

Who the server is stands in the town's run folder. Where its socket does not answer and that very process lives, SIGUSR1
has it make the socket again (tmux(1)); taken for dead, every session of the town would be started twice.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Final

import psutil

from models.base import Frozen
from models.errors import ErrorCode, GtError
from services.supervisor.processes import Birth, read_record, write_record

NOT_FOUND: Final = ("no server running", "error connecting to", "lost server", "server exited")
"""What a tmux client says that finds no server, or loses it."""
_MADE_AGAIN_S: Final = 5.0
_STEP_S: Final = 0.02


class TmuxServer(Frozen):
    born: Birth
    socket: str
    """path"""


def remember(record: Path, pid: int, socket_path: str) -> None:
    """Note which process is the town's tmux server; noted already, nothing is written."""
    born = Birth.of(pid)
    known = read_record(record, TmuxServer)
    if born is not None and (known is None or known.socket != socket_path or not _same(known.born, born)):
        write_record(record, TmuxServer(born=born, socket=socket_path))


def find_again(record: Path) -> bool:
    """Whether the remembered server can be reached, once it has made its socket again where that was deleted.

    Raises:
        GtError: TMUX_FAILED where it lives and does not: its sessions are not dead, and nobody may act as if.
    """
    server = read_record(record, TmuxServer)
    if server is None or not _is_tmux(server.born):
        return False
    if _answers(server.socket):
        return True
    deadline = time.monotonic() + _MADE_AGAIN_S
    try:
        os.makedirs(os.path.dirname(server.socket), mode=0o700, exist_ok=True)
        os.kill(server.born.pid, signal.SIGUSR1)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise _unreachable(server, str(error)) from None
    while not _answers(server.socket):
        if not server.born.lives():
            return False
        if time.monotonic() > deadline:
            raise _unreachable(server, f"nothing answers at {server.socket}")
        time.sleep(_STEP_S)
    return True


def _unreachable(server: TmuxServer, why: str) -> GtError:
    message = f"the tmux server (pid {server.born.pid}) lives and cannot be reached: {why}"
    return GtError(ErrorCode.TMUX_FAILED, message, "if it stays so: gt down --sessions && gt up")


def _is_tmux(born: Birth) -> bool:
    try:
        return born.lives() and psutil.Process(born.pid).name().startswith("tmux")
    except psutil.Error:
        return False


def _same(one: Birth, other: Birth) -> bool:
    return one.pid == other.pid and abs(one.started - other.started) < 1.0


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except OSError:
            return False
    return True
