"""An upgrade in place: the package is replaced on disk while the worker of the old one lives on."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from models import names
from tests.workflows.conftest import real_time
from workflows.upkeep.deadman import DeadmanWorkflow

ROOT = Path(__file__).parents[2]
PACKAGES = ("activities", "agents", "ledger", "models", "policies", "services", "workflows")
QUEUE = names.CONTROL_QUEUE


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The product in a folder of its own, as an installation has it."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "tests/services/replaced_worker.py", tmp_path)
    return tmp_path


@contextlib.contextmanager
def worker_of(package: Path, address: str) -> Iterator[None]:
    argv = [sys.executable, "replaced_worker.py", address, QUEUE]
    # What is installed comes after the script's own folder.
    process = subprocess.Popen(argv, cwd=package, env=os.environ | {"PYTHONPATH": str(package)})
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def pinged(env: WorkflowEnvironment, number: int) -> bool:
    return await env.client.execute_workflow(
        DeadmanWorkflow.run, id=f"ping-{number}", task_queue=QUEUE, execution_timeout=timedelta(minutes=4)
    )


async def test_a_living_worker_goes_on_with_the_code_that_it_was_started_with(package: Path) -> None:
    """Its models and policies are those in memory, so its workflows have to be of the same version."""
    async with real_time() as env:
        with worker_of(package, env.client.service_client.config.target_host):
            assert await pinged(env, 1) is True
            replaced = package / "workflows" / "upkeep" / "deadman.py"
            code = replaced.read_text()
            assert code.count("return await") == 1
            replaced.write_text(code.replace("return await", "return not await"))
            assert await pinged(env, 2) is True
        with worker_of(package, env.client.service_client.config.target_host):
            assert await pinged(env, 3) is False, "a new worker has the new code"
