"""Whether each service of a town does its work, asked of the service itself.

`python -m services.supervisor.health [--town DIR] worker` says it by its exit code, for containers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError

from models.errors import GtError
from services import dolt
from services.supervisor.programs import DOLT, TEMPORAL, WORKER
from services.temporal.client import connect
from services.town import Town, find_town
from services.worker import readiness

_TIMEOUT_S = 3


def ailment(town: Town, program: str) -> str | None:
    """None when the service is healthy, else what is wrong in a few words."""
    checks = {TEMPORAL: _temporal, DOLT: dolt.ailment, WORKER: readiness.worker_ailment}
    return checks[program](town)


def _temporal(town: Town) -> str | None:
    return asyncio.run(_temporal_answers(town))


async def _temporal_answers(town: Town) -> str | None:
    timeout = timedelta(seconds=_TIMEOUT_S)
    try:
        client = await connect(town, timeout_s=_TIMEOUT_S)
        if not await client.service_client.check_health(timeout=timeout):
            return "answers that it is not serving"
        request = DescribeNamespaceRequest(namespace=client.namespace)
        await client.workflow_service.describe_namespace(request, timeout=timeout)
    except GtError as error:
        return error.message
    except RPCError as error:
        return f"namespace {town.file.temporal.namespace}: {error.message}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Exit 0 when a service of a town is healthy, 1 when it is not.")
    parser.add_argument("--town", type=Path)
    parser.add_argument("program", choices=(TEMPORAL, DOLT, WORKER))
    options = parser.parse_args()
    try:
        problem = ailment(find_town(options.town), options.program)
    except GtError as error:
        problem = error.message
    if problem is not None:
        sys.exit(f"{options.program} {problem}")


if __name__ == "__main__":
    main()
