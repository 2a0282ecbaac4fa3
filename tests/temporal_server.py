"""A real Temporal server as a process of the test run's own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from models.names import SEARCH_ATTRIBUTES
from services.supervisor.programs import temporal_settings
from services.temporal.query_retry import PatientQueries

START_S = 120.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
FOR_MANY_TESTS = ("frontend.WorkflowTimeSkippingEnabled=true", "worker.perNamespaceWorkerCount=0")
"""Dynamic configuration: a test may move clocks on, and a namespace, without workers of its own, costs little."""


@contextlib.contextmanager
def dev_server(folder: Path, flags: Sequence[str] = ()) -> Iterator[int]:
    """Run a server with a town's settings and without a database file; its log is in `folder`.

    Args:
        folder: an existing directory.
        flags: dynamic configuration, "key=value in JSON" each.

    Yields:
        Its port.
    """
    deadline = time.monotonic() + START_S
    while True:
        port = free_port()
        process = _start(port, folder, flags)
        try:
            if asyncio.run(wait_for_server(port, process)):
                yield port
                return
        finally:
            process.terminate()
            process.wait(120)
        assert time.monotonic() < deadline, "the Temporal server does not start"


def _start(port: int, folder: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "temporal"
    argv = [str(program), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error"]
    argv += temporal_settings()
    for flag in flags:
        argv += ["--dynamic-config-value", flag]
    with (folder / "log").open("wb") as stream:
        return subprocess.Popen(
            argv,
            env={"GOMAXPROCS": "1", **os.environ},  # as a town's on this machine; see services/supervisor/programs.py
            stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, preexec_fn=_end_with_the_tests,
        )  # fmt: skip


def _end_with_the_tests() -> None:
    """pytest-timeout ends a test process by `os._exit`, after which nobody would stop the server."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def client_of(port: int) -> Client:
    """A client as a town's."""
    address = f"127.0.0.1:{port}"
    return await Client.connect(address, data_converter=pydantic_data_converter, interceptors=[PatientQueries()])


async def client_of_namespace(port: int) -> Client:
    """A client of a new namespace, which a test has for itself, on the server at `port`."""
    namespace = uuid.uuid4().hex
    client = await Client.connect(f"127.0.0.1:{port}", namespace=namespace, data_converter=pydantic_data_converter)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=Duration(seconds=86400))
    )
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=namespace,
            search_attributes=dict.fromkeys(SEARCH_ATTRIBUTES.values(), IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
        )
    )
    return client


async def wait_for_server(port: int, process: subprocess.Popen[bytes] | None = None) -> bool:
    """Wait until it answers. False: its process has ended, as when somebody else was quicker to take the port."""
    deadline = time.monotonic() + START_S
    while process is None or process.poll() is None:
        with contextlib.suppress(Exception):
            client = await client_of(port)
            async for _ in client.list_workflows("GtBead = 'sh-1'", limit=1):
                pass
            return True
        assert time.monotonic() < deadline, "the Temporal server does not start"
        await asyncio.sleep(0.1)
    return False
