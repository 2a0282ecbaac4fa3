"""A real Temporal server as a process of the test run's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from services.programs import temporal_settings

START_S = 120.0


@contextlib.contextmanager
def dev_server(folder: Path) -> Iterator[int]:
    """Run a server with a town's settings and without a database file; its log is in `folder`.

    Yields:
        Its port.
    """
    port = free_port()
    program = Path(sys.executable).parent / "temporal"
    argv = [str(program), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
    argv += temporal_settings()
    with (folder / "log").open("wb") as stream:
        process = subprocess.Popen(argv, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        asyncio.run(wait_for_server(port))
        yield port
    finally:
        process.terminate()
        process.wait(120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def client_of(port: int) -> Client:
    return await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)


async def wait_for_server(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(Exception):
            client = await client_of(port)
            async for _ in client.list_workflows("GtBead = 'sh-1'", limit=1):
                pass
            return
        assert time.monotonic() < deadline, "the Temporal server does not start"
        await asyncio.sleep(0.1)
