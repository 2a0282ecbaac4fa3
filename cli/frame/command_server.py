"""The server that runs commands which only read, with everything that they need loaded already.

    python -m cli.frame.command_server --town DIR

Loading temporalio, pydantic and the ledger takes most of such a command's time. This process has them loaded and forks
for each request; the child takes over the caller's standard streams, directory and environment and runs what the caller
would have run, so that there is nothing in which the two could differ (docs/decisions/0035).

A connection: the server says whose commands it has (`command_client.CODE`), the caller sends its request and its files,
the server answers with the exit code. Both see to it that the other is the same user.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Final

import typer

from cli.app import app as gt
from cli.beads.app import app as bd
from cli.frame import entry, streams
from cli.frame.command import group_of
from cli.frame.command_client import CODE, SERVED, SOCKET, peer_of
from models.town import StoreEngine
from services.town import Town, find_town

AT_ONCE: Final = 16
"""commands; whoever comes then runs its own"""
READ_S: Final = 5.0
RUN_S: Final = 90
_APPS: Final = {"gt": gt, "bd": bd}
_FILES: Final = 4
_PIECE: Final = 65_536
_LOADED: Final = (
    *("asyncio", "concurrent.futures.thread", "encodings.idna", "getpass", "pymysql", "pymysql.cursors"),
    *("temporalio.client", "typer._adapters", "typer._click.decorators"),
    *("ledger.overview", "ledger.queries", "ledger.store", "models.job.messages", "models.refinery.messages"),
    *("models.mayor.escalations", "models.supervision.messages", "services.notifications.alarm", "services.sandbox"),
    *("services.supervisor.up_and_down", "services.temporal.client", "services.temporal.updates"),
)
"""What commands import in their bodies, and costs them most."""


def load(town: Town) -> None:
    """Import what the commands of SERVED need."""
    if town.file.store.engine is StoreEngine.EMBEDDED:
        from ledger.engine.embedded import load_doltlite

        load_doltlite()
    for module in _LOADED:
        importlib.import_module(module)
    for program, noun in {tuple(name.split()[:2]) for name in SERVED}:
        group = group_of(_APPS[program])
        group.get_command(typer.Context(group), noun)
    # What is frozen is not looked through, and so not copied, in each child.
    gc.collect()
    gc.freeze()


class CommandServer:
    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._running = 0
        root = os.fsdecode(CODE.partition(b"\0")[0])
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        self._sources = {file: os.stat(file).st_mtime_ns for file in files if file.startswith(root)}

    def serve(self) -> None:
        """Run what is asked; returns once its own code has been replaced, for the supervisor to start the new one."""
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while True:
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError):
                if self._is_replaced():
                    return
                if self._running < AT_ONCE and peer_of(connection) == os.getuid():
                    self._running += 1
                    if os.fork() == 0:
                        self._listening.close()
                        _run_child(connection)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                self._running -= 1

    def _is_replaced(self) -> bool:
        try:
            return any(os.stat(file).st_mtime_ns != written for file, written in self._sources.items())
        except OSError:
            return True


def _run_child(connection: socket.socket) -> None:
    """Run what is asked on `connection`, and end this process."""
    log = os.fdopen(os.dup(2), "w")
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(RUN_S)
        connection.settimeout(READ_S)
        connection.sendall(CODE + b"\n")
        program, argv = _take_over(connection)
        # A caller that ends, by Ctrl-C or otherwise, ends its command: SIGIO does.
        connection.settimeout(None)
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC)
        streams.hide_unraisable()
        code = entry.run(_APPS[program], program, argv)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        connection.sendall(b"%d\n" % code)
    except OSError:
        pass  # the caller has gone
    except Exception:
        traceback.print_exc(file=log)
        log.flush()
    finally:
        os._exit(0)


def _take_over(connection: socket.socket) -> tuple[str, list[str]]:
    """Make the caller's files, directory and environment this process's; returns the command line."""
    head, files, _, _ = socket.recv_fds(connection, 8, _FILES)
    length, raw = int.from_bytes(head, sys.byteorder), b""
    while head and len(raw) < length and (piece := connection.recv(_PIECE)):
        raw += piece
    if not head or len(raw) < length:
        raise ConnectionError("the request has no end")
    for number, file in enumerate(files[:-1]):
        os.dup2(file, number)
    os.fchdir(files[-1])
    for file in files:
        os.close(file)
    program, out, err, count, *rest = raw.split(b"\0")
    argv = [os.fsdecode(word) for word in rest[: int(count)]]
    os.environb.clear()
    os.environb.update(dict(variable.split(b"=", 1) for variable in rest[int(count) :]))
    time.tzset()
    sys.argv = [os.fsdecode(program), *argv]
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, encoding=out.decode())
    sys.stderr = os.fdopen(2, "w", 1, encoding=err.decode(), errors="backslashreplace")
    return os.fsdecode(program), argv


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs commands that only read, with everything loaded.")
    parser.add_argument("--town", type=Path, required=True)
    town = find_town(parser.parse_args().town)
    load(town)
    # Relative: the path may be longer than a socket's address may be.
    os.chdir(town.paths.run)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    os.umask(0o177)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(SOCKET)
        os.umask(0o077)
        listening.listen(AT_ONCE)
        CommandServer(listening).serve()


if __name__ == "__main__":
    main()
