"""A network of one's own, without root: it is left, joined by who is allowed to, and closed to everybody else."""

from __future__ import annotations

import os
import socket

from services.temporal import network_namespace
from tests.services.test_processes import LIBC, PR_SET_DUMPABLE, as_ordinary_user, exit_code


def test_an_ordinary_user_leaves_the_network_and_joins_it_again() -> None:
    ready, is_ready = os.pipe()
    may_end, end = os.pipe()

    def serve() -> None:
        _as_a_program()
        network_namespace.leave()
        with socket.create_server(("127.0.0.1", 0)) as server:
            os.write(is_ready, str(server.getsockname()[1]).encode())
            os.close(end)
            os.read(may_end, 1)

    pid = as_ordinary_user(serve)
    os.close(is_ready)
    try:
        port = int(os.read(ready, 10))

        def reaches(*, joined: bool) -> bool:
            _as_a_program()
            if joined:
                assert network_namespace.differs(pid)
                network_namespace.join(pid)
                assert not network_namespace.differs(pid)
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        assert exit_code(as_ordinary_user(lambda: reaches(joined=True))) == 1
        assert exit_code(as_ordinary_user(lambda: reaches(joined=False))) == 0
    finally:
        for descriptor in (ready, may_end, end):
            os.close(descriptor)
        assert exit_code(pid) == 0


def _as_a_program() -> None:
    """Changing its user has made this process untraceable; a program that it ran would not be."""
    LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
